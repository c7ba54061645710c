-- Houses as lines: what their tables, keys, indexes, rights, walls and triggers are. $1: their schemas.
WITH house AS (
    SELECT oid, nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY ($1)
),
class AS (
    SELECT pg_class.*, house.nspname AS house
    FROM pg_catalog.pg_class JOIN house ON pg_class.relnamespace = house.oid
)
SELECT house AS schema, format('column %s.%s %s not null %s default %s generated %s', relname, attname,
    format_type(atttypid, atttypmod), attnotnull, coalesce(pg_get_expr(adbin, adrelid), '-'), attgenerated) AS line
FROM class
JOIN pg_catalog.pg_attribute ON attrelid = class.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_catalog.pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relkind = 'r'
UNION ALL
SELECT nspname, format('constraint %s %s', conname, pg_get_constraintdef(pg_constraint.oid))
FROM pg_catalog.pg_constraint JOIN house ON connamespace = house.oid
UNION ALL
SELECT house, format('index %s valid %s', pg_get_indexdef(indexrelid), indisvalid)
FROM class JOIN pg_catalog.pg_index ON indexrelid = class.oid
UNION ALL
SELECT house, format('right %s %s %s', relname, grantee::regrole, privilege_type)
FROM class, aclexplode(relacl)
UNION ALL
SELECT house, format('relation %s %s of %s', relname, relkind, relowner::regrole) FROM class WHERE relkind <> 't'
UNION ALL
SELECT house, format('security %s %s %s', relname, relrowsecurity, relforcerowsecurity)
FROM class WHERE relkind = 'r'
UNION ALL
SELECT house, format('policy %s %s %s %s using %s check %s', relname, polname, polcmd, polroles::regrole[],
    pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
FROM class JOIN pg_catalog.pg_policy ON polrelid = class.oid
UNION ALL
SELECT house, format('trigger %s', pg_get_triggerdef(pg_trigger.oid))
FROM class JOIN pg_catalog.pg_trigger ON tgrelid = class.oid
WHERE NOT tgisinternal
UNION ALL
SELECT nspname, format('function %s %s', proname, md5(replace(pg_get_functiondef(pg_proc.oid), nspname, '')))
FROM pg_catalog.pg_proc JOIN house ON pronamespace = house.oid
