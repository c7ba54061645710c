//! T09 in short form: what is secret is looked for in logs with every level switched on, in statuses, and in the databases, where
//! events and mails wait too. Nothing of it is found.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::suite::{Options, Process};
use rowhouse_devkit::{cluster, journey};
use rowhouse_proto::auth::v1::{
    ChangePasswordRequest, ConfirmSecondFactorRequest, CreateApiKeyRequest, CreateServiceAccountRequest,
    ExchangeApiKeyRequest, LoginRequest, RefreshRequest, RequestPasswordResetRequest, ResetPasswordRequest,
    ServiceAccount, SetUpSecondFactorRequest,
};
use rowhouse_proto::crm::v1::ListContactsRequest;
use tonic::Status;
use totp_rs::{Builder, Secret};

use crate::support::world::{House, PASSWORD, World};

/// A password that nobody else has.
const CANARY: &str = "canary-8f41c6-password";
/// One that is sent and is wrong.
const WRONG: &str = "canary-1b93aa-mistaken";
/// What a report's mail says of a person, and no log may.
const NAME: &str = "Canary Quetzal";

/// What must not be found, each by its name, and what was answered meanwhile.
#[derive(Default)]
struct Watched {
    secrets: Vec<(&'static str, String)>,
    statuses: Vec<String>,
}

impl Watched {
    fn secret(&mut self, name: &'static str, secret: impl Into<String>) {
        let secret = secret.into();
        if !self.secrets.iter().any(|(_, known)| *known == secret) {
            self.secrets.push((name, secret));
        }
    }

    fn refused<T>(&mut self, answer: Result<tonic::Response<T>, Status>) -> Result<()> {
        let status = answer.err().context("it should be refused")?;
        let details = String::from_utf8_lossy(status.details()).into_owned();
        self.statuses.push(format!("{status:?} {details}"));
        Ok(())
    }

    /// Names of the secrets that stand in `text`, as they are or as PostgreSQL writes their bytes.
    fn found_in(&self, text: &str) -> Vec<&'static str> {
        let stands = |secret: &str| {
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            text.contains(secret) || text.contains(&hex)
        };
        let found = self.secrets.iter().filter(|(_, secret)| stands(secret));
        found.map(|(name, _)| *name).collect()
    }
}

fn log_in(house: &House, password: &str, second_factor: &str) -> LoginRequest {
    LoginRequest {
        email: house.user.email.clone(),
        password: password.to_owned(),
        tenant_id: house.tenant.id.clone(),
        second_factor: second_factor.to_owned(),
    }
}

/// Passwords, links and log-ins, good and bad.
async fn passwords(world: &World, house: &House, watched: &mut Watched) -> Result<Caller> {
    let address = house.user.email.as_str();
    for mail in world.suite.mails()? {
        if let Ok(token) = journey::link_token(&mail) {
            watched.secret("the token of an invitation", token);
        }
    }
    let request = RequestPasswordResetRequest {
        email: address.to_owned(),
    };
    world.anyone.recovery().request_password_reset(request).await?;
    let is_reset = |mail: &rowhouse_devkit::smtp::Mail| mail.subject.to_lowercase().contains("password");
    let mail = world
        .suite
        .wait_for_mail(address, journey::BACKGROUND_MAX, is_reset)
        .await?;
    let token = journey::link_token(&mail)?;
    watched.secret("the token of a reset", token.clone());
    let reset = ResetPasswordRequest {
        token,
        new_password: CANARY.to_owned(),
    };
    watched.secret("a password", CANARY);
    world.anyone.recovery().reset_password(reset.clone()).await?;
    watched.refused(world.anyone.recovery().reset_password(reset).await)?;
    watched.secret("a wrong password", WRONG);
    watched.refused(world.anyone.auth().login(log_in(house, WRONG, "")).await)?;
    let tokens = world.anyone.auth().login(log_in(house, CANARY, "")).await?.into_inner();
    watched.secret("an access token", tokens.access_token.clone());
    watched.secret("a refresh token", tokens.refresh_token.clone());
    let caller = world.anyone.with_token(&tokens.access_token)?;
    let refresh_token = tokens.refresh_token;
    let fresh = world
        .anyone
        .auth()
        .refresh(RefreshRequest { refresh_token })
        .await?
        .into_inner();
    watched.secret("a refreshed token", fresh.refresh_token);
    watched.secret("a refreshed access token", fresh.access_token);
    let change = ChangePasswordRequest {
        current_password: WRONG.to_owned(),
        new_password: format!("{CANARY}-new"),
    };
    watched.refused(caller.account().change_password(change).await)?;
    // A damaged token, one in the wrong place, and one where no token belongs.
    let damaged = world.anyone.with_token(&format!("{}x", tokens.access_token))?;
    watched.refused(damaged.contacts().list_contacts(ListContactsRequest::default()).await)?;
    let misplaced = caller.with("x-service-authorization", &format!("Bearer {}", tokens.access_token))?;
    watched.refused(misplaced.contacts().list_contacts(ListContactsRequest::default()).await)?;
    let request = ListContactsRequest {
        page_token: tokens.access_token,
        filter: format!("display_name = \"{CANARY}\" AND ("),
        ..ListContactsRequest::default()
    };
    watched.refused(caller.contacts().list_contacts(request).await)?;
    Ok(caller)
}

