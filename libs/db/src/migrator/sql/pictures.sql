-- Houses as lines: what their tables, keys, indexes, rights, walls, triggers and functions are. $1: their schemas.
--
-- Rights that nobody has changed are NULL in the catalogue, so the defaults stand in for them: given back by hand they are the
-- same again. Roles are named as they are. All houses are owned by one role and entered by one; the login of a database of a
-- tenant's own is named like the house, and has no right to anything in it.
WITH house AS (
    SELECT oid, nspname, nspowner, nspacl FROM pg_catalog.pg_namespace WHERE nspname = ANY ($1)
),
class AS (
    SELECT pg_class.*, house.nspname AS house
    FROM pg_catalog.pg_class JOIN house ON pg_class.relnamespace = house.oid
)
SELECT house AS schema, format('column %s.%s %s not null %s default %s generated %s identity %s collation %s', relname, attname,
    format_type(atttypid, atttypmod), attnotnull, coalesce(pg_get_expr(adbin, adrelid), '-'), attgenerated, attidentity,
    attcollation::regcollation) AS line
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
SELECT nspname, format('schema of %s', nspowner::regrole) FROM house
UNION ALL
SELECT nspname, format('right to the schema %s %s grantable %s', grantee::regrole, privilege_type, is_grantable)
FROM house, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
UNION ALL
SELECT house, format('right %s %s %s grantable %s', relname, grantee::regrole, privilege_type, is_grantable)
FROM class, aclexplode(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)))
WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
UNION ALL
SELECT house, format('right %s.%s %s %s grantable %s', relname, attname, grantee::regrole, privilege_type, is_grantable)
FROM class
JOIN pg_catalog.pg_attribute ON attrelid = class.oid AND NOT attisdropped
CROSS JOIN aclexplode(attacl)
UNION ALL
SELECT nspname, format('right to function %s(%s) %s %s grantable %s', proname,
    pg_get_function_identity_arguments(pg_proc.oid), grantee::regrole, privilege_type, is_grantable)
FROM pg_catalog.pg_proc JOIN house ON pronamespace = house.oid
CROSS JOIN aclexplode(coalesce(proacl, acldefault('f', proowner)))
UNION ALL
SELECT house, format('relation %s %s of %s persistence %s options %s', relname, relkind, relowner::regrole, relpersistence,
    coalesce(reloptions::text, '-'))
FROM class WHERE relkind <> 't'
UNION ALL
SELECT house, format('security %s %s %s', relname, relrowsecurity, relforcerowsecurity)
FROM class WHERE relkind = 'r'
UNION ALL
SELECT house, format('policy %s %s permissive %s %s %s using %s check %s', relname, polname, polpermissive, polcmd,
    polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
FROM class JOIN pg_catalog.pg_policy ON polrelid = class.oid
UNION ALL
SELECT house, format('trigger %s enabled %s', pg_get_triggerdef(pg_trigger.oid), tgenabled)
FROM class JOIN pg_catalog.pg_trigger ON tgrelid = class.oid
WHERE NOT tgisinternal
UNION ALL
-- Those that keep a foreign key have names of their own in every house, and are enabled in all that nobody has touched.
SELECT house, format('trigger of constraint %s on %s by %s enabled %s', conname, relname, tgfoid::regproc, tgenabled)
FROM class JOIN pg_catalog.pg_trigger ON tgrelid = class.oid
LEFT JOIN pg_catalog.pg_constraint ON pg_constraint.oid = tgconstraint
WHERE tgisinternal AND tgenabled <> 'O'
UNION ALL
SELECT house, format('rule %s enabled %s', pg_get_ruledef(pg_rewrite.oid), ev_enabled)
FROM class JOIN pg_catalog.pg_rewrite ON ev_class = class.oid
UNION ALL
-- PostgreSQL does not write an aggregate out.
SELECT nspname, format('function %s(%s) of %s %s', proname, pg_get_function_identity_arguments(pg_proc.oid), proowner::regrole,
    CASE WHEN prokind = 'a' THEN 'aggregate' ELSE md5(replace(pg_get_functiondef(pg_proc.oid), nspname, '')) END)
FROM pg_catalog.pg_proc JOIN house ON pronamespace = house.oid
