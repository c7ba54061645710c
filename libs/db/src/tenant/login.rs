//! The login by which a tenant's own database is entered, asked of the server's main database before each connection: what is
//! remembered could be a password that was replaced since.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rowhouse_config::Secret;
use tokio_postgres::types::Type;

use crate::Error;
use crate::login::OwnLogins;
use crate::wire::Target;

/// Longest time to ask for one: the main database answers at once, or is not there.
const ASK_MAX: Duration = Duration::from_secs(5);

/// What a database's login is asked by.
const OF: &str = "SELECT rowhouse.own_login_of($1)";

/// The login of one database.
#[derive(Clone)]
pub(crate) struct OwnLogin {
    /// The login's, and its database's.
    pub(crate) name: String,
    /// The server's main database. A connection for each question: the lanes' are the tenants', who could keep them, and it is
    /// asked no more than once for each connection to the other.
    pub(super) main: Arc<Target>,
    pub(super) logins: Arc<OwnLogins>,
}

// === impl OwnLogin ===

impl OwnLogin {
    /// Its password. `None` for a database that was made before there were such logins, which the services' common login
    /// enters; it may not connect to any other.
    ///
    /// Boxed, since a target asks by another target.
    ///
    /// # Errors
    /// [`Error::Fault`] where the master key is not the one that sealed it: nobody enters then.
    pub(crate) fn password(&self) -> BoxFuture<'_, Result<Option<Secret>, Error>> {
        Box::pin(async move {
            match tokio::time::timeout(ASK_MAX, self.ask()).await {
                Ok(Ok(Some(sealed))) => {
                    let opened = self.logins.open(&self.name, &sealed);
                    opened.map(Some).map_err(|fault| Error::Fault(fault.to_string()))
                }
                Ok(Ok(None)) => Ok(None),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(Error::Unavailable("the login was not told in time".to_owned())),
            }
        })
    }

    async fn ask(&self) -> Result<Option<Vec<u8>>, Error> {
        let mut connection = self.main.open().await?;
        // Given up before the answer is there, it is cut.
        connection.dirty = true;
        let asked = connection.client.query_typed(OF, &[(&self.name, Type::TEXT)]).await;
        let rows = asked.map_err(|error| Error::from_driver("own_login_of", &error))?;
        connection.dirty = false;
        let row = rows.first().ok_or(Error::RowMissing)?;
        row.try_get(0)
            .map_err(|error| Error::from_driver("own_login_of", &error))
    }
}
