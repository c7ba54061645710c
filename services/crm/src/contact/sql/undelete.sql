-- $2 contact, $3 time, $4 revision that the caller knows; $5 audit entry, $6 event, $7 actor, $8 on behalf of,
-- $9 reason, $10 address, $11 request id of the call, $12 trace, $13 the contact's id as the API writes it,
-- $14 the owners that the caller reaches, NULL for all.
--
-- FOR UPDATE reads the newest version of the row, not the snapshot's, and holds it: its revision is the one to compare.
WITH found AS (
    SELECT
        id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at, deleted_at
    FROM contacts
    WHERE tenant_id = $1 AND id = $2
        AND ($14::uuid[] IS NULL OR owner_id = ANY ($14))
    FOR UPDATE
),
changed AS (
    UPDATE contacts AS contact SET
        deleted_at = NULL,
        revision = contact.revision + 1,
        updated_at = greatest(contact.updated_at, $3)
    FROM found
    WHERE contact.tenant_id = $1 AND contact.id = found.id AND found.revision = coalesce($4, found.revision)
        AND found.deleted_at IS NOT NULL
    RETURNING
        contact.id, contact.display_name, contact.email, contact.phone, contact.company, contact.job_title,
        contact.owner_id, contact.revision, contact.created_at, contact.updated_at, contact.deleted_at
),
audit AS (
    INSERT INTO audit_entries (
        tenant_id, id, at, actor, on_behalf_of, reason, address, request_id, action, target, before, after, outcome
    )
    SELECT
        $1, $5, $3, $7, $8, $9, $10, $11, 'contacts:undelete', changed.id, to_jsonb(found), to_jsonb(changed), 'succeeded'
    FROM changed
    JOIN found ON found.id = changed.id
),
event AS (
    INSERT INTO rowhouse.outbox (tenant_id, id, kind, payload, request_id, traceparent)
    SELECT $1, $6, 'crm.contact_undeleted.v1', jsonb_build_object('contact_id', $13::text), $11, $12
    FROM changed
)
-- What is there now, and whether this call changed it.
SELECT
    TRUE AS is_changed,
    id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at, deleted_at
FROM changed
UNION ALL
SELECT
    FALSE AS is_changed,
    id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at, deleted_at
FROM found
WHERE NOT EXISTS (SELECT FROM changed)
