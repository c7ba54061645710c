//! T09 in short form: what is secret is looked for in logs with every level switched on, in traces, in statuses, in the databases,
//! where events and mails wait too, in Redis, and in what RabbitMQ holds, parked messages above all. Nothing of it is found.

mod own_database;
mod watched;

use anyhow::{Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::suite::{Options, Process, Suite};
use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_devkit::{cluster, journey, wait};
use rowhouse_proto::auth::v1::{
    ChangeEmailRequest, ChangePasswordRequest, ConfirmEmailRequest, CreateApiKeyRequest, CreateServiceAccountRequest,
    ExchangeApiKeyRequest, GrantOperatorRequest, InviteMemberRequest, LoginRequest, RefreshRequest,
    RequestPasswordResetRequest, ResetPasswordRequest, ServiceAccount,
};
use rowhouse_proto::crm::v1::ListContactsRequest;
use uuid::Uuid;

use self::own_database::OwnDatabase;
use self::watched::{Watched, shapes_in};
use crate::support::collector::Collector;
use crate::support::redis::Keys;
use crate::support::second_factor::SecondFactor;
use crate::support::world::{House, PASSWORD, World};
use crate::support::{letters, services};

/// What a report's mail says of a person, and no log may.
const NAME: &str = "Canary Quetzal";
/// Whose mail server refuses the mail and quotes it.
const REFUSED: &str = "canary.hoatzin@refused.example";
/// The id of some requests. It is no secret, and goes wherever requests leave traces: a search that misses it is blind.
const PLANTED: &str = "canary-planted-5be0cd";

/// Under these names the processes export traces; both of crm's under one.
const SERVICES: [&str; 4] = ["rowhouse-auth", "rowhouse-crm", "rowhouse-tenant", "rowhouse-worker"];

/// Somewhere that secrets must not get to.
struct Place {
    name: String,
    text: String,
    /// Whether it belongs to a tenant, who keeps names and addresses there.
    is_home: bool,
}

fn log_in(house: &House, password: &str, second_factor: &str) -> LoginRequest {
    LoginRequest {
        email: house.user.email.clone(),
        password: password.to_owned(),
        tenant_id: house.tenant.id.clone(),
        second_factor: second_factor.to_owned(),
        device_secret: String::new(),
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
        new_password: watched.password.clone(),
    };
    watched.secret("a password", watched.password.clone());
    world.anyone.recovery().reset_password(reset.clone()).await?;
    watched.refused(world.anyone.recovery().reset_password(reset).await)?;
    watched.secret("a wrong password", watched.wrong.clone());
    watched.refused(world.anyone.auth().login(log_in(house, &watched.wrong, "")).await)?;
    let tokens = world
        .anyone
        .auth()
        .login(log_in(house, &watched.password, ""))
        .await?
        .into_inner();
    watched.secret("an access token", tokens.access_token.clone());
    watched.secret("a refresh token", tokens.refresh_token.clone());
    watched.secret("a device's secret", tokens.device_secret.clone());
    // Shown with a wrong password and with the right one; and one that is not good.
    for device_secret in [tokens.device_secret.clone(), format!("{}x", tokens.device_secret)] {
        let request = LoginRequest {
            device_secret,
            ..log_in(house, &watched.wrong, "")
        };
        watched.refused(world.anyone.auth().login(request).await)?;
    }
    let request = LoginRequest {
        device_secret: tokens.device_secret.clone(),
        ..log_in(house, &watched.password, "")
    };
    let known = world.anyone.auth().login(request).await?.into_inner();
    ensure!(
        !tokens.device_secret.is_empty() && known.device_secret == tokens.device_secret,
        "the device is not known again"
    );
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
        current_password: watched.wrong.clone(),
        new_password: format!("{}-new", watched.password),
    };
    watched.refused(caller.account().change_password(change).await)?;
    // A damaged token, one in the wrong place, and one where no token belongs.
    let damaged = world.anyone.with_token(&format!("{}x", tokens.access_token))?;
    watched.refused(damaged.contacts().list_contacts(ListContactsRequest::default()).await)?;
    let misplaced = caller.with("x-service-authorization", &format!("Bearer {}", tokens.access_token))?;
    watched.refused(misplaced.contacts().list_contacts(ListContactsRequest::default()).await)?;
    let request = ListContactsRequest {
        page_token: tokens.access_token,
        filter: format!("display_name = \"{}\" AND (", watched.password),
        ..ListContactsRequest::default()
    };
    watched.refused(caller.contacts().list_contacts(request).await)?;
    Ok(caller)
}

