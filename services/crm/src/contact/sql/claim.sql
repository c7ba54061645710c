-- $2 method, $3 the caller's request id, $4 fingerprint of the call, $5 what marks this call as the one that the row is about,
-- $6 time, $7 when the row expires.
--
-- As the first part of create_once.sql: with a no-op update in place of DO NOTHING, the second of two calls at once waits for
-- the first and is told what that one wrote. The answer is not known yet; `remember` writes it in the same transaction.
WITH request AS (
    INSERT INTO requests AS known (tenant_id, method, request_id, fingerprint, resource_id, answer, expires_at)
    VALUES ($1, $2, $3, $4, $5, 'null', $7)
    ON CONFLICT (tenant_id, method, request_id) DO UPDATE SET
        fingerprint = CASE WHEN known.expires_at <= $6 THEN excluded.fingerprint ELSE known.fingerprint END,
        resource_id = CASE WHEN known.expires_at <= $6 THEN excluded.resource_id ELSE known.resource_id END,
        answer = CASE WHEN known.expires_at <= $6 THEN excluded.answer ELSE known.answer END,
        expires_at = CASE WHEN known.expires_at <= $6 THEN excluded.expires_at ELSE known.expires_at END
    RETURNING fingerprint, resource_id, answer
),
-- Up to four that have expired, as create_once.sql takes them away.
tidied AS (
    DELETE FROM requests
    WHERE tenant_id = $1 AND (method, request_id) IN (
        SELECT expired.method, expired.request_id
        FROM requests AS expired, request
        WHERE expired.tenant_id = $1 AND expired.expires_at <= $6
            AND (expired.method, expired.request_id) <> ($2, $3)
        ORDER BY expired.expires_at
        LIMIT 4
        FOR UPDATE OF expired SKIP LOCKED
    )
)
SELECT resource_id = $5 AS is_ours, fingerprint, answer FROM request
