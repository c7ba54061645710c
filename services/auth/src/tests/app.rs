//! An authenticator app that somebody has set up.

use data_encoding::BASE32_NOPAD;
use rowhouse_context::Ctx;

use super::bench::Bench;
use crate::identity::OfferedPassword;
use crate::second_factor::actions::{confirm, set_up};
use crate::second_factor::{Code, code_at, now_s};

/// Codes of one secret: this step's and the next one's, which both hold for a minute.
pub(crate) struct App {
    pub(crate) secret: Vec<u8>,
    pub(crate) recovery_codes: Vec<String>,
    now_s: u64,
}

impl App {
    /// Sets up the caller's second factor, and confirms it by this step's code.
    pub(crate) async fn set_up(bench: &Bench, ctx: &Ctx, password: &str) -> Self {
        let password = OfferedPassword::parse(password).unwrap();
        let setup = set_up(ctx, &bench.state, &password).await.unwrap();
        let mut app = Self {
            secret: BASE32_NOPAD.decode(setup.secret.expose().as_bytes()).unwrap(),
            recovery_codes: Vec::new(),
            now_s: now_s().unwrap(),
        };
        let codes = confirm(ctx, &bench.state, &app.code(0)).await.unwrap();
        app.recovery_codes = codes.expose();
        app
    }

    pub(crate) fn code(&self, step: u64) -> Code {
        code_at(&self.secret, self.now_s + 30 * step).parse().unwrap()
    }

    pub(crate) fn recovery(&self, at: usize) -> Code {
        self.recovery_codes[at].parse().unwrap()
    }
}

/// A code that nobody's secret makes three times in a row: those who guess with it are found out before.
pub(crate) fn wrong() -> Code {
    "000000".parse().unwrap()
}
