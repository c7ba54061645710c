-- The first part of a statement that may be said twice. $2 what the call makes, $3 time; $4 method, $5 the caller's request id,
-- $6 fingerprint of the call, $7 its answer, $8 when that expires. The rest of the statement binds from $9 on.
--
-- With a no-op update in place of DO NOTHING, the second of two calls at once waits for the first and is told what that one
-- wrote: `request.resource_id` is $2 in the first alone, and only there the rest may do anything. A row past its time is taken
-- over as if it were not there.
WITH request AS (
    INSERT INTO requests AS known (tenant_id, method, request_id, fingerprint, resource_id, answer, expires_at)
    VALUES ($1, $4, $5, $6, $2, $7, $8)
    ON CONFLICT (tenant_id, method, request_id) DO UPDATE SET
        fingerprint = CASE WHEN known.expires_at <= $3 THEN excluded.fingerprint ELSE known.fingerprint END,
        resource_id = CASE WHEN known.expires_at <= $3 THEN excluded.resource_id ELSE known.resource_id END,
        answer = CASE WHEN known.expires_at <= $3 THEN excluded.answer ELSE known.answer END,
        expires_at = CASE WHEN known.expires_at <= $3 THEN excluded.expires_at ELSE known.expires_at END
    RETURNING fingerprint, resource_id, answer
),
-- Each call adds one row and takes away up to four that have expired, so they cannot pile up while there are calls.
-- SKIP LOCKED: calls of one tenant never wait for each other here. Its own row is not touched twice.
tidied AS (
    DELETE FROM requests
    WHERE tenant_id = $1 AND (method, request_id) IN (
        SELECT expired.method, expired.request_id
        FROM requests AS expired, request
        WHERE expired.tenant_id = $1 AND expired.expires_at <= $3
            AND (expired.method, expired.request_id) <> ($4, $5)
        ORDER BY expired.expires_at
        LIMIT 4
        FOR UPDATE OF expired SKIP LOCKED
    )
)
