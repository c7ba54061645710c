//! A running suite with an operator, and tenants with one member of each role.

use anyhow::{Context as _, Result};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_devkit::suite::{Options, Suite};
use rowhouse_proto::auth::v1::{Impersonation, StartImpersonationRequest, TokenPair};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::tenant::v1::Tenant;

/// E-mail address of the platform's first operator.
pub(crate) const OPERATOR: &str = "operator@rowhouse.example";
/// Password of every member in these tests.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Every placement that a tenant can have.
pub(crate) const PLACEMENTS: [Placement; 3] = [Placement::Schema, Placement::Shared, Placement::Database];

/// A slug, and a plan's name, of which there is one in each placement.
pub(crate) fn slug_in(placement: Placement, name: &str) -> String {
    let placement = placement.as_str_name().to_lowercase().replace('_', "-");
    format!("{name}-{placement}")
}

/// A running suite.
pub(crate) struct World {
    pub(crate) suite: Suite,
    pub(crate) anyone: Caller,
    pub(crate) operator: Caller,
    pub(crate) operator_password: String,
}

/// A tenant with one member of each role.
pub(crate) struct House {
    pub(crate) tenant: Tenant,
    pub(crate) administrator: Member,
    pub(crate) manager: Member,
    pub(crate) user: Member,
}

/// A member who has logged in.
pub(crate) struct Member {
    pub(crate) email: String,
    pub(crate) tokens: TokenPair,
    pub(crate) caller: Caller,
}

impl World {
    /// Starts a suite and logs its operator in.
    pub(crate) async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, Options::default()).await
    }

    /// As [`World::start`], with differences.
    pub(crate) async fn start_with(name: &str, options: Options) -> Result<Self> {
        let suite = Suite::start_with(name, options).await?;
        let anyone = Caller::anonymous(suite.endpoints()?);
        let operator_password = suite.bootstrap_admin(OPERATOR).await?;
        let tokens = journey::log_in(&anyone, OPERATOR, &operator_password, "").await?;
        let operator = anyone.with_token(&tokens.access_token)?;
        Ok(Self {
            suite,
            anyone,
            operator,
            operator_password,
        })
    }

    /// Logs the operator in once more.
    pub(crate) async fn operator_tokens(&self) -> Result<TokenPair> {
        journey::log_in(&self.anyone, OPERATOR, &self.operator_password, "").await
    }

    /// The operator acts as a member from now on.
    pub(crate) async fn as_member(&self, house: &House, member: &Member) -> Result<Impersonation> {
        let request = StartImpersonationRequest {
            tenant_id: house.tenant.id.clone(),
            user_id: member.tokens.user_id.clone(),
            reason: "a complaint".to_owned(),
            duration: None,
        };
        Ok(self
            .operator
            .impersonation()
            .start_impersonation(request)
            .await?
            .into_inner())
    }

    /// Creates a tenant with an administrator, a manager and a user.
    pub(crate) async fn house(&self, slug: &str) -> Result<House> {
        self.house_in(Placement::Schema, slug).await
    }

    /// As [`World::house`], in any placement.
    pub(crate) async fn house_in(&self, placement: Placement, slug: &str) -> Result<House> {
        let address = |role: &str| format!("{role}@{slug}.example");
        let (tenant, administrator) = self.tenant_in(placement, slug).await?;
        journey::invite(&administrator.caller, &address("manager"), "manager").await?;
        journey::invite(&administrator.caller, &address("user"), "user").await?;
        let manager = self.join(&tenant.id, &address("manager")).await?;
        let user = self.join(&tenant.id, &address("user")).await?;
        Ok(House {
            tenant,
            administrator,
            manager,
            user,
        })
    }

    /// Creates a tenant with an administrator and a user.
    pub(crate) async fn pair_in(&self, placement: Placement, slug: &str) -> Result<(Tenant, Member, Member)> {
        let (tenant, administrator) = self.tenant_in(placement, slug).await?;
        let address = format!("user@{slug}.example");
        journey::invite(&administrator.caller, &address, "user").await?;
        let user = self.join(&tenant.id, &address).await?;
        Ok((tenant, administrator, user))
    }

    /// Creates a tenant with an administrator alone.
    pub(crate) async fn tenant_in(&self, placement: Placement, slug: &str) -> Result<(Tenant, Member)> {
        let (name, address) = (format!("{slug} Ltd"), format!("administrator@{slug}.example"));
        let tenant = journey::create_tenant_in(&self.operator, placement, slug, &name, &address).await?;
        let administrator = self.join(&tenant.id, &address).await?;
        Ok((tenant, administrator))
    }

    /// Reads the invitation's mail, accepts and logs in.
    pub(crate) async fn join(&self, tenant_id: &str, email: &str) -> Result<Member> {
        let mail = self
            .suite
            .wait_for_mail(email, journey::BACKGROUND_MAX, |_| true)
            .await
            .context("the invitation's mail")?;
        journey::accept(&self.anyone, &journey::link_token(&mail)?, "A Member", PASSWORD).await?;
        self.log_in(tenant_id, email).await
    }

    /// Logs a member in.
    pub(crate) async fn log_in(&self, tenant_id: &str, email: &str) -> Result<Member> {
        let tokens = journey::log_in(&self.anyone, email, PASSWORD, tenant_id).await?;
        let caller = self.anyone.with_token(&tokens.access_token)?;
        Ok(Member {
            email: email.to_owned(),
            tokens,
            caller,
        })
    }
}
