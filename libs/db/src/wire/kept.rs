//! Statements that a connection keeps prepared.
//!
//! Only connections to tenants' own databases do: such a back end serves one home, so what it remembers is bounded by the
//! statements that the program has. Nothing that keeps tenants apart depends on it. PostgreSQL analyses a kept statement anew
//! where the search_path leads elsewhere or a table has changed, and looks at the role's rights at each use.

use std::borrow::Cow;
use std::collections::HashMap;
use std::iter;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

/// Statements that one connection keeps. crm with its audit log has two dozen; while homes of two versions are served, each may
/// have two variants: 48, and a third as many for those that are put together. One more is said without a name, which is only
/// slower.
pub(crate) const KEPT_MAX: usize = 64;

/// Of what a connection keeps, the part that is for statements that were put together while running, one in so many: there may be
/// thousands of those (filters, orders), and they must not take the places of those that stand in the program.
const COMPOSED_ONE_IN: usize = 4;

/// What a statement is kept by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Text {
    /// Borrowed where it stands in the program, owned where it was put together.
    sql: Cow<'static, str>,
    /// Types of `$2` and following.
    binds: Cow<'static, [Type]>,
}

/// How a statement is said this time.
pub(crate) enum Form {
    /// Without a name: nothing of it stays.
    Unnamed,
    /// Without a name, and behind it, in the same message, it is prepared for the next time.
    First(Text),
    /// By the name that it was prepared under.
    Kept(Text, tokio_postgres::Statement),
}

/// What one connection keeps.
pub(crate) struct Kept {
    /// None: nobody knows whether PostgreSQL has it, or it is of no more use.
    statements: HashMap<Text, Option<tokio_postgres::Statement>>,
    max: usize,
}

// === impl Text ===

impl Text {
    /// Of a statement as it stands in the program. `binds`: types of `$2` and following.
    pub(crate) const fn written(sql: &'static str, binds: &'static [Type]) -> Self {
        Self {
            sql: Cow::Borrowed(sql),
            binds: Cow::Borrowed(binds),
        }
    }

    /// Of one that was put together while running.
    pub(crate) fn composed(sql: &str, binds: impl Iterator<Item = Type>) -> Self {
        Self {
            sql: Cow::Owned(sql.to_owned()),
            binds: binds.collect(),
        }
    }

    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Types of all binds; `$1` is the tenant.
    pub(crate) fn types(&self) -> Vec<Type> {
        iter::once(Type::UUID).chain(self.binds.iter().cloned()).collect()
    }

    fn is_composed(&self) -> bool {
        matches!(self.sql, Cow::Owned(_))
    }
}

// === impl Kept ===

impl Kept {
    /// Keeps so many; with 0 none.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            statements: HashMap::new(),
            max,
        }
    }

    /// How to say a statement now. `text`: made only where something is kept, which is nowhere but in tenants' own databases.
    ///
    /// A first use that is dropped before its answer was read is not prepared again: PostgreSQL may have it by now, under a name
    /// that is lost, and would have one more after each such use.
    pub(crate) fn form(&mut self, text: impl FnOnce() -> Text) -> Form {
        if self.max == 0 {
            return Form::Unnamed;
        }
        let text = text();
        match self.statements.get(&text) {
            Some(Some(prepared)) => {
                let prepared = prepared.clone();
                Form::Kept(text, prepared)
            }
            None if self.has_room_for(&text) => {
                self.statements.insert(text.clone(), None);
                Form::First(text)
            }
            Some(None) | None => Form::Unnamed,
        }
    }

    fn has_room_for(&self, text: &Text) -> bool {
        let composed = || self.statements.keys().filter(|kept| kept.is_composed()).count();
        self.statements.len() < self.max && (!text.is_composed() || composed() < self.max / COMPOSED_ONE_IN)
    }

    /// The first use was answered. Where it was not prepared, PostgreSQL does not have it, and the next use is the first.
    ///
    /// What became of the transaction does not matter: a prepared statement is the session's, and stays after a ROLLBACK.
    pub(crate) fn answered(
        &mut self,
        text: Text,
        prepared: Result<Option<tokio_postgres::Statement>, Option<&SqlState>>,
    ) {
        match prepared {
            Ok(Some(prepared)) => {
                self.statements.insert(text, Some(prepared));
            }
            Err(Some(code)) if is_of_a_pooler(code) => self.end(code),
            Ok(None) | Err(_) => {
                self.statements.remove(&text);
            }
        }
    }

    /// A kept statement was refused. Where that was its plan, it goes without a name from now on.
    pub(crate) fn refused(&mut self, text: Text, code: Option<&SqlState>) {
        match code {
            Some(code) if is_of_a_pooler(code) => self.end(code),
            // A migration has changed the type of one of its columns.
            Some(code) if *code == SqlState::FEATURE_NOT_SUPPORTED => {
                self.statements.insert(text, None);
            }
            Some(_) | None => {}
        }
    }

    /// Keeps nothing from now on: each other statement would fail a call too.
    fn end(&mut self, code: &SqlState) {
        self.max = 0;
        self.statements.clear();
        tracing::error!(
            sqlstate = code.code(),
            "ROWHOUSE_DATA_KEEPS_STATEMENTS must be false behind a pooler that keeps no statements"
        );
    }
}

