//! What the log keeps of guesses by whoever is logged in: as many as a thief of a session would need.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rowhouse_auth_kit::Role;
use rowhouse_context::Ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::account_service_server::AccountService as _;
use rowhouse_proto::auth::v1::operator_service_server::OperatorService as _;
use rowhouse_types::UserId;
use serde_json::Value;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::account::AccountRpc;
use crate::account::failed::Shows;
use crate::operator::OperatorRpc;
use crate::tests::app::App;
use crate::tests::bench::{Bench, PASSWORD, why};

const EMAIL: &str = "ada@acme.example";
const WRONG: &str = "wrong horse battery";
const NO_CODE: &str = "000000";

/// Somebody who calls their own account.
struct Caller {
    rpc: AccountRpc,
    operators: OperatorRpc,
    ctx: Ctx,
}

impl Caller {
    async fn login(bench: &Bench, email: &str, password: &str) -> Self {
        let pair = bench.login(email, password, None).await.unwrap();
        Self {
            rpc: AccountRpc {
                state: bench.state.clone(),
            },
            operators: OperatorRpc {
                state: bench.state.clone(),
            },
            ctx: Bench::ctx_in(&pair).with_origin(None, Some("192.0.2.1".to_owned())),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.ctx.clone());
        request
    }

    /// Calls with a password and a code of which one is wrong, or the code is empty.
    async fn guess(&self, shows: Shows, current_password: &str, code: &str) -> Status {
        let (current_password, code) = (current_password.to_owned(), code.to_owned());
        let rpc = &self.rpc;
        let answer = match shows {
            Shows::ChangePassword => {
                let new_password = "a fine sentence of mine".to_owned();
                let message = proto::ChangePasswordRequest {
                    current_password,
                    new_password,
                };
                rpc.change_password(self.request(message)).await.map(drop)
            }
            Shows::ChangeEmail => {
                let message = proto::ChangeEmailRequest {
                    current_password,
                    new_email: "mole@acme.example".to_owned(),
                    code,
                };
                rpc.change_email(self.request(message)).await.map(drop)
            }
            Shows::SetUpSecondFactor => {
                let message = proto::SetUpSecondFactorRequest { current_password };
                rpc.set_up_second_factor(self.request(message)).await.map(drop)
            }
            Shows::ConfirmSecondFactor => {
                let message = proto::ConfirmSecondFactorRequest { code };
                rpc.confirm_second_factor(self.request(message)).await.map(drop)
            }
            Shows::RenewRecoveryCodes => {
                let message = proto::RenewRecoveryCodesRequest { current_password, code };
                rpc.renew_recovery_codes(self.request(message)).await.map(drop)
            }
            Shows::RemoveSecondFactor => {
                let message = proto::RemoveSecondFactorRequest { current_password, code };
                rpc.remove_second_factor(self.request(message)).await.map(drop)
            }
            Shows::GrantOperator => {
                let message = proto::GrantOperatorRequest {
                    email: EMAIL.to_owned(),
                    reason: "a colleague".to_owned(),
                    current_password,
                    code,
                };
                let request = self.request(message);
                self.operators.grant_operator(request).await.map(drop)
            }
        };
        answer.unwrap_err()
    }
}

/// What the logs say of guesses at an RPC: whose log, who made them, about whom, why and how often.
async fn told(bench: &Bench, shows: Shows) -> Vec<(Option<Uuid>, String, String, Value)> {
    let anonymous = bench.told(shows.rpc()).await;
    assert!(anonymous.is_empty(), "{anonymous:?}");
    let rows = "SELECT tenant_id, actor, target, after FROM auth.audit WHERE action = $1 AND outcome = 'refused' \
        AND address = '192.0.2.1' ORDER BY after->>'reason'";
    let told = sqlx::query_as(rows).bind(shows.rpc());
    told.fetch_all(&bench.superuser).await.unwrap()
}

/// All that ask for a password.
fn passwords() -> impl Iterator<Item = Shows> {
    let all = Shows::ALL.into_iter();
    all.filter(|shows| *shows != Shows::ConfirmSecondFactor)
}

fn by(log: Option<Uuid>, user: UserId, why: Value) -> (Option<Uuid>, String, String, Value) {
    (log, user.to_string(), user.to_string(), why)
}

#[tokio::test]
async fn a_wrong_password_of_who_is_logged_in_stands_in_the_log_of_the_tenant_of_the_session() {
    let bench = Bench::start("account_failed").await;
    let house = bench.house("acme").await;
    let user = bench.member(&house, EMAIL, Role::User).await;
    let elsewhere = bench.house("globex").await;
    let caller = Caller::login(&bench, EMAIL, PASSWORD).await;
    bench.join(&elsewhere, EMAIL, Role::User).await;
    // Nobody calls OperatorService from within a tenant.
    for shows in passwords().filter(|shows| *shows != Shows::GrantOperator) {
        let refused = caller.guess(shows, WRONG, NO_CODE).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{shows:?}");
        let wanted = [by(Some(house.tenant.uuid()), user, why("LOGIN_FAILED", 1))];
        assert_eq!(told(&bench, shows).await, wanted, "{shows:?}");
        // So that the next one need not wait.
        bench.execute("DELETE FROM auth.attempts").await;
    }
}

