-- Follows request/sql/claim.sql, or the part that stands for it where the call has no request id. $2 contact, $3 time;
-- $4-$8 the request; $9-$13 details, $14 owner; $15 audit entry, $16 event, $17 actor, $18 on behalf of, $19 reason, $20 address,
-- $21 request id of the call, $22 trace, $23 the contact's id as the API writes it.
created AS (
    INSERT INTO contacts (
        tenant_id, id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at
    )
    SELECT $1, $2, $9, $10, $11, $12, $13, $14, 1, $3, $3
    FROM request
    WHERE request.resource_id = $2
    RETURNING
        id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at, deleted_at
),
audit AS (
    INSERT INTO audit_entries (
        tenant_id, id, at, actor, on_behalf_of, reason, address, request_id, action, target, after, outcome
    )
    SELECT $1, $15, $3, $17, $18, $19, $20, $21, 'contacts:create', created.id, to_jsonb(created), 'succeeded'
    FROM created
),
event AS (
    INSERT INTO rowhouse.outbox (tenant_id, id, kind, payload, request_id, traceparent)
    SELECT $1, $16, 'crm.contact_created.v1', jsonb_build_object('contact_id', $23::text), $21, $22
    FROM created
)
SELECT fingerprint, resource_id, answer FROM request