/// Whether it shows that what is called PostgreSQL is a pooler that does not keep statements, since names are given once in this
/// process. 42P05: another process has prepared something under this name. 26000: there is nothing under it.
fn is_of_a_pooler(code: &SqlState) -> bool {
    *code == SqlState::DUPLICATE_PSTATEMENT || *code == SqlState::INVALID_SQL_STATEMENT_NAME
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Text = Text::written("SELECT $1", &[]);
    const OTHER: Text = Text::written("SELECT $1, $2", &[Type::TEXT]);

    fn is_first(form: &Form) -> bool {
        matches!(form, Form::First(_))
    }

    fn is_unnamed(form: &Form) -> bool {
        matches!(form, Form::Unnamed)
    }

    #[test]
    fn no_more_statements_are_prepared_than_are_kept() {
        let mut kept = Kept::new(1);
        assert!(is_first(&kept.form(|| ONE)));
        assert!(is_unnamed(&kept.form(|| OTHER)));
        kept.answered(ONE, Err(None));
        assert!(is_first(&kept.form(|| OTHER)), "there is room again");
        assert!(is_unnamed(&Kept::new(0).form(|| ONE)));
    }

    #[test]
    fn a_first_use_without_an_answer_was_the_only_one() {
        let mut kept = Kept::new(2);
        assert!(is_first(&kept.form(|| ONE)));
        assert!(is_unnamed(&kept.form(|| ONE)));
        kept.answered(ONE, Err(Some(&SqlState::IN_FAILED_SQL_TRANSACTION)));
        assert!(
            is_first(&kept.form(|| ONE)),
            "PostgreSQL has said that it has not got it"
        );
    }

    #[test]
    fn nothing_is_kept_once_a_name_was_taken_or_lost() {
        for code in [SqlState::DUPLICATE_PSTATEMENT, SqlState::INVALID_SQL_STATEMENT_NAME] {
            let mut kept = Kept::new(2);
            assert!(is_first(&kept.form(|| ONE)));
            kept.answered(ONE, Err(Some(&code)));
            assert!(is_unnamed(&kept.form(|| ONE)) && is_unnamed(&kept.form(|| OTHER)));
            let mut kept = Kept::new(2);
            kept.refused(ONE, Some(&code));
            assert!(is_unnamed(&kept.form(|| ONE)) && is_unnamed(&kept.form(|| OTHER)));
        }
    }

    #[test]
    fn a_plan_that_is_of_no_more_use_ends_one_statement_only() {
        let mut kept = Kept::new(2);
        kept.refused(ONE, Some(&SqlState::FEATURE_NOT_SUPPORTED));
        assert!(is_unnamed(&kept.form(|| ONE)));
        assert!(is_first(&kept.form(|| OTHER)));
    }

    #[test]
    fn any_other_refusal_ends_no_statement() {
        let mut kept = Kept::new(1);
        kept.refused(ONE, Some(&SqlState::UNIQUE_VIOLATION));
        kept.refused(ONE, None);
        assert!(is_first(&kept.form(|| ONE)));
    }

    #[test]
    fn statements_that_were_put_together_leave_those_of_the_program_their_places() {
        let mut kept = Kept::new(8);
        let composed = |number: usize| Text::composed(&format!("SELECT $1, {number}"), [Type::TEXT].into_iter());
        let first = (0..20)
            .filter(|number| is_first(&kept.form(|| composed(*number))))
            .count();
        assert_eq!(first, 2, "one place in four");
        kept.answered(composed(0), Err(None));
        assert!(is_first(&kept.form(|| composed(20))), "there is room again");
        assert!(is_first(&kept.form(|| ONE)) && is_first(&kept.form(|| OTHER)));
    }

    #[test]
    fn who_keeps_nothing_makes_no_text() {
        assert!(is_unnamed(&Kept::new(0).form(|| panic!("nothing is kept"))));
    }

    #[test]
    fn one_text_with_other_types_is_another_statement() {
        let mut kept = Kept::new(2);
        let retyped = || Text::written("SELECT $1, $2", &[Type::INT4]);
        assert!(is_first(&kept.form(|| OTHER)) && is_first(&kept.form(retyped)));
        assert_eq!(retyped().types(), [Type::UUID, Type::INT4]);
    }
}