#[tokio::test]
async fn a_wrong_code_and_whoever_has_to_wait_are_told_too_and_what_is_right_is_not() {
    let bench = Bench::start("account_failed_codes").await;
    let house = bench.house("acme").await;
    let user = bench.member(&house, EMAIL, Role::User).await;
    let caller = Caller::login(&bench, EMAIL, PASSWORD).await;
    let password = proto::SetUpSecondFactorRequest {
        current_password: PASSWORD.to_owned(),
    };
    caller.rpc.set_up_second_factor(caller.request(password)).await.unwrap();
    let log = Some(house.tenant.uuid());
    let mut wrong = 0;
    while caller.guess(Shows::ConfirmSecondFactor, "", NO_CODE).await.code() == Code::InvalidArgument {
        wrong += 1;
        assert!(wrong < 10, "guesses are bounded");
    }
    let wanted = [
        by(log, user, why("SECOND_FACTOR_REQUIRED", wrong)),
        by(log, user, why("TOO_MANY_ATTEMPTS", 1)),
    ];
    assert_eq!(told(&bench, Shows::ConfirmSecondFactor).await, wanted);
    assert_eq!(
        told(&bench, Shows::SetUpSecondFactor).await,
        [],
        "the password was right"
    );

    // As if the second factor were confirmed.
    bench
        .execute("UPDATE auth.second_factors SET confirmed_at = now(); DELETE FROM auth.attempts")
        .await;
    for shows in [Shows::ChangeEmail, Shows::RenewRecoveryCodes, Shows::RemoveSecondFactor] {
        caller.guess(shows, PASSWORD, NO_CODE).await;
        let wanted = [by(log, user, why("SECOND_FACTOR_REQUIRED", 1))];
        assert_eq!(told(&bench, shows).await, wanted, "{shows:?}");
    }
    // What is no password or code at all is wrong in another way, and guesses nothing.
    let nothing = proto::ConfirmSecondFactorRequest { code: "12".to_owned() };
    let refused = caller.rpc.confirm_second_factor(caller.request(nothing)).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(told(&bench, Shows::ConfirmSecondFactor).await.len(), 2);
}

#[tokio::test]
async fn guesses_of_an_operator_on_the_platform_stand_in_its_own_log() {
    let bench = Bench::start("account_failed_platform").await;
    let password = bench.operator("root@rowhouse.example").await;
    let caller = Caller::login(&bench, "root@rowhouse.example", &password).await;
    let user = caller.ctx.principal().user().unwrap();
    for shows in passwords() {
        let refused = caller.guess(shows, WRONG, NO_CODE).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{shows:?}");
        let wanted = [by(None, user, why("LOGIN_FAILED", 1))];
        assert_eq!(told(&bench, shows).await, wanted, "{shows:?}");
        bench.execute("DELETE FROM auth.attempts").await;
    }
}

/// People do not know that a code is asked for until they are told: who sends none guesses nothing, and fills no log.
#[tokio::test]
async fn a_code_that_is_missing_is_told_to_no_log_and_a_wrong_one_is() {
    let bench = Bench::start("account_failed_missing").await;
    let password = bench.operator("root@rowhouse.example").await;
    let caller = Caller::login(&bench, "root@rowhouse.example", &password).await;
    let user = caller.ctx.principal().user().unwrap();
    App::set_up(&bench, &caller.ctx, &password).await;
    for shows in [Shows::ChangeEmail, Shows::GrantOperator] {
        let refused = caller.guess(shows, &password, "").await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{shows:?}");
        assert_eq!(told(&bench, shows).await, [], "{shows:?}");
        caller.guess(shows, &password, NO_CODE).await;
        let wanted = [by(None, user, why("SECOND_FACTOR_REQUIRED", 1))];
        assert_eq!(told(&bench, shows).await, wanted, "{shows:?}");
    }
}

/// The control: an RPC that is added and asks for one of these is told too. What asks for them is read from the contract.
#[test]
fn every_rpc_that_asks_for_the_password_or_a_code_is_among_them() {
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/rowhouse/auth/v1");
    let mut asking = BTreeSet::new();
    for file in fs::read_dir(contract).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for message in text.split("\nmessage ").skip(1) {
            let (name, rest) = message.split_once(' ').unwrap();
            let fields = rest.split("\n}").next().unwrap_or_default();
            let asks = [" string current_password = ", " string code = "];
            if let Some(rpc) = name.strip_suffix("Request")
                && asks.iter().any(|field| fields.contains(field))
            {
                asking.insert(rpc.to_owned());
            }
        }
    }
    let known = Shows::ALL.iter().filter_map(|shows| shows.rpc().split('/').nth(1));
    assert_eq!(asking, known.map(str::to_owned).collect());
}
