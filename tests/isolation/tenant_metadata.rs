//! T04: every RPC of every service, public and internal, with every way to misuse `x-tenant-id`: those of a table, and some that
//! nobody has thought of.

use anyhow::{Result, ensure};
use rowhouse_context::ServiceName;
use rowhouse_devkit::suite::Listener;
use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_proto::policy::{Audience, POLICIES, Policy};
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::raw;
use crate::support::services;
use crate::support::world::{House, World};

/// Reasons with which a call is refused for its tenant metadata.
const REFUSALS: &[&str] = &["TENANT_MISMATCH", "TENANT_METADATA_INVALID", "TENANT_UNEXPECTED"];

struct Variant {
    name: &'static str,
    /// The entries to send, for one's own tenant and another.
    entries: fn(own: &str, other: &str) -> Entries,
    /// Whether an RPC for a tenant accepts it.
    good: bool,
}

const VARIANTS: &[Variant] = &[
    Variant {
        name: "equal",
        entries: |own, _| vec![("x-tenant-id", own.to_owned())],
        good: true,
    },
    Variant {
        name: "other",
        entries: |_, other| vec![("x-tenant-id", other.to_owned())],
        good: false,
    },
    Variant {
        name: "equal twice",
        entries: |own, _| vec![("x-tenant-id", own.to_owned()), ("x-tenant-id", own.to_owned())],
        good: false,
    },
    Variant {
        name: "equal and other",
        entries: |own, other| vec![("x-tenant-id", own.to_owned()), ("x-tenant-id", other.to_owned())],
        good: false,
    },
    Variant {
        name: "binary",
        entries: |own, _| vec![("x-tenant-id-bin", own.to_owned())],
        good: false,
    },
    Variant {
        name: "equal and binary other",
        entries: |own, other| vec![("x-tenant-id", own.to_owned()), ("x-tenant-id-bin", other.to_owned())],
        good: false,
    },
    Variant {
        name: "upper case",
        entries: |own, _| vec![("x-tenant-id", own.to_uppercase())],
        good: false,
    },
    Variant {
        name: "empty",
        entries: |_, _| vec![("x-tenant-id", String::new())],
        good: false,
    },
    Variant {
        name: "8 KiB",
        entries: |own, _| vec![("x-tenant-id", own.repeat(8_192 / own.len()))],
        good: false,
    },
    Variant {
        name: "a list",
        entries: |own, other| vec![("x-tenant-id", format!("{own},{other}"))],
        good: false,
    },
];

/// Misuses that are made up for each RPC, in the short form and in the long one.
const INVENTED: [usize; 2] = [2, 40];

