//! Second factors of members, made by a library that the suite does not use, and the policy that asks for them.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_proto::auth::v1::{
    ConfirmSecondFactorRequest, LoginPolicy, SetUpSecondFactorRequest, UpdateLoginPolicyRequest,
};
use rowhouse_proto::well_known::FieldMask;
use totp_rs::{Builder, Secret, Totp};

/// What a person has on their device, and on paper.
pub(crate) struct SecondFactor {
    /// In base32, as it was told.
    pub(crate) secret: String,
    pub(crate) app: Totp,
    /// The time of the code that switched it on, in seconds since 1970.
    pub(crate) confirmed_s: u64,
    pub(crate) recovery_codes: Vec<String>,
}

// === impl SecondFactor ===

impl SecondFactor {
    /// Switches one on; the caller's session has shown it from then on.
    pub(crate) async fn set_up(caller: &Caller, password: &str) -> Result<Self> {
        let request = SetUpSecondFactorRequest {
            current_password: password.to_owned(),
        };
        let setup = caller.account().set_up_second_factor(request).await?.into_inner();
        ensure!(
            setup.uri.contains(&setup.secret),
            "the picture says the same as the text"
        );
        let secret = Secret::try_from_base32(&setup.secret).ok().context("base32")?;
        let app = Builder::new().with_secret(secret).build().ok();
        let app = app.context("a secret for the app")?;
        let confirmed_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let request = ConfirmSecondFactorRequest {
            code: app.generate(confirmed_s).to_string(),
        };
        let confirmed = caller.account().confirm_second_factor(request).await?;
        Ok(Self {
            secret: setup.secret,
            app,
            confirmed_s,
            recovery_codes: confirmed.into_inner().codes,
        })
    }
}

/// A policy that asks for a second factor, or does not.
pub(crate) fn policy(second_factor_required: bool) -> UpdateLoginPolicyRequest {
    UpdateLoginPolicyRequest {
        login_policy: Some(LoginPolicy {
            second_factor_required,
            ..LoginPolicy::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["second_factor_required".to_owned()],
        }),
    }
}