/// A second factor with its recovery codes, and a key of a program.
async fn factors(world: &World, house: &House, caller: &Caller, watched: &mut Watched) -> Result<()> {
    let factor = SecondFactor::set_up(caller, &watched.password).await?;
    watched.secret("the secret of a second factor", factor.secret);
    for code in factor.recovery_codes {
        watched.secret("a recovery code", code);
    }
    let wrong = "canary-44d0-code";
    watched.secret("a wrong code", wrong);
    watched.refused(world.anyone.auth().login(log_in(house, &watched.password, wrong)).await)?;
    let mut accounts = house.administrator.caller.service_accounts();
    let service_account = Some(ServiceAccount {
        display_name: "Importer".to_owned(),
        role: "user".to_owned(),
        ..ServiceAccount::default()
    });
    let request = CreateServiceAccountRequest {
        service_account,
        ..CreateServiceAccountRequest::default()
    };
    let account = accounts.create_service_account(request).await?;
    let request = CreateApiKeyRequest {
        service_account_id: account.into_inner().id,
        lifetime_days: 1,
        request_id: Uuid::new_v4().to_string(),
    };
    let key = accounts.create_api_key(request.clone()).await?.into_inner().key;
    watched.secret("an API key", key.clone());
    watched.refused(accounts.create_api_key(request).await)?;
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

/// A new address, an operator's password, and an operator who acts as a member.
async fn operators(world: &World, house: &House, watched: &mut Watched) -> Result<()> {
    let change = ChangeEmailRequest {
        new_email: "elsewhere@acme.example".to_owned(),
        current_password: PASSWORD.to_owned(),
        code: String::new(),
    };
    house.manager.caller.account().change_email(change.clone()).await?;
    let mail = world
        .suite
        .wait_for_mail(&change.new_email, journey::BACKGROUND_MAX, |_| true)
        .await?;
    let confirm = ConfirmEmailRequest {
        token: journey::link_token(&mail)?,
    };
    watched.secret("the token of a new address", confirm.token.clone());
    world.anyone.recovery().confirm_email(confirm.clone()).await?;
    watched.refused(world.anyone.recovery().confirm_email(confirm).await)?;

    watched.secret("an operator's password", world.operator_password.clone());
    let grant = |current_password: &str| GrantOperatorRequest {
        email: house.user.email.clone(),
        reason: "a canary".to_owned(),
        current_password: current_password.to_owned(),
        code: String::new(),
    };
    let mut operators = world.operator.operators();
    let wrong = grant(&watched.wrong);
    watched.refused(operators.grant_operator(wrong).await)?;
    operators.grant_operator(grant(&world.operator_password)).await?;
    let inside = world.as_member(house, &house.manager).await?;
    watched.secret("an impersonation's token", inside.access_token);
    Ok(())
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

/// Everything that a database holds, as text. `but`: tables that are left out.
async fn database(url: &str, but: &[&str]) -> Result<String> {
    let client = cluster::connect(url).await?;
    let tables = "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
        WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')";
    let mut all = String::new();
    for table in client.query(tables, &[]).await? {
        let table: String = table.get(0);
        if but.contains(&table.as_str()) {
            continue;
        }
        let rows = format!("SELECT coalesce(string_agg(line::text, E'\\n'), '') FROM {table} AS line");
        let rows: String = client.query_one(&rows, &[]).await?.get(0);
        all.push_str(&rows);
        all.push('\n');
    }
    Ok(all)
}

/// An invitation whose mail is refused, with an answer that quotes its link, so that its message ends in the parking queue.
async fn parked(world: &World, administrator: &Caller, watched: &mut Watched) -> Result<()> {
    let request = InviteMemberRequest {
        email: REFUSED.to_owned(),
        role: "user".to_owned(),
        request_id: Uuid::new_v4().to_string(),
    };
    let invitation = administrator.members().invite_member(request).await?.into_inner();
    let token = services::invitation_token(&world.suite, &invitation.id).await?;
    watched.secret("the token of a mail that was refused", token);
    let is_there = || async { Ok(letters::parked(&world.suite).await? > 0) };
    wait::until("a parked message", journey::BACKGROUND_MAX, is_there).await
}

/// Ends all processes in peace, so that what they have to say has been said.
async fn stop(suite: &Suite) -> Result<()> {
    let [tenant, auth, crm, provision, worker] = Process::ALL.map(|process| suite.stop(process));
    let ended = tokio::try_join!(tenant, auth, crm, provision, worker)?;
    for status in [ended.0, ended.1, ended.2, ended.3, ended.4] {
        ensure!(status.success(), "{status}");
    }
    Ok(())
}

/// Everywhere that something is kept or told, after the processes have ended.
async fn places(suite: &Suite, watched: &Watched, collector: &Collector, own: &OwnDatabase) -> Result<Vec<Place>> {
    let letters = letters::all(suite).await?;
    let mut places = Vec::new();
    let mut place = |name: String, text: String, is_home| places.push(Place { name, text, is_home });
    place("a status".to_owned(), watched.statuses.join("\n"), false);
    for process in Process::ALL {
        let log = suite.log(process)?;
        ensure!(log.len() > 1_000, "{} says nothing", process.name());
        place(format!("the log of {}", process.name()), log, false);
    }
    let traces = collector.texts();
    ensure!(
        traces.keys().map(String::as_str).eq(SERVICES),
        "traces of {:?}",
        traces.keys()
    );
    for (service, text) in traces {
        place(format!("the traces of {service}"), text, false);
    }
    let databases = suite.databases();
    for (name, url) in [
        ("the control database", databases.control_superuser_url()),
        ("the data database", databases.data_superuser_url()),
    ] {
        place(name.to_owned(), database(&url, &[]).await?, true);
    }
    place("a tenant's own database".to_owned(), own.text(suite).await?, true);
    let redis = Keys::of(suite).await?.text().await?;
    ensure!(redis.contains(":rights:"), "Redis holds no rights: {redis}");
    place("Redis".to_owned(), redis, false);
    for (name, is_parked) in [("what is parked", true), ("the queues", false)] {
        let of = letters.iter().filter(|letter| letter.is_parked == is_parked);
        let text: Vec<&str> = of.map(|letter| letter.text.as_str()).collect();
        place(name.to_owned(), text.join("\n"), false);
    }
    Ok(places)
}

async fn round(torture: &mut Torture, mut dice: Dice) -> Result<()> {
    let collector = Collector::start().await?;
    let variables = [
        ("ROWHOUSE_LOG", "trace".to_owned()),
        ("ROWHOUSE_OTLP_ENDPOINT", collector.url()),
        // A tenth of it is spent waiting for load balancers, of which there are none.
        ("ROWHOUSE_DRAIN_MS", "5000".to_owned()),
    ];
    let options = Options {
        environment: variables.map(|(name, value)| (None, name.to_owned(), value)).to_vec(),
        ..Options::default()
    };
    let world = World::start_with("secrets", options).await?;
    let house = world.house("acme").await?;
    let mut watched = Watched::new(&mut dice);
    configured(&world, &mut watched);
    let caller = passwords(&world, &house, &mut watched).await?;
    factors(&world, &house, &caller, &mut watched).await?;
    operators(&world, &house, &mut watched).await?;
    let own = OwnDatabase::begin(&world, &mut watched).await?;
    // From here on requests have the id that is found again.
    let administrator = house.administrator.caller.with("x-request-id", PLANTED)?;
    let operator = world.operator.with("x-request-id", PLANTED)?;
    journey::create_tenant(&operator, "planted", "Planted Ltd", "administrator@planted.example").await?;
    parked(&world, &administrator, &mut watched).await?;
    journey::create_contact(&administrator, NAME, "canary.quetzal@acme.example").await?;
    let report = journey::run_report(&administrator).await?;
    journey::finished_report(&administrator, &report.id, journey::BACKGROUND_MAX).await?;
    let request = ListContactsRequest {
        page_token: "none".to_owned(),
        ..ListContactsRequest::default()
    };
    watched.refused(administrator.contacts().list_contacts(request).await)?;
    ensure!(
        watched.count() > 30 && watched.statuses.len() >= 9,
        "{} secrets, {} statuses",
        watched.count(),
        watched.statuses.len()
    );
    stop(&world.suite).await?;

    let seen = places(&world.suite, &watched, &collector, &own).await?;
    torture.trials(watched.count() * seen.len());
    torture.count("secrets", watched.count());
    torture.count("places", seen.len());
    for place in &seen {
        let found = watched.found_in(&place.text);
        ensure!(found.is_empty(), "{found:?} in {}", place.name);
        let found = shapes_in(&place.text);
        ensure!(found.is_empty(), "{found:?} that nobody was told of, in {}", place.name);
    }
    // What stands in a tenant's home is theirs to keep there, and nobody's to write anywhere else.
    let mut personal = Watched::new(&mut dice);
    personal.secret("a contact's name", NAME);
    personal.secret("a contact's address", "canary.quetzal");
    personal.secret("a member's address", house.user.email.clone());
    personal.secret("an address that is refused", "canary.hoatzin");
    personal.secret("a person's password of the tests", PASSWORD);
    for place in seen.iter().filter(|place| !place.is_home) {
        let found = personal.found_in(&place.text);
        ensure!(found.is_empty(), "{found:?} in {}", place.name);
    }
    own.control(&world.suite, &watched).await?;
    control(&world.suite, &seen, &personal).await
}

/// The control: the same search in the same places finds what is there. The id of some requests is everywhere but in Redis,
/// where it is planted, and in the queues, where work was done; the databases of tenants hold the contact.
async fn control(suite: &Suite, seen: &[Place], personal: &Watched) -> Result<()> {
    let mut planted = Watched::new(&mut Dice::new(0));
    planted.secret("what was planted", PLANTED);
    for place in seen {
        let may_lack_it = ["Redis", "the queues"].contains(&place.name.as_str());
        let is_seen = !planted.found_in(&place.text).is_empty();
        ensure!(is_seen || may_lack_it, "what was planted is not seen in {}", place.name);
        if ["the data database", "a tenant's own database"].contains(&place.name.as_str()) {
            let found = personal.found_in(&place.text);
            ensure!(found.contains(&"a contact's name"), "{found:?} in {}", place.name);
        }
    }
    let mut keys = Keys::of(suite).await?;
    for (name, value) in [("platform:planted", PLANTED), (PLANTED, "a value")] {
        keys.flush().await?;
        keys.plant(name, value).await?;
        ensure!(
            !planted.found_in(&keys.text().await?).is_empty(),
            "what was planted is not seen in Redis: {name}"
        );
    }
    let control = cluster::connect(&suite.databases().control_superuser_url()).await?;
    let sql = "SELECT count(*) FROM worker.attempts WHERE parked_at IS NOT NULL AND last_error LIKE '%status 550%'";
    let rows: i64 = control.query_one(sql, &[]).await?.get(0);
    ensure!(rows == 1, "{rows} messages are parked for a refusal");
    Ok(())
}

#[tokio::test]
async fn no_secret_is_logged_traced_answered_or_kept() -> Result<()> {
    let mut torture = Torture::begin("T09", "secrets");
    while let Some(dice) = torture.round() {
        round(&mut torture, dice).await?;
    }
    Ok(())
}
