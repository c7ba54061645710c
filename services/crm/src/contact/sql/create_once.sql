-- As create.sql, for a call with a request id. $19 method, $20 the caller's request id, $21 fingerprint of the call,
-- $22 its answer, $23 when that expires.
--
-- The first part decides: with a no-op update in place of DO NOTHING, the second of two calls at once waits for the
-- first and is told what that one wrote. The rest runs only where the contact is the one of this call. A row past its
-- time is taken over as if it were not there.
WITH request AS (
    INSERT INTO requests AS known (tenant_id, method, request_id, fingerprint, resource_id, answer, expires_at)
    VALUES ($1, $19, $20, $21, $2, $22, $23)
    ON CONFLICT (tenant_id, method, request_id) DO UPDATE SET
        fingerprint = CASE WHEN known.expires_at <= $3 THEN excluded.fingerprint ELSE known.fingerprint END,
        resource_id = CASE WHEN known.expires_at <= $3 THEN excluded.resource_id ELSE known.resource_id END,
        answer = CASE WHEN known.expires_at <= $3 THEN excluded.answer ELSE known.answer END,
        expires_at = CASE WHEN known.expires_at <= $3 THEN excluded.expires_at ELSE known.expires_at END
    RETURNING fingerprint, resource_id, answer
),
created AS (
    INSERT INTO contacts (
        tenant_id, id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at
    )
    SELECT $1, $2, $4, $5, $6, $7, $8, $9, 1, $3, $3
    FROM request
    WHERE request.resource_id = $2
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
),
-- Each create adds one row and takes away up to four that have expired, so they cannot pile up while there are
-- creates. SKIP LOCKED: creates of one tenant never wait for each other here. Its own row is not touched twice.
tidied AS (
    DELETE FROM requests
    WHERE tenant_id = $1 AND (method, request_id) IN (
        SELECT expired.method, expired.request_id
        FROM requests AS expired, request
        WHERE expired.tenant_id = $1 AND expired.expires_at <= $3
            AND (expired.method, expired.request_id) <> ($19, $20)
        ORDER BY expired.expires_at
        LIMIT 4
        FOR UPDATE OF expired SKIP LOCKED
    )
)
SELECT fingerprint, resource_id, answer FROM request
