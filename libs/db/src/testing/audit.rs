//! The catalogue audit of a home: whether every wall of design and migrations stands.

use rowhouse_config::Secret;
use rowhouse_types::TenantId;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};

/// One rule: a query that lists what breaks it. `$1` is the home's schema, `$2` the tenant's uuid.
struct Rule {
    name: &'static str,
    of: Of,
    sql: &'static str,
}

/// Which homes a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// All of them.
    Every,
    /// Those in a house of their own: placements `schema` and `database`.
    Own,
    /// Those in a shared house.
    Shared,
}

const RULES: &[Rule] = &[
    Rule {
        name: "the schema belongs to rowhouse_owner",
        of: Of::Every,
        sql: "SELECT nspname::text FROM pg_namespace
              WHERE nspname = $1 AND nspowner <> 'rowhouse_owner'::regrole AND $2::text IS NOT NULL",
    },
    Rule {
        name: "the schema exists",
        of: Of::Every,
        sql: "SELECT $1::text WHERE to_regnamespace($1) IS NULL AND $2::text IS NOT NULL",
    },
    Rule {
        name: "only the owner and rowhouse_tenant have rights to the schema, the latter USAGE only",
        of: Of::Every,
        sql: "SELECT grantee::regrole::text || ' ' || privilege_type
              FROM pg_namespace, aclexplode(nspacl)
              WHERE nspname = $1 AND $2::text IS NOT NULL AND grantee <> nspowner
                  AND NOT (grantee = 'rowhouse_tenant'::regrole AND privilege_type = 'USAGE' AND NOT is_grantable)",
    },
    Rule {
        name: "everything in the home belongs to rowhouse_owner",
        of: Of::Every,
        sql: "SELECT relname::text FROM pg_class
              WHERE relnamespace = to_regnamespace($1) AND relowner <> 'rowhouse_owner'::regrole AND $2::text IS NOT NULL",
    },
    Rule {
        name: "there are tables, and nothing but tables and their indexes and sequences",
        of: Of::Every,
        sql: "SELECT relname::text FROM pg_class
              WHERE relnamespace = to_regnamespace($1) AND relkind NOT IN ('r', 'i', 'S', 't') AND $2::text IS NOT NULL
              UNION ALL
              SELECT 'no table' WHERE NOT EXISTS (
                  SELECT FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind = 'r')",
    },
    Rule {
        name: "no function of the home runs as its definer",
        of: Of::Every,
        sql: "SELECT proname::text FROM pg_proc
              WHERE pronamespace = to_regnamespace($1) AND prosecdef AND $2::text IS NOT NULL",
    },
    Rule {
        name: "every table has tenant_id uuid NOT NULL",
        of: Of::Every,
        sql: "SELECT relname::text FROM pg_class AS class
              WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND $2::text IS NOT NULL AND NOT EXISTS (
                  SELECT FROM pg_attribute WHERE attrelid = class.oid AND attname = 'tenant_id'
                      AND atttypid = 'uuid'::regtype AND attnotnull AND NOT attisdropped)",
    },
    Rule {
        name: "every table has the CHECK of the house's number, validated",
        of: Of::Own,
        sql: "SELECT relname::text FROM pg_class AS class
              WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND NOT EXISTS (
                  SELECT FROM pg_constraint WHERE conrelid = class.oid AND contype = 'c' AND convalidated
                      AND conname = class.relname || '_house'
                      AND pg_get_constraintdef(oid) = format('CHECK ((tenant_id = %L::uuid))', $2))",
    },
    Rule {
        name: "every table has a primary key",
        of: Of::Every,
        sql: "SELECT relname::text FROM pg_class AS class
              WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND $2::text IS NOT NULL AND NOT EXISTS (
                  SELECT FROM pg_constraint WHERE conrelid = class.oid AND contype = 'p')",
    },
    Rule {
        name: "keys, unique indexes and b-trees begin with tenant_id, and are valid",
        of: Of::Every,
        sql: "SELECT part.relname::text
              FROM pg_index
              JOIN pg_class AS part ON part.oid = indexrelid
              JOIN pg_am ON pg_am.oid = part.relam
              LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
              WHERE part.relnamespace = to_regnamespace($1) AND $2::text IS NOT NULL
                  AND (NOT indisvalid OR ((indisunique OR amname = 'btree') AND attname IS DISTINCT FROM 'tenant_id'))",
    },
    Rule {
        name: "foreign keys stay in the home and begin with tenant_id",
        of: Of::Every,
        sql: "SELECT conname::text
              FROM pg_constraint
              JOIN pg_class AS other ON other.oid = confrelid
              JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
              WHERE connamespace = to_regnamespace($1) AND contype = 'f' AND $2::text IS NOT NULL
                  AND (other.relnamespace <> connamespace OR attname <> 'tenant_id')",
    },
    Rule {
        name: "only rowhouse_tenant has rights to tables, SELECT, INSERT, UPDATE and DELETE at most",
        of: Of::Every,
        sql: "SELECT relname || ' ' || grantee::regrole::text || ' ' || privilege_type
              FROM pg_class, aclexplode(relacl)
              WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND $2::text IS NOT NULL AND grantee <> relowner
                  AND NOT (grantee = 'rowhouse_tenant'::regrole AND NOT is_grantable
                      AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))",
    },
    Rule {
        name: "what is written for the audit is never changed",
        of: Of::Every,
        sql: "SELECT relname || ' ' || privilege_type
              FROM pg_class, aclexplode(relacl)
              WHERE relnamespace = to_regnamespace($1) AND relname LIKE 'audit%' AND relkind = 'r' AND $2::text IS NOT NULL
                  AND grantee <> relowner AND privilege_type NOT IN ('SELECT', 'INSERT')",
    },
    Rule {
        name: "no table uses row-level security, which keeps indexes from being used",
        of: Of::Own,
        sql: "SELECT relname::text FROM pg_class
              WHERE relnamespace = to_regnamespace($1) AND relrowsecurity AND $2::text IS NOT NULL",
    },
    Rule {
        name: "every table of a shared house enables and forces row-level security",
        of: Of::Shared,
        sql: "SELECT relname::text FROM pg_class
              WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND $2::text IS NOT NULL
                  AND NOT (relrowsecurity AND relforcerowsecurity)",
    },
    Rule {
        name: "every table of a shared house has the one policy, for every role and command",
        of: Of::Shared,
        sql: "SELECT class.relname::text FROM pg_class AS class
              WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND $2::text IS NOT NULL
                  AND ARRAY[true] IS DISTINCT FROM (
                      SELECT array_agg(polname = class.relname || '_house' AND polpermissive AND polcmd = '*'
                          AND polroles = ARRAY[0]::oid[]
                          AND pg_get_expr(polqual, polrelid) = wanted
                          AND pg_get_expr(polwithcheck, polrelid) = wanted)
                      FROM pg_policy, (VALUES ($policy$(tenant_id = (NULLIF(current_setting('rowhouse.tenant_id'::text, true), ''::text))::uuid)$policy$)) AS policy (wanted)
                      WHERE polrelid = class.oid)",
    },
    Rule {
        name: "no enum, composite or domain types: drivers remember their numbers by name",
        of: Of::Every,
        sql: "SELECT typname::text FROM pg_type
              WHERE typnamespace = to_regnamespace($1) AND $2::text IS NOT NULL
                  AND (typtype IN ('e', 'd', 'r') OR (typtype = 'c' AND NOT EXISTS (
                      SELECT FROM pg_class WHERE pg_class.oid = typrelid AND relkind <> 'c')))",
    },
    Rule {
        name: "nobody but the owner reads the registry of homes",
        of: Of::Every,
        sql: "SELECT relname || ' ' || grantee::regrole::text || ' ' || privilege_type
              FROM pg_class, aclexplode(relacl)
              WHERE relnamespace = 'rowhouse'::regnamespace AND relname IN ('homes', 'houses', 'pooled_logins')
                  AND grantee <> relowner
                  AND $1::text IS NOT NULL AND $2::text IS NOT NULL",
    },
    Rule {
        name: "only rowhouse_app enters, and the login of a tenant's own database; the pooler asks for that login",
        of: Of::Every,
        sql: "SELECT proname || ' ' || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
              FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
              WHERE pronamespace = 'rowhouse'::regnamespace AND grantee <> proowner
                  AND grantee <> 'rowhouse_app'::regrole
                  AND NOT (grantee = 'rowhouse_pooler'::regrole AND proname = 'pooled_login')
                  AND NOT (grantee <> 0 AND pg_get_userbyid(grantee) = current_database() AND current_database() = $1
                      AND has_function_privilege('rowhouse_app', pg_proc.oid, 'EXECUTE'))
                  AND $1::text IS NOT NULL AND $2::text IS NOT NULL",
    },
    Rule {
        name: "PUBLIC may make no temporary tables and no schemas",
        of: Of::Every,
        sql: "SELECT privilege FROM unnest(ARRAY['TEMPORARY', 'CREATE']) AS privilege
              WHERE has_database_privilege('rowhouse_app', current_database(), privilege)
                  AND $1::text IS NOT NULL AND $2::text IS NOT NULL",
    },
];

