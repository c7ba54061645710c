-- $2 contacts, $3 time; for each contact, in the same order: $4 audit entry, $5 event; $6 actor, $7 on behalf of, $8 reason,
-- $9 address, $10 request id of the call, $11 trace; $12 the contacts' ids as the API writes them; $13 the new owner.
--
-- What update.sql does to one contact, for many. The statement before this one has locked them and looked at whose they are,
-- so `found` reads their newest versions, and nobody changes them in between.
WITH given AS (
    SELECT id, entry, event, name
    FROM unnest($2::uuid[], $4::uuid[], $5::uuid[], $12::text[]) AS given (id, entry, event, name)
),
found AS (
    SELECT
        id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at, deleted_at
    FROM contacts
    WHERE tenant_id = $1 AND id = ANY ($2)
),
changed AS (
    UPDATE contacts AS contact SET
        owner_id = $13,
        revision = contact.revision + 1,
        updated_at = greatest(contact.updated_at, $3)
    FROM found
    WHERE contact.tenant_id = $1 AND contact.id = found.id
    RETURNING
        contact.id, contact.display_name, contact.email, contact.phone, contact.company, contact.job_title,
        contact.owner_id, contact.revision, contact.created_at, contact.updated_at, contact.deleted_at
),
audit AS (
    INSERT INTO audit_entries (
        tenant_id, id, at, actor, on_behalf_of, reason, address, request_id, action, target, before, after, outcome
    )
    SELECT
        $1, given.entry, $3, $6, $7, $8, $9, $10, 'contacts:update', changed.id, to_jsonb(found), to_jsonb(changed),
        'succeeded'
    FROM changed
    JOIN found ON found.id = changed.id
    JOIN given ON given.id = changed.id
),
event AS (
    INSERT INTO rowhouse.outbox (tenant_id, id, kind, payload, request_id, traceparent)
    SELECT $1, given.event, 'crm.contact_updated.v1', jsonb_build_object('contact_id', given.name), $10, $11
    FROM changed
    JOIN given ON given.id = changed.id
)
SELECT count(*) AS total FROM changed
