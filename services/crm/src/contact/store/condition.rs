//! Which contacts a statement is about, as SQL, put together from fixed pieces and binds.

use rowhouse_context::Reach;
use rowhouse_db::Sql;

use super::owners;
use crate::contact::filter::{Expression, Filter, Operator, TextField, TimeField};

/// That a row is within reach, and as the filter wants it: no filter lets go of the reach.
pub(super) fn matching<R>(sql: Sql<R>, reach: &Reach, filter: &Filter) -> Sql<R> {
    let sql = within(sql, reach);
    match &filter.expression {
        Some(expression) => condition(sql.push(" AND "), expression),
        None => sql,
    }
}

/// That a row's owner is within reach. One owner is compared and not looked up in a list, so that the index of owners
/// gives the rows in order of their creation.
fn within<R>(sql: Sql<R>, reach: &Reach) -> Sql<R> {
    let Some(owners) = owners(reach) else {
        return sql;
    };
    match owners.as_slice() {
        [owner] => sql.push(" AND owner_id = ").bind(*owner),
        _ => sql.push(" AND owner_id = ANY (").bind(owners).push(")"),
    }
}

/// That a row is as a filter wants it.
fn condition<R>(sql: Sql<R>, expression: &Expression) -> Sql<R> {
    match expression {
        Expression::And(parts) => joined(sql, parts, " AND "),
        Expression::Or(parts) => joined(sql, parts, " OR "),
        Expression::Not(inner) => condition(sql.push("NOT ("), inner).push(")"),
        Expression::Text { field, operator, value } => {
            let sql = sql.push(text_column(*field)).push(sign(*operator));
            sql.push("lower(").bind(value.clone()).push(")")
        }
        Expression::Prefix { field, negated, prefix } => {
            let like = if *negated { " NOT LIKE " } else { " LIKE " };
            let pattern = format!("{}%", escape_like(prefix));
            sql.push(text_column(*field))
                .push(like)
                .push("lower(")
                .bind(pattern)
                .push(")")
        }
        Expression::Time { field, operator, value } => {
            let column = match field {
                TimeField::CreateTime => "created_at",
                TimeField::UpdateTime => "updated_at",
            };
            sql.push(column).push(sign(*operator)).bind(*value)
        }
    }
}

fn joined<R>(sql: Sql<R>, parts: &[Expression], word: &'static str) -> Sql<R> {
    let mut sql = sql.push("(");
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            sql = sql.push(word);
        }
        sql = condition(sql, part);
    }
    sql.push(")")
}

fn text_column(field: TextField) -> &'static str {
    match field {
        TextField::Email => "email_key",
        TextField::DisplayName => "name_key",
    }
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Equal => " = ",
        Operator::NotEqual => " <> ",
        Operator::Less => " < ",
        Operator::LessOrEqual => " <= ",
        Operator::Greater => " > ",
        Operator::GreaterOrEqual => " >= ",
    }
}

/// Text in which LIKE sees no wildcard.
fn escape_like(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_of_like_are_escaped() {
        assert_eq!(escape_like(r"50%_\x*"), r"50\%\_\\x*");
    }
}
