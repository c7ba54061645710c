//! One exchange with the server: several messages put on the wire together, all their answers read.

use futures_util::TryStreamExt as _;
use futures_util::future::join4;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use crate::Error;
use crate::bind::Wire;
use crate::error::SLOTS_TAKEN;
use crate::row::Row;
use crate::wire::Connection;
use crate::wire::back_end::BackEnd;
use crate::wire::kept::{Form, Text};

/// A statement with its binds, `$1` first.
pub(super) struct Spoken<'a> {
    pub(super) name: &'static str,
    pub(super) sql: &'a str,
    /// None for one that was put together while running.
    pub(super) written: Option<Text>,
    pub(super) binds: Vec<(Wire<'a>, Type)>,
}

/// What the statement answered.
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    pub(super) affected: u64,
}

/// What an exchange came to.
pub(super) struct Exchanged {
    pub(super) answer: Result<Answer, Error>,
    /// Set where the error is `rowhouse.enter`'s or BEGIN's: the statement has not run.
    pub(super) refusal: Option<Refusal>,
    /// Whether COMMIT was sent and answered, so that the connection is idle or at its end, whatever became of the transaction.
    pub(super) idle: bool,
}

/// Why a transaction did not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// All slots of the tenant are taken. A lock that was not to be had in time is another matter, though both are
    /// [`Error::Busy`]: that one has been waited for.
    SlotsTaken,
    /// Something else, which the answer says.
    Other,
}

/// Sends BEGIN and enter (where given), the statement, and COMMIT (where asked), without waiting in between, and reads
/// every answer.
///
/// COMMIT of a failed transaction is answered like a success, with another tag that the driver does not show. That tag
/// comes only where an earlier message of the same transaction got an error, and each of those is read here or was read
/// before; so an earlier error decides, and rows count only when the last answer is there.
///
/// A statement that the connection is to keep is prepared behind its first use: inside the transaction, so in the home, and
/// without a round trip of its own.
///
/// Where the back end counts what it has met, its answer to the first message says how to commit. So COMMIT waits for it, even
/// where the first statement is the last: a round trip more, for pages and jobs.
pub(super) async fn exchange(
    connection: &mut Connection,
    begin: Option<&str>,
    spoken: &Spoken<'_>,
    commit: bool,
) -> Exchanged {
    let form = connection.kept.form(|| spoken.text());
    let (client, back_end) = (&connection.client, &connection.back_end);
    let commits_later = commit && begin.is_some() && back_end.counts();
    // `join4` polls in this order, and a message is queued when its future is first polled.
    let (begun, spoke, prepared, committed) = join4(
        enter(client, back_end, begin),
        speak(client, spoken, &form),
        prepare(client, &form),
        control(client, (commit && !commits_later).then(|| back_end.commit())),
    )
    .await;
    match (form, &spoke) {
        (Form::First(text), _) => connection.kept.answered(
            text,
            prepared.as_ref().map(Clone::clone).map_err(tokio_postgres::Error::code),
        ),
        (Form::Kept(text, _), Err(error)) => connection.kept.refused(text, error.code()),
        (Form::Kept(..), Ok(_)) | (Form::Unnamed, _) => {}
    }
    let begun = begun.map(|answers| {
        if let Some(answers) = answers {
            connection.back_end.began(&answers);
        }
    });
    let committed = match committed {
        None if commits_later && begun.is_ok() && spoke.is_ok() => Some(self::commit(connection).await),
        Some(Ok(())) => {
            connection.back_end.committed();
            Some(Ok(()))
        }
        committed => committed,
    };
    let idle = matches!(committed, Some(Ok(())));
    if let Err(error) = begun {
        return Exchanged {
            answer: Err(Error::from_driver("enter", &error)),
            refusal: Some(Refusal::of(&error)),
            idle,
        };
    }
    let answer = match (spoke, prepared, committed) {
        (Err(error), _, _) | (Ok(_), Err(error), _) | (Ok(_), Ok(_), Some(Err(error))) => {
            Err(Error::from_driver(spoken.name, &error))
        }
        (Ok(answer), Ok(_), Some(Ok(())) | None) => Ok(answer),
    };
    Exchanged {
        answer,
        refusal: None,
        idle,
    }
}

/// Says COMMIT alone.
pub(super) async fn commit(connection: &mut Connection) -> Result<(), tokio_postgres::Error> {
    let message = connection.back_end.commit();
    connection.client.batch_execute(message).await?;
    connection.back_end.committed();
    Ok(())
}

// === impl Spoken ===

impl Spoken<'_> {
    /// What a connection may keep it by.
    fn text(&self) -> Text {
        let kinds = || self.binds.iter().skip(1).map(|(_, kind)| kind.clone());
        let written = self.written.clone();
        written.unwrap_or_else(|| Text::composed(self.sql, kinds()))
    }
}

// === impl Refusal ===

impl Refusal {
    fn of(error: &tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if code.code() == SLOTS_TAKEN => Self::SlotsTaken,
            _ => Self::Other,
        }
    }
}

/// Says BEGIN and enter, where given; what was answered is looked at only where the back end counts.
async fn enter(
    client: &Client,
    back_end: &BackEnd,
    begin: Option<&str>,
) -> Result<Option<Vec<SimpleQueryMessage>>, tokio_postgres::Error> {
    match begin {
        Some(begin) if back_end.counts() => client.simple_query(begin).await.map(Some),
        Some(begin) => client.batch_execute(begin).await.map(|()| None),
        None => Ok(None),
    }
}

/// None where nothing was said.
async fn control(client: &Client, sql: Option<&str>) -> Option<Result<(), tokio_postgres::Error>> {
    Some(client.batch_execute(sql?).await)
}

async fn prepare(client: &Client, form: &Form) -> Result<Option<Statement>, tokio_postgres::Error> {
    match form {
        Form::First(text) => client.prepare_typed(text.sql(), &text.types()).await.map(Some),
        Form::Kept(..) | Form::Unnamed => Ok(None),
    }
}

async fn speak(client: &Client, spoken: &Spoken<'_>, form: &Form) -> Result<Answer, tokio_postgres::Error> {
    let binds = spoken.binds.iter();
    let stream = match form {
        Form::Kept(_, prepared) => {
            let binds = binds.map(|(wire, _)| wire as &(dyn ToSql + Sync));
            client.query_raw(prepared, binds).await?
        }
        Form::First(_) | Form::Unnamed => {
            let binds = binds.map(|(wire, kind)| (wire as &(dyn ToSql + Sync), kind.clone()));
            client.query_typed_raw(spoken.sql, binds).await?
        }
    };
    let mut stream = std::pin::pin!(stream);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        rows.push(Row::new(row));
    }
    Ok(Answer {
        rows,
        affected: stream.rows_affected().unwrap_or(0),
    })
}
