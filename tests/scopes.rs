//! The scope matrix: whose records each role reaches by each RPC that is about records with owners, on the running suite.
//! The snapshot is reviewed: a word that changes is somebody who sees more or less than before.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_proto::auth::v1::{CreateRoleRequest, CreateTeamRequest, Role, SetTeamMemberRequest, Team};
use rowhouse_proto::crm::v1::{
    Contact, DeleteContactRequest, GetContactRequest, ListContactsRequest, ReassignContactsRequest,
    UndeleteContactRequest, UpdateContactRequest,
};
use rowhouse_proto::policy::{PERMISSIONS, POLICIES};
use rowhouse_proto::well_known::FieldMask;
use rowhouse_proto::worker::v1::GetReportRequest;
use tonic::{Code, Status};

use crate::support::world::{Member, World};

/// RPCs that the matrix covers, in its order. `CreateContact` and `RunReport` make records of the caller's own; what
/// `StreamContacts` sends is what stands in the report.
const COVERED: &[&str] = &[
    "GetContact",
    "ListContacts",
    "ListContacts by filter",
    "UpdateContact",
    "ReassignContacts",
    "DeleteContact",
    "UndeleteContact",
    "StreamContacts",
    "GetReport",
    "DownloadReport",
    "CreateContact",
    "RunReport",
];

/// Somebody in the tenant with a contact and, where their role gives it, a report of their own.
struct Person {
    name: &'static str,
    member: Member,
    contact: Contact,
    report: Option<String>,
}

/// Everybody in the tenant.
struct Cast {
    people: Vec<Person>,
}

/// A team that somebody is in, and whether they manage it.
type Place = Option<(&'static str, bool)>;

/// Name and role of each person, and where they are.
const PEOPLE: &[(&str, &str, Place)] = &[
    ("lead", "manager", Some(("north", true))),
    ("mate", "rep", Some(("north", false))),
    ("below", "user", Some(("quay", false))),
    ("beside", "user", Some(("south", false))),
    ("loner", "manager", None),
    ("auditor", "auditor", Some(("north", false))),
];

/// Teams, and the one above each.
const TEAMS: &[(&str, &str)] = &[("north", ""), ("harbour", "north"), ("quay", "harbour"), ("south", "")];

impl Cast {
    async fn assemble(world: &World) -> Result<Self> {
        let (tenant, administrator) = world
            .tenant_in(rowhouse_proto::common::v1::Placement::Schema, "acme")
            .await?;
        for (name, permissions) in [
            ("rep", ["contacts:*@team", "reports:*@own"].as_slice()),
            (
                "auditor",
                &[
                    "contacts:read",
                    "contacts:update@own",
                    "contacts:create",
                    "contacts:export",
                    "reports:read",
                    "reports:run",
                ],
            ),
        ] {
            let role = Some(Role {
                name: name.to_owned(),
                display_name: name.to_owned(),
                permissions: permissions.iter().map(|text| (*text).to_owned()).collect(),
                ..Role::default()
            });
            let request = CreateRoleRequest {
                role,
                ..CreateRoleRequest::default()
            };
            administrator.caller.roles().create_role(request).await?;
        }
        let mut members = Vec::new();
        for (name, role, _) in PEOPLE {
            let address = format!("{name}@acme.example");
            journey::invite(&administrator.caller, &address, role).await?;
            members.push((*name, world.join(&tenant.id, &address).await?));
        }
        teams(&administrator.caller, &members).await?;
        members.insert(0, ("administrator", administrator));
        let mut people = Vec::new();
        for (name, member) in members {
            let contact = journey::create_contact(&member.caller, &format!("of {name}"), "").await?;
            people.push(Person {
                name,
                member,
                contact,
                report: None,
            });
        }
        // Only now, so that each report could hold everybody's contact.
        for person in &mut people {
            let caller = &person.member.caller;
            if !matches!(person.name, "below" | "beside") {
                let report = journey::run_report(caller).await?;
                journey::finished_report(caller, &report.id, journey::BACKGROUND_MAX).await?;
                person.report = Some(report.id);
            }
        }
        Ok(Self { people })
    }

    /// The names of those whose record `caller` reaches by an RPC.
    async fn reached(&self, caller: &Caller, rpc: &str) -> Result<String> {
        let mut names = Vec::new();
        for owner in &self.people {
            let is_reached = match rpc {
                "ReassignContacts" => self.gives(caller, owner).await?,
                _ => reaches(caller, rpc, owner).await?,
            };
            if is_reached {
                names.push(owner.name);
            }
        }
        Ok(if names.is_empty() {
            "-".to_owned()
        } else {
            names.join(" ")
        })
    }

    /// Whether there is anybody to whom `caller` can give the contacts of `owner`.
    async fn gives(&self, caller: &Caller, owner: &Person) -> Result<bool> {
        let others = self.people.iter().filter(|person| person.name != owner.name);
        for other in others {
            let request = ReassignContactsRequest {
                from_owner_id: owner.member.tokens.user_id.clone(),
                to_owner_id: other.member.tokens.user_id.clone(),
                validate_only: true,
                ..ReassignContactsRequest::default()
            };
            match caller.contacts().reassign_contacts(request).await {
                Ok(answer) if answer.get_ref().remaining_count > 0 => return Ok(true),
                Ok(_) => {}
                // Out of the caller's reach, or they may give nothing at all.
                Err(status) if matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied) => {}
                Err(status) => return Err(status.into()),
            }
        }
        Ok(false)
    }
}