type Entries = Vec<(&'static str, String)>;

/// What a TypeID is written in: Crockford's base 32, in lower case.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Digits of a TypeID that tell when it was made, in milliseconds; the others are random.
const TIME_DIGITS: usize = 10;

/// Entries that no RPC may accept. None is `own` alone.
fn invented(dice: &mut Dice, own: &str, other: &str) -> Entries {
    const KEY: &str = "x-tenant-id";
    let prefix = own.find('_').map_or(0, |at| at + 1);
    let at = prefix + dice.below(own.len() - prefix);
    let digit = char::from(DIGITS[dice.below(DIGITS.len())]);
    let one = |text: String| vec![(KEY, text)];
    match dice.below(10) {
        // Another tenant, perhaps one that there is no id for. Where the digit is the same by chance, the case is not.
        0 if !own[at..].starts_with(digit) => one(format!("{}{digit}{}", &own[..at], &own[at + 1..])),
        0 => one(own.to_uppercase()),
        1 => one(format!("{}{digit}{}", &own[..at], &own[at..])),
        2 => one(own[..at].to_owned()),
        3 => one(format!(
            "{}_{}",
            ["user", "session", "tenant_", "Tenant", ""][dice.below(5)],
            &own[prefix..]
        )),
        4 => {
            let between = [",", ", ", ";", " ", "\t", "%2C", "|"][dice.below(7)];
            let (first, second) = if dice.percent(50) { (own, other) } else { (own, own) };
            one(format!("{first}{between}{second}"))
        }
        // The right one among others, in any order.
        5 => {
            let mut entries: Entries = vec![(KEY, own.to_owned()); 1 + dice.below(3)];
            let at = dice.below(entries.len() + 1);
            entries.insert(at, (KEY, other.to_owned()));
            entries
        }
        6 => vec![(KEY, own.to_owned()); 2 + dice.below(4)],
        // The half of each.
        7 => one(format!(
            "{}{}",
            &own[..prefix + TIME_DIGITS],
            &other[prefix + TIME_DIGITS..]
        )),
        8 => {
            let bytes: String = (0..1 + dice.below(40))
                .map(|_| char::from(DIGITS[dice.below(32)]))
                .collect();
            vec![(KEY, own.to_owned()), ("x-tenant-id-bin", bytes)]
        }
        _ => one([
            "*",
            "null",
            "undefined",
            "0",
            "00000000-0000-0000-0000-000000000000",
            "tenant_",
            "-",
        ][dice.below(7)]
        .to_owned()),
    }
}

fn metadata(token: Option<&str>, service: Option<&str>, entries: Entries) -> MetadataMap {
    let mut map = MetadataMap::new();
    if let Some(token) = token {
        map.insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    if let Some(token) = service {
        map.insert("x-service-authorization", token.parse().unwrap());
    }
    for (key, value) in entries {
        if key.ends_with("-bin") {
            map.append_bin(key, BinaryMetadataValue::from_bytes(value.as_bytes()));
        } else {
            map.append(key, value.parse().unwrap());
        }
    }
    map
}

fn reason(status: &Status) -> String {
    status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

/// How each RPC is called: on which listener, with whose token.
async fn callers(world: &World, house: &House, policy: &Policy) -> Result<(Listener, Option<String>, Option<String>)> {
    let member = Some(house.administrator.tokens.access_token.clone());
    Ok(match policy.audience {
        Audience::Public => (Listener::Public, None, None),
        Audience::Tenant | Audience::OneSelf => (Listener::Public, member, None),
        Audience::Platform => (
            Listener::Public,
            Some(world.operator_tokens().await?.access_token),
            None,
        ),
        Audience::Internal => {
            let caller: ServiceName = policy.callers[0].parse()?;
            let target = match raw::process(policy.path) {
                rowhouse_devkit::suite::Process::Tenant => ServiceName::Tenant,
                rowhouse_devkit::suite::Process::Auth => ServiceName::Auth,
                rowhouse_devkit::suite::Process::Worker => ServiceName::Worker,
                _ => ServiceName::Crm,
            };
            let user = if policy.permission.is_some() {
                Some(services::job_token(world, &house.tenant.id, &house.administrator).await?)
            } else {
                None
            };
            (
                Listener::Internal,
                user,
                Some(services::token(&world.suite, caller, target)?),
            )
        }
    })
}

/// Whether an answer is a refusal for the tenant metadata, or a call that nobody is let into.
fn is_refused(answer: &Result<usize, Status>, is_barred: bool) -> bool {
    answer
        .as_ref()
        .err()
        .map(reason)
        .is_some_and(|reason| REFUSALS.contains(&reason.as_str()) || is_barred && reason == "AUDIENCE_MISMATCH")
}

/// One RPC as its rightful caller calls it.
struct Rpc<'a> {
    world: &'a World,
    own: &'a House,
    policy: &'a Policy,
    channel: Channel,
    user: Option<String>,
    service: Option<String>,
}

impl<'a> Rpc<'a> {
    async fn new(world: &'a World, own: &'a House, policy: &'a Policy) -> Result<Self> {
        let (listener, user, service) = callers(world, own, policy).await?;
        Ok(Self {
            channel: raw::channel(&world.suite, policy.path, listener),
            world,
            own,
            policy,
            user,
            service,
        })
    }

    /// For its own work auth signs tokens itself, and nobody is given one: the worker's opens nothing.
    fn is_barred(&self) -> bool {
        self.policy.permission.is_some() && self.policy.callers == ["auth"]
    }

    /// Whether it accepts the tenant that the token names.
    fn accepts_own(&self) -> bool {
        let of_tenant = match self.policy.audience {
            Audience::Tenant | Audience::OneSelf => true,
            Audience::Internal => self.policy.permission.is_some(),
            Audience::Public | Audience::Platform => false,
        };
        of_tenant && !self.is_barred()
    }

    async fn call(&self, entries: Entries) -> Result<Result<usize, Status>> {
        // A log-out ends the session it is called with: each call of it gets a session of its own.
        let fresh = if self.policy.path.ends_with("/Logout") {
            let (id, email) = (&self.own.tenant.id, &self.own.administrator.email);
            Some(self.world.log_in(id, email).await?.tokens.access_token)
        } else {
            None
        };
        let token = fresh.as_deref().or(self.user.as_deref());
        let map = metadata(token, self.service.as_deref(), entries);
        let answer = raw::call(&self.channel, self.policy.path, map, &[]).await;
        Ok(answer.map(|parts| parts.len()))
    }

    /// Calls it without the entry; the fault where that is refused for its lack.
    async fn without(&self) -> Result<Option<String>> {
        let answer = self.call(Vec::new()).await?;
        let told = answer.as_ref().err().map(reason);
        if self.is_barred() {
            let opened = told.as_deref() != Some("AUDIENCE_MISMATCH");
            return Ok(opened.then(|| format!("{}: opened by a token for another service's work", self.policy.path)));
        }
        let unauthenticated = answer
            .as_ref()
            .is_err_and(|status| status.code() == Code::Unauthenticated);
        let refused = is_refused(&answer, false) || unauthenticated && self.user.is_some();
        Ok(refused.then(|| format!("{}: refused without x-tenant-id: {answer:?}", self.policy.path)))
    }

    /// Calls it with these entries; the fault where they are refused and should not be, or the other way round.
    async fn with(&self, name: &str, entries: Entries, is_good: bool) -> Result<Option<String>> {
        let answer = self.call(entries).await?;
        let accepts = is_good && self.accepts_own();
        let is_wrong = is_refused(&answer, self.is_barred()) == accepts;
        Ok(is_wrong.then(|| format!("{} with {name}: {answer:?}", self.policy.path)))
    }
}

async fn round(torture: &mut Torture, mut dice: Dice) -> Result<()> {
    let world = World::start("t04").await?;
    let own = world.house("own").await?;
    let other = world.house("other").await?;
    let (own_id, other_id) = (own.tenant.id.as_str(), other.tenant.id.as_str());
    let [short, long] = INVENTED;
    let (mut faults, mut noticed) = (Vec::new(), 0);
    for policy in POLICIES {
        let rpc = Rpc::new(&world, &own, policy).await?;
        faults.extend(rpc.without().await?);
        for variant in VARIANTS {
            let entries = (variant.entries)(own_id, other_id);
            faults.extend(rpc.with(variant.name, entries, variant.good).await?);
        }
        for _ in 0..torture.size(short, long) {
            let entries = invented(&mut dice, own_id, other_id);
            faults.extend(rpc.with(&format!("{entries:?}"), entries.clone(), false).await?);
        }
        torture.trials(VARIANTS.len() + torture.size(short, long));
        // The control: the right entry, judged as if it were a misuse, is one that was let in.
        if rpc.accepts_own() {
            let entries = vec![("x-tenant-id", own_id.to_owned())];
            let fault = rpc.with("the right one", entries, false).await?;
            ensure!(
                fault.is_some(),
                "{}: an entry that is let in is not noticed",
                policy.path
            );
            noticed += 1;
        }
    }
    ensure!(noticed > 20, "only {noticed} RPCs are for tenants");
    ensure!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

#[tokio::test]
async fn no_rpc_accepts_a_tenant_that_the_token_does_not_name() -> Result<()> {
    let mut torture = Torture::begin("T04", "tenant metadata");
    while let Some(dice) = torture.round() {
        round(&mut torture, dice).await?;
    }
    Ok(())
}