/// The home as lines that do not name it, so that two homes can be compared.
const PICTURE: &str = "
    SELECT line FROM (
        SELECT format('column %s.%s %s %s default %s generated %s', relname, attname, format_type(atttypid, atttypmod),
            attnotnull, coalesce(pg_get_expr(adbin, adrelid), '-'), attgenerated) AS line
        FROM pg_class
        JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = to_regnamespace($1) AND relkind = 'r'
        UNION ALL
        SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE connamespace = to_regnamespace($1)
        UNION ALL
        SELECT format('index %s', pg_get_indexdef(indexrelid))
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = to_regnamespace($1)
        UNION ALL
        SELECT format('right %s %s %s', relname, grantee::regrole, privilege_type)
        FROM pg_class, aclexplode(relacl) WHERE relnamespace = to_regnamespace($1)
        UNION ALL
        SELECT format('security %s %s %s', relname, relrowsecurity, relforcerowsecurity)
        FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind = 'r'
        UNION ALL
        SELECT format('trigger %s', pg_get_triggerdef(pg_trigger.oid))
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = to_regnamespace($1) AND NOT tgisinternal
    ) AS picture ORDER BY line";

/// A home as the registry names it.
struct Place {
    participant: String,
    schema: String,
    shared: bool,
}

/// Audits a tenant's homes in this database.
///
/// `url`: a direct URL of the owner or a superuser. `template`: another tenant with the same placement, whose homes must look
/// the same.
///
/// Returns what is wrong, a line each.
///
/// # Errors
/// When the server does not answer.
pub async fn audit_home(
    url: &Secret,
    tenant: TenantId,
    template: Option<TenantId>,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url.expose(), NoTls).await?;
    let audited = async move {
        let places = places(&client, tenant).await?;
        let mut violations = Vec::new();
        if places.is_empty() {
            violations.push("the tenant has no home here".to_owned());
        }
        for place in &places {
            violations.extend(broken_rules(&client, tenant, place).await?);
        }
        if let Some(template) = template {
            violations.extend(differences(&client, tenant, template).await?);
        }
        Ok(violations)
    };
    // The connection ends when the client, which the audit owns, is dropped.
    let (audited, _) = futures_util::future::join(audited, connection).await;
    audited
}

