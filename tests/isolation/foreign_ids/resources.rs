//! What the fixtures name: for each kind of resource one of the caller's own, one that was deleted, one of another tenant.

use anyhow::Result;
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_proto::auth::v1 as auth;
use rowhouse_proto::crm::v1 as crm;
use rowhouse_types::{
    ApiKeyId, ContactId, InvitationId, ReportId, ServiceAccountId, SessionId, TeamId, TenantId, UserId,
};

use crate::support::world::{House, World};

/// Ids of one kind.
pub(super) struct Kind {
    /// Of the caller's tenant.
    pub(super) own: String,
    /// Of the caller's tenant once more: for the RPC that takes it away.
    pub(super) spare: String,
    /// Of the caller's tenant, deleted, where there is such a thing.
    pub(super) deleted: Option<String>,
    /// Of another tenant.
    pub(super) foreign: String,
    /// Makes one that never was.
    pub(super) random: fn() -> String,
}

/// Resources that the fixtures name.
pub(super) struct Resources {
    pub(super) contact: Kind,
    /// A deleted contact, which is brought back.
    pub(super) undeleted_contact: String,
    pub(super) report: Kind,
    /// Plain members; the spare one administers the tenant alone, the deleted one was removed.
    pub(super) user: Kind,
    /// The plain members' e-mail address.
    pub(super) email: String,
    /// An administrator of the other tenant, who owns its contact.
    pub(super) foreign_owner: String,
    /// Sessions of the plain members; the spare one is the administrator's.
    pub(super) session: Kind,
    pub(super) tenant: Kind,
    /// The plain member and the administrator are in the own one.
    pub(super) team: Kind,
    pub(super) invitation: Kind,
    pub(super) robot: Kind,
    pub(super) key: Kind,
}

// === impl Kind ===

impl Kind {
    /// Ids without anything behind them.
    fn imagined(random: fn() -> String) -> Self {
        Self {
            own: random(),
            spare: random(),
            deleted: Some(random()),
            foreign: random(),
            random,
        }
    }
}

fn contact() -> String {
    ContactId::generate().to_string()
}

fn report() -> String {
    ReportId::generate().to_string()
}

fn user() -> String {
    UserId::generate().to_string()
}

fn session() -> String {
    SessionId::generate().to_string()
}

fn tenant() -> String {
    TenantId::generate().to_string()
}

fn team() -> String {
    TeamId::generate().to_string()
}

fn invitation() -> String {
    InvitationId::generate().to_string()
}

fn robot() -> String {
    ServiceAccountId::generate().to_string()
}

fn key() -> String {
    ApiKeyId::generate().to_string()
}

// === impl Resources ===

impl Resources {
    pub(super) async fn make(world: &World, own: &House, other: &House) -> Result<Self> {
        let (mine, theirs) = (&own.administrator.caller, &other.administrator.caller);
        // Reports are made while the rest is.
        let (own_report, foreign_report) = (journey::run_report(mine).await?, journey::run_report(theirs).await?);
        let (robot, key) = robots(mine, theirs).await?;
        let user = users(own, other).await?;
        let spare_session = world.log_in(&own.tenant.id, &own.administrator.email).await?;
        let resources = Self {
            contact: contacts(mine, theirs).await?,
            undeleted_contact: deleted_contact(mine).await?,
            report: Kind {
                own: own_report.id,
                foreign: foreign_report.id,
                // Reports are not deleted.
                deleted: None,
                ..Kind::imagined(report)
            },
            team: teams(mine, theirs, &user).await?,
            user,
            email: own.user.email.clone(),
            foreign_owner: other.administrator.tokens.user_id.clone(),
            session: Kind {
                own: own.user.tokens.session_id.clone(),
                spare: spare_session.tokens.session_id,
                // It ended when its member was removed.
                deleted: Some(own.manager.tokens.session_id.clone()),
                foreign: other.user.tokens.session_id.clone(),
                random: session,
            },
            tenant: Kind {
                own: own.tenant.id.clone(),
                foreign: other.tenant.id.clone(),
                // How a tenant ends, T26 tries.
                deleted: None,
                ..Kind::imagined(tenant)
            },
            invitation: invitations(own, other).await?,
            robot,
            key,
        };
        for (caller, report) in [(mine, &resources.report.own), (theirs, &resources.report.foreign)] {
            journey::finished_report(caller, report, journey::BACKGROUND_MAX).await?;
        }
        Ok(resources)
    }

    /// Ids without a suite behind them, for looking at the fixtures alone.
    pub(super) fn imagined() -> Self {
        Self {
            contact: Kind::imagined(contact),
            undeleted_contact: contact(),
            report: Kind::imagined(report),
            user: Kind::imagined(user),
            email: "user@own.example".to_owned(),
            foreign_owner: user(),
            session: Kind::imagined(session),
            tenant: Kind::imagined(tenant),
            team: Kind::imagined(team),
            invitation: Kind::imagined(invitation),
            robot: Kind::imagined(robot),
            key: Kind::imagined(key),
        }
    }
}

