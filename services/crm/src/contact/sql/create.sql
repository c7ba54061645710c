-- $2 contact, $3 time, $4-$8 details, $9 owner; $10 audit entry, $11 event, $12 actor, $13 on behalf of, $14 reason,
-- $15 address, $16 request id of the call, $17 trace, $18 the contact's id as the API writes it.
WITH created AS (
    INSERT INTO contacts (
        tenant_id, id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at
    )
    VALUES ($1, $2, $4, $5, $6, $7, $8, $9, 1, $3, $3)
    RETURNING
        id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at, deleted_at
),
audit AS (
    INSERT INTO audit_entries (
        tenant_id, id, at, actor, on_behalf_of, reason, address, request_id, action, target, after, outcome
    )
    SELECT $1, $10, $3, $12, $13, $14, $15, $16, 'contacts:create', created.id, to_jsonb(created), 'succeeded'
    FROM created
),
event AS (
    INSERT INTO rowhouse.outbox (tenant_id, id, kind, payload, request_id, traceparent)
    SELECT $1, $11, 'crm.contact_created.v1', jsonb_build_object('contact_id', $18::text), $16, $17
    FROM created
)
SELECT id FROM created