/// A second factor with its recovery codes, and a key of a program.
async fn factors(world: &World, house: &House, caller: &Caller, watched: &mut Watched) -> Result<()> {
    let request = SetUpSecondFactorRequest {
        current_password: CANARY.to_owned(),
    };
    let setup = caller.account().set_up_second_factor(request).await?.into_inner();
    watched.secret("the secret of a second factor", setup.secret.clone());
    let secret = Secret::try_from_base32(&setup.secret).ok().context("base32")?;
    let app = Builder::new().with_secret(secret).build().ok().context("an app")?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let code = app.generate(now_s).to_string();
    let confirmed = caller
        .account()
        .confirm_second_factor(ConfirmSecondFactorRequest { code })
        .await?;
    for code in confirmed.into_inner().codes {
        watched.secret("a recovery code", code);
    }
    let wrong = "canary-44d0-code";
    watched.secret("a wrong code", wrong);
    watched.refused(world.anyone.auth().login(log_in(house, CANARY, wrong)).await)?;
    let mut accounts = house.administrator.caller.service_accounts();
    let service_account = Some(ServiceAccount {
        display_name: "Importer".to_owned(),
        role: "user".to_owned(),
        ..ServiceAccount::default()
    });
    let account = accounts
        .create_service_account(CreateServiceAccountRequest { service_account })
        .await?;
    let request = CreateApiKeyRequest {
        service_account_id: account.into_inner().id,
        lifetime_days: 1,
    };
    let key = accounts.create_api_key(request).await?.into_inner().key;
    watched.secret("an API key", key.clone());
    let exchange = ExchangeApiKeyRequest { key: key.clone() };
    let token = world
        .anyone
        .service_accounts()
        .exchange_api_key(exchange)
        .await?
        .into_inner();
    watched.secret("a program's access token", token.access_token);
    let exchange = ExchangeApiKeyRequest { key: format!("{key}x") };
    watched.refused(world.anyone.service_accounts().exchange_api_key(exchange).await)
}

/// Keys and passwords that the processes are configured with.
fn configured(world: &World, watched: &mut Watched) {
    for process in Process::ALL {
        for (name, value) in world.suite.environment(process) {
            if name.ends_with("_KEY") {
                watched.secret("a configured key", value);
            } else if let Some((_, rest)) = value.split_once("://")
                && let Some((login, _)) = rest.split_once('@')
                && let Some((_, password)) = login.split_once(':')
            {
                watched.secret("a configured password", password.to_owned());
            }
        }
    }
}

/// Everything that a database holds, as text.
async fn database(url: &str) -> Result<String> {
    let client = cluster::connect(url).await?;
    let tables = "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
        WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')";
    let mut all = String::new();
    for table in client.query(tables, &[]).await? {
        let table: String = table.get(0);
        let rows = format!("SELECT coalesce(string_agg(line::text, E'\\n'), '') FROM {table} AS line");
        let rows: String = client.query_one(&rows, &[]).await?.get(0);
        all.push_str(&rows);
        all.push('\n');
    }
    Ok(all)
}

#[tokio::test]
async fn no_secret_is_logged_answered_or_kept() -> Result<()> {
    let everything = (None, "ROWHOUSE_LOG".to_owned(), "trace".to_owned());
    let options = Options {
        environment: vec![everything],
        ..Options::default()
    };
    let world = World::start_with("secrets", options).await?;
    let house = world.house("acme").await?;
    let mut watched = Watched::default();
    configured(&world, &mut watched);
    let caller = passwords(&world, &house, &mut watched).await?;
    factors(&world, &house, &caller, &mut watched).await?;
    let contact = journey::create_contact(&house.administrator.caller, NAME, "canary.quetzal@acme.example").await?;
    let report = journey::run_report(&house.administrator.caller).await?;
    journey::finished_report(&house.administrator.caller, &report.id, journey::BACKGROUND_MAX).await?;
    ensure!(
        watched.secrets.len() > 30 && watched.statuses.len() >= 8,
        "{}",
        watched.secrets.len()
    );

    for status in &watched.statuses {
        let found = watched.found_in(status);
        ensure!(found.is_empty(), "{found:?} in a status: {status}");
    }
    let databases = world.suite.databases();
    for url in [databases.control_superuser_url(), databases.data_superuser_url()] {
        let found = watched.found_in(&database(&url).await?);
        ensure!(found.is_empty(), "{found:?} in a database");
    }
    // What stands in a tenant's home is theirs to keep there, and nobody's to write into a log.
    watched.secret("a contact's name", NAME);
    watched.secret("a contact's address", "canary.quetzal");
    watched.secret("a member's address", house.user.email.clone());
    watched.secret("a person's password of the tests", PASSWORD);
    for process in Process::ALL {
        let log = world.suite.log(process)?;
        ensure!(log.len() > 1_000, "{} says nothing", process.name());
        let found = watched.found_in(&log);
        ensure!(found.is_empty(), "{found:?} in the log of {}", process.name());
    }
    // The controls: the search finds what is there. The data database holds the contact; a log names the request's path.
    let data = database(&databases.data_superuser_url()).await?;
    ensure!(watched.found_in(&data).contains(&"a contact's name"), "{}", contact.id);
    watched.secret("the name of an RPC", "AuthService/Login");
    let log = world.suite.log(Process::Auth)?;
    ensure!(watched.found_in(&log) == ["the name of an RPC"]);
    Ok(())
}