async fn contacts(mine: &Caller, theirs: &Caller) -> Result<Kind> {
    let foreign = journey::create_contact(theirs, "Foreign Canary", "canary@other.example").await?;
    Ok(Kind {
        own: journey::create_contact(mine, "Own", "own@own.example").await?.id,
        spare: journey::create_contact(mine, "Spare", "spare@own.example").await?.id,
        deleted: Some(deleted_contact(mine).await?),
        foreign: foreign.id,
        random: contact,
    })
}

async fn deleted_contact(mine: &Caller) -> Result<String> {
    let id = journey::create_contact(mine, "Deleted", "deleted@own.example")
        .await?
        .id;
    let delete = crm::DeleteContactRequest {
        id: id.clone(),
        etag: String::new(),
    };
    mine.contacts().delete_contact(delete).await?;
    Ok(id)
}

/// The manager is taken out of the tenant.
async fn users(own: &House, other: &House) -> Result<Kind> {
    let removed = own.manager.tokens.user_id.clone();
    let remove = auth::RemoveMemberRequest {
        user_id: removed.clone(),
        etag: String::new(),
    };
    own.administrator.caller.members().remove_member(remove).await?;
    Ok(Kind {
        own: own.user.tokens.user_id.clone(),
        spare: own.administrator.tokens.user_id.clone(),
        deleted: Some(removed),
        foreign: other.user.tokens.user_id.clone(),
        random: user,
    })
}

async fn teams(mine: &Caller, theirs: &Caller, user: &Kind) -> Result<Kind> {
    let own = new_team(mine, "Own").await?;
    for user_id in [&user.own, &user.spare] {
        let member = auth::SetTeamMemberRequest {
            team_id: own.clone(),
            user_id: user_id.clone(),
            manager: false,
        };
        mine.teams().set_team_member(member).await?;
    }
    let deleted = new_team(mine, "Deleted").await?;
    let delete = auth::DeleteTeamRequest {
        id: deleted.clone(),
        etag: String::new(),
    };
    mine.teams().delete_team(delete).await?;
    Ok(Kind {
        own,
        spare: new_team(mine, "Spare").await?,
        deleted: Some(deleted),
        foreign: new_team(theirs, "Canaries").await?,
        random: team,
    })
}

async fn new_team(administrator: &Caller, name: &str) -> Result<String> {
    let team = Some(auth::Team {
        display_name: name.to_owned(),
        ..auth::Team::default()
    });
    let request = auth::CreateTeamRequest {
        team,
        ..auth::CreateTeamRequest::default()
    };
    let created = administrator.teams().create_team(request).await?;
    Ok(created.into_inner().id)
}

async fn invitations(own: &House, other: &House) -> Result<Kind> {
    let revoked = new_invitation(own, "revoked").await?;
    let revoke = auth::RevokeInvitationRequest {
        invitation_id: revoked.clone(),
    };
    own.administrator.caller.members().revoke_invitation(revoke).await?;
    Ok(Kind {
        own: new_invitation(own, "invited").await?,
        spare: new_invitation(own, "spare").await?,
        deleted: Some(revoked),
        foreign: new_invitation(other, "invited").await?,
        random: invitation,
    })
}

async fn new_invitation(house: &House, name: &str) -> Result<String> {
    let invite = auth::InviteMemberRequest {
        email: format!("{name}@{}.example", house.tenant.slug),
        role: "user".to_owned(),
        request_id: String::new(),
    };
    let invited = house.administrator.caller.members().invite_member(invite).await?;
    Ok(invited.into_inner().id)
}

/// Service accounts, and a key of each.
async fn robots(mine: &Caller, theirs: &Caller) -> Result<(Kind, Kind)> {
    let (own, own_key) = new_robot(mine, "Own").await?;
    let (spare, spare_key) = new_robot(mine, "Spare").await?;
    let (deleted, deleted_key) = new_robot(mine, "Deleted").await?;
    let (foreign, foreign_key) = new_robot(theirs, "Canary").await?;
    let delete = auth::DeleteServiceAccountRequest {
        id: deleted.clone(),
        etag: String::new(),
    };
    mine.service_accounts().delete_service_account(delete).await?;
    let robots = Kind {
        own,
        spare,
        deleted: Some(deleted),
        foreign,
        random: robot,
    };
    let keys = Kind {
        own: own_key,
        spare: spare_key,
        // It went with its account. One that was revoked is there still.
        deleted: Some(deleted_key),
        foreign: foreign_key,
        random: key,
    };
    Ok((robots, keys))
}

async fn new_robot(administrator: &Caller, name: &str) -> Result<(String, String)> {
    let mut accounts = administrator.service_accounts();
    let service_account = Some(auth::ServiceAccount {
        display_name: name.to_owned(),
        role: "user".to_owned(),
        ..auth::ServiceAccount::default()
    });
    let request = auth::CreateServiceAccountRequest {
        service_account,
        ..auth::CreateServiceAccountRequest::default()
    };
    let created = accounts.create_service_account(request).await?;
    let id = created.into_inner().id;
    let key = auth::CreateApiKeyRequest {
        service_account_id: id.clone(),
        lifetime_days: 1,
        ..auth::CreateApiKeyRequest::default()
    };
    let key = accounts.create_api_key(key).await?.into_inner();
    Ok((id, key.api_key.unwrap_or_default().id))
}
