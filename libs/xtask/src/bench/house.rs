//! A tenant of the running suite that is one run's own.

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_devkit::resident::Resident;
use rowhouse_proto::auth::v1::TokenPair;
use rowhouse_proto::tenant::v1::Tenant;

use super::unique;
use crate::{demo, seed};

/// The tenant, and who may act in it.
pub(super) struct House<'a> {
    pub(super) resident: &'a Resident,
    pub(super) anyone: Caller,
    pub(super) tenant: Tenant,
    /// Address of the first administrator.
    pub(super) administrator: String,
    slug: String,
}

// === impl House ===

impl<'a> House<'a> {
    /// Creates the tenant; its administrator has accepted the invitation. Refused where the suite is not optimised, as the
    /// references are.
    pub(super) async fn open(resident: &'a Resident) -> Result<Self> {
        ensure!(
            resident.is_release(),
            "the suite is no release: `cargo xtask up --release`"
        );
        let anyone = Caller::anonymous(demo::endpoints(resident)?);
        let operator = demo::operator_log_in(resident, &anyone).await?;
        let slug = unique("bench");
        let administrator = format!("ada@{slug}.example");
        let tenant = journey::create_tenant(&operator, &slug, "Bench Ltd", &administrator).await?;
        seed::join(resident, &anyone, &tenant, &administrator).await?;
        Ok(Self {
            resident,
            anyone,
            tenant,
            administrator,
            slug,
        })
    }

    /// Logs a member in. An access token lasts five minutes, so whoever measures for long does this again.
    pub(super) async fn log_in(&self, email: &str) -> Result<TokenPair> {
        journey::log_in(&self.anyone, email, seed::PASSWORD, &self.tenant.id).await
    }

    /// The administrator, freshly logged in.
    pub(super) async fn ada(&self) -> Result<Caller> {
        let tokens = self.log_in(&self.administrator).await?;
        self.anyone.with_token(&tokens.access_token)
    }

    /// So many more members with a role; answers their addresses.
    pub(super) async fn join(&self, count: usize, role: &str) -> Result<Vec<String>> {
        let ada = self.ada().await?;
        let emails: Vec<String> = (0..count)
            .map(|number| format!("{role}{number}@{}.example", self.slug))
            .collect();
        for email in &emails {
            journey::invite(&ada, email, role).await?;
        }
        for email in &emails {
            let mail = demo::wait_for_mail(self.resident, email, "#token=").await?;
            let token = journey::link_token(&mail)?;
            journey::accept(&self.anyone, &token, "Demo Member", seed::PASSWORD)
                .await
                .with_context(|| email.clone())?;
        }
        Ok(emails)
    }
}
