SELECT id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at, deleted_at
FROM contacts
WHERE tenant_id = $1 AND id > $2 AND deleted_at IS NULL AND ($4::uuid[] IS NULL OR owner_id = ANY ($4))
ORDER BY id
LIMIT $3
