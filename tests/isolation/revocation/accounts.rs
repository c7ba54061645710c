//! What ends, or weakens, all that a person has: their sessions at once, their password, their account, their second factor.

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::smtp::Mail;
use rowhouse_devkit::{journey, wait};
use rowhouse_proto::auth::v1::{
    RefreshRequest, RemoveSecondFactorRequest, RequestPasswordResetRequest, ResetPasswordRequest,
    RevokeSessionsRequest, SessionScope,
};
use tonic::Code;

use super::hammer::Attempt;
use super::{Arena, OTHER_PASSWORD};
use crate::support::second_factor::{SecondFactor, policy};
use crate::support::world::{Member, PASSWORD};

/// Of the mail with a link for a new password.
const SUBJECT: &str = "Choose a new password for Rowhouse";

// === impl Arena ===

impl Arena {
    /// A person whose account is what loses the rights, in each of its ways.
    pub(super) async fn accounts(&self) -> Result<()> {
        let person = self.joins("person@acme.example", "manager").await?;
        self.old_refresh_token(&person).await?;
        self.all_sessions(&person).await?;
        self.account_disabled(&person).await?;
        self.second_factors(&person).await?;
        self.password_reset(&self.house.manager).await
    }

    async fn joins(&self, email: &str, role: &str) -> Result<Member> {
        journey::invite(self.administrator(), email, role).await?;
        self.world.join(&self.house.tenant.id, email).await
    }

    /// A refresh token comes back whose successor was used: somebody has stolen one of them.
    async fn old_refresh_token(&self, person: &Member) -> Result<()> {
        let first = self.log_in(person).await?.tokens.refresh_token;
        let refresh = async |token: &str| {
            let refresh_token = token.to_owned();
            self.world.anyone.auth().refresh(RefreshRequest { refresh_token }).await
        };
        let second = refresh(&first).await?.into_inner().refresh_token;
        let session = self
            .world
            .anyone
            .with_token(&refresh(&second).await?.into_inner().access_token)?;
        let comes_back = async || {
            let refused = refresh(&first).await.err().context("an old refresh token is good")?;
            // Any other code would not say that the session has ended everywhere.
            ensure!(refused.code() == Code::Unauthenticated, "{refused:?}");
            Ok(())
        };
        self.take("an old refresh token", &session, Attempt::ALL, comes_back)
            .await
    }

    async fn all_sessions(&self, person: &Member) -> Result<()> {
        let session = self.log_in(person).await?.caller;
        let elsewhere = self.log_in(person).await?.caller;
        let end_all = async || {
            let scope = SessionScope::All.into();
            let request = RevokeSessionsRequest { scope };
            Ok(elsewhere.account().revoke_sessions(request).await.map(drop)?)
        };
        self.take("all sessions", &session, Attempt::ALL, end_all).await
    }

    /// By whoever runs the platform.
    async fn account_disabled(&self, person: &Member) -> Result<()> {
        let session = self.log_in(person).await?.caller;
        let job = self.job(person).await?;
        let callers = [(&session, Attempt::ALL), (&job, Attempt::FOR_A_JOB)];
        let command = async |verb: &str| {
            let arguments = [verb, "--email", &person.email, "--reason", "T13"];
            self.world.suite.auth_command(&arguments).await
        };
        let disable = async || command("disable-account").await;
        self.take_from("the account disabled", &callers, disable).await?;
        command("enable-account").await
    }

    /// A session in which none was shown, when the tenant begins to ask for one; and one in which it was, when it is removed.
    async fn second_factors(&self, person: &Member) -> Result<()> {
        let keeper = self.joins("keeper@acme.example", "tenant_admin").await?.caller;
        SecondFactor::set_up(&keeper, PASSWORD).await?;
        let is_asked_for = async |required| {
            keeper.login_policy().update_login_policy(policy(required)).await?;
            Ok(())
        };
        let without = self.log_in(person).await?.caller;
        let ask = async || is_asked_for(true).await;
        self.take("a second factor is asked for", &without, Attempt::ALL, ask)
            .await?;

        let with = self.log_in(person).await?.caller;
        let mut factor = SecondFactor::set_up(&with, PASSWORD).await?;
        let code = factor.recovery_codes.pop().context("a recovery code")?;
        let remove = async || {
            let request = RemoveSecondFactorRequest {
                current_password: PASSWORD.to_owned(),
                code,
            };
            Ok(with.account().remove_second_factor(request).await.map(drop)?)
        };
        self.take("the second factor removed", &with, Attempt::ALL, remove)
            .await?;
        is_asked_for(false).await
    }

    /// By mail; the old password is set again afterwards.
    async fn password_reset(&self, member: &Member) -> Result<()> {
        let session = self.log_in(member).await?.caller;
        for (new_password, session) in [(OTHER_PASSWORD, Some(session)), (PASSWORD, None)] {
            let token = self.link_for_reset(&member.email).await?;
            let reset = async || {
                let request = ResetPasswordRequest {
                    token,
                    new_password: new_password.to_owned(),
                };
                Ok(self.world.anyone.recovery().reset_password(request).await.map(drop)?)
            };
            match session {
                Some(session) => self.take("the password reset", &session, Attempt::ALL, reset).await?,
                None => reset().await?,
            }
        }
        Ok(())
    }

    /// The token of a link that was not mailed before.
    async fn link_for_reset(&self, email: &str) -> Result<String> {
        // That a password was changed is told by mail too.
        let is_link = |mail: &&Mail| mail.to.iter().any(|to| to == email) && mail.subject == SUBJECT;
        let before = self.world.suite.mails()?.iter().filter(is_link).count();
        let request = RequestPasswordResetRequest {
            email: email.to_owned(),
        };
        self.world.anyone.recovery().request_password_reset(request).await?;
        let mut token = None;
        wait::until("a link for a new password", journey::BACKGROUND_MAX, || {
            let found = self.world.suite.mails().and_then(|mails| {
                let newest = mails.iter().filter(is_link).nth(before);
                token = newest.map(journey::link_token).transpose()?;
                Ok(token.is_some())
            });
            async move { found }
        })
        .await?;
        token.context("the mail went away")
    }
}