async fn places(client: &Client, tenant: TenantId) -> Result<Vec<Place>, tokio_postgres::Error> {
    let sql = "SELECT home.participant, house.schema_name, house.placement = 'shared'
               FROM rowhouse.homes AS home JOIN rowhouse.houses AS house ON house.house_id = home.house_id
               WHERE home.tenant_id = $1 ORDER BY home.participant";
    let rows = client.query_typed(sql, &[(&tenant.uuid(), Type::UUID)]).await?;
    rows.iter()
        .map(|row| {
            Ok(Place {
                participant: row.try_get(0)?,
                schema: row.try_get(1)?,
                shared: row.try_get(2)?,
            })
        })
        .collect()
}

async fn broken_rules(client: &Client, tenant: TenantId, place: &Place) -> Result<Vec<String>, tokio_postgres::Error> {
    let number = tenant.uuid().to_string();
    let not_for = if place.shared { Of::Own } else { Of::Shared };
    let mut violations = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.of != not_for) {
        let rows = client
            .query_typed(rule.sql, &[(&place.schema, Type::TEXT), (&number, Type::TEXT)])
            .await?;
        for row in rows {
            violations.push(format!("{}: {}", rule.name, row.try_get::<_, String>(0)?));
        }
    }
    Ok(violations)
}

async fn differences(
    client: &Client,
    tenant: TenantId,
    template: TenantId,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let (one, other) = (picture(client, tenant).await?, picture(client, template).await?);
    let missing = other.iter().filter(|line| !one.contains(line));
    let surplus = one.iter().filter(|line| !other.contains(line));
    Ok(missing
        .map(|line| format!("the template has it, the home not: {line}"))
        .chain(surplus.map(|line| format!("the home has it, the template not: {line}")))
        .collect())
}

async fn picture(client: &Client, tenant: TenantId) -> Result<Vec<String>, tokio_postgres::Error> {
    let number = tenant.uuid().to_string();
    let mut lines = Vec::new();
    for place in places(client, tenant).await? {
        let rows = client.query_typed(PICTURE, &[(&place.schema, Type::TEXT)]).await?;
        for row in rows {
            let line: String = row.try_get(0)?;
            let line = line.replace(&place.schema, "HOME").replace(&number, "TENANT");
            lines.push(format!("{}: {line}", place.participant));
        }
    }
    Ok(lines)
}