async fn teams(administrator: &Caller, members: &[(&str, Member)]) -> Result<()> {
    let mut made: Vec<(&str, String)> = Vec::new();
    let mut teams = administrator.teams();
    for (name, above) in TEAMS {
        let parent = made.iter().find(|(made, _)| made == above);
        let team = Some(Team {
            display_name: (*name).to_owned(),
            parent_id: parent.map(|(_, id)| id.clone()).unwrap_or_default(),
            ..Team::default()
        });
        let request = CreateTeamRequest {
            team,
            ..CreateTeamRequest::default()
        };
        made.push((name, teams.create_team(request).await?.into_inner().id));
    }
    for (name, _, team) in PEOPLE {
        let Some((team, manager)) = team else { continue };
        let (_, team_id) = made.iter().find(|(made, _)| made == team).context("team")?;
        let (_, member) = members.iter().find(|(member, _)| member == name).context("member")?;
        let request = SetTeamMemberRequest {
            team_id: team_id.clone(),
            user_id: member.tokens.user_id.clone(),
            manager: *manager,
        };
        teams.set_team_member(request).await?;
    }
    Ok(())
}

/// Whether `caller` reaches the record of `owner` by an RPC. A refusal other than "there is none" ends the test, but for
/// the lack of the permission itself.
async fn reaches(caller: &Caller, rpc: &str, owner: &Person) -> Result<bool> {
    let (id, etag) = (owner.contact.id.clone(), String::new());
    let mut contacts = caller.contacts();
    let answer: Result<bool, Status> = match rpc {
        "GetContact" => contacts.get_contact(GetContactRequest { id }).await.map(|_| true),
        "ListContacts" => contacts
            .list_contacts(ListContactsRequest::default())
            .await
            .map(|page| page.get_ref().contacts.iter().any(|contact| contact.id == id)),
        "ListContacts by filter" => {
            let filter = format!("display_name = \"{}\"", owner.contact.display_name);
            let request = ListContactsRequest {
                filter,
                ..ListContactsRequest::default()
            };
            let page = contacts.list_contacts(request).await;
            page.map(|page| !page.get_ref().contacts.is_empty())
        }
        "UpdateContact" => {
            let request = UpdateContactRequest {
                contact: Some(Contact {
                    id,
                    job_title: "Changed".to_owned(),
                    ..Contact::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["job_title".to_owned()],
                }),
            };
            contacts.update_contact(request).await.map(|_| true)
        }
        "DeleteContact" => contacts
            .delete_contact(DeleteContactRequest { id, etag })
            .await
            .map(|_| true),
        "UndeleteContact" => {
            let undeleted = contacts.undelete_contact(UndeleteContactRequest { id, etag }).await;
            // One that is not deleted is reached all the same: an absent one would be NOT_FOUND.
            match undeleted {
                Err(status) if status.code() == Code::AlreadyExists => Ok(true),
                other => other.map(|_| true),
            }
        }
        "GetReport" => match &owner.report {
            None => Ok(false),
            Some(id) => {
                let id = id.clone();
                caller.reports().get_report(GetReportRequest { id }).await.map(|_| true)
            }
        },
        "DownloadReport" => match &owner.report {
            None => Ok(false),
            Some(id) => download(caller, id).await.map(|_| true),
        },
        _ => bail!("{rpc} is not in the matrix"),
    };
    match answer {
        Ok(reached) => Ok(reached),
        Err(status) if matches!(status.code(), Code::NotFound | Code::PermissionDenied) => Ok(false),
        Err(status) => Err(status.into()),
    }
}

async fn download(caller: &Caller, id: &str) -> Result<String, Status> {
    let request = rowhouse_proto::worker::v1::DownloadReportRequest { id: id.to_owned() };
    let mut chunks = caller.reports().download_report(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        bytes.extend_from_slice(&chunk.chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_records_each_role_reaches_is_as_reviewed() -> Result<()> {
    let world = World::start("scopes").await?;
    let cast = Cast::assemble(&world).await?;
    let mut matrix = String::new();
    let reader = &cast.people.first().context("administrator")?.member.caller;
    for person in &cast.people {
        writeln!(matrix, "{}", person.name)?;
        let caller = &person.member.caller;
        for rpc in COVERED
            .iter()
            .filter(|rpc| !matches!(**rpc, "CreateContact" | "RunReport" | "StreamContacts"))
        {
            writeln!(matrix, "    {rpc}: {}", cast.reached(caller, rpc).await?)?;
        }
        restore(&cast, reader).await?;
        if let Some(report) = &person.report {
            let file = download(reader, report).await?;
            let held = cast
                .people
                .iter()
                .filter(|owner| file.contains(&format!("of {}", owner.name)));
            let names: Vec<&str> = held.map(|owner| owner.name).collect();
            writeln!(matrix, "    StreamContacts, in the report: {}", names.join(" "))?;
        }
    }
    insta::assert_snapshot!(matrix);
    Ok(())
}

/// Brings back what the caller before could delete and not bring back.
async fn restore(cast: &Cast, reader: &Caller) -> Result<()> {
    for person in &cast.people {
        ensure!(
            reaches(reader, "UndeleteContact", person).await?,
            "the administrator reaches every contact"
        );
    }
    Ok(())
}

/// An RPC about records with owners that the matrix does not cover fails here.
#[test]
fn every_rpc_about_records_with_owners_is_in_the_matrix() {
    let scoped = |permission: &str| PERMISSIONS.iter().any(|known| known.name == permission && known.scoped);
    for policy in POLICIES.iter().filter(|policy| policy.permission.is_some_and(scoped)) {
        let rpc = policy.path.rsplit('/').next().unwrap_or_default();
        assert!(COVERED.contains(&rpc), "{} is not in the matrix", policy.path);
    }
}
