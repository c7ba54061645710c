//! Data servers between proto and domain.

use rowhouse_proto::tenant::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_proto::well_known::FieldMask;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{Placement, ServerName};

use super::{Capacity, Change, Labels, PLACEMENTS, Server, State, Traits};
use crate::tenant::Reason;
use crate::tenant::wire::{placement_from_wire, placement_to_wire};

/// What an operator may change.
const CHANGEABLE: [&str; 4] = ["address", "labels", "placements", "tenants_max"];

/// Reads a request to register a server.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn traits(request: proto::RegisterServerRequest) -> Result<Traits, Failure> {
    let Some(server) = request.server else {
        return Err(Failure::field("server", "must be set"));
    };
    let mut violations = Violations::default();
    let name = violations.take("server.name", read_name(&server.name));
    let address = violations.take("server.address", server.address.parse());
    let labels = violations.take("server.labels", Labels::parse(server.labels));
    let placements = violations.take("server.placements", placements(&server.placements));
    let capacity = violations.take("server.tenants_max", Capacity::parse_or_default(server.tenants_max));
    let read = (|| {
        Some(Traits {
            name: name?,
            address: address?,
            labels: labels?,
            placements: placements?,
            tenants_max: capacity?,
        })
    })();
    violations.finish(read)
}

/// Reads a request to change a server.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn change(request: proto::UpdateServerRequest) -> Result<Change, Failure> {
    let Some(server) = request.server else {
        return Err(Failure::field("server", "must be set"));
    };
    let mut violations = Violations::default();
    let paths = paths(&mut violations, request.update_mask);
    let named = |path: &str| paths.iter().any(|named| named == path);
    let name = violations.take("server.name", read_name(&server.name));
    let address = named("address").then(|| violations.take("server.address", server.address.parse()));
    let labels = named("labels").then(|| violations.take("server.labels", Labels::parse(server.labels)));
    let placements = named("placements").then(|| violations.take("server.placements", placements(&server.placements)));
    let capacity =
        named("tenants_max").then(|| violations.take("server.tenants_max", Capacity::parse(server.tenants_max)));
    let etag = (!server.etag.is_empty()).then(|| violations.take("server.etag", server.etag.parse()));
    let read = name.map(|name| Change {
        name,
        address: address.flatten(),
        labels: labels.flatten(),
        placements: placements.flatten(),
        tenants_max: capacity.flatten(),
        etag: etag.flatten(),
    });
    violations.finish(read)
}

/// Reads a server's name.
///
/// # Errors
/// A violation of `name`.
pub(crate) fn name(text: &str) -> Result<ServerName, Failure> {
    read_name(text).map_err(|fault| Failure::field("name", fault))
}

/// Reads a server's name and why an operator does something to it.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn name_and_reason(name: &str, reason: &str) -> Result<(ServerName, Reason), Failure> {
    let mut violations = Violations::default();
    let name = violations.take("name", read_name(name));
    let reason = violations.take("reason", Reason::parse_required(reason));
    violations.finish(name.zip(reason))
}

/// Writes a server.
pub(crate) fn server(server: &Server) -> proto::Server {
    let traits = &server.traits;
    proto::Server {
        name: traits.name.to_string(),
        address: traits.address.as_str().to_owned(),
        state: state(server.state).into(),
        labels: traits.labels.pairs().clone().into_iter().collect(),
        placements: traits
            .placements
            .iter()
            .map(|one| placement_to_wire(*one).into())
            .collect(),
        tenants_max: traits.tenants_max.tenants(),
        tenants: server.tenants,
        create_time: Some(timestamp(server.created_at)),
        update_time: Some(timestamp(server.updated_at)),
        etag: server.etag.to_string(),
    }
}

fn read_name(text: &str) -> Result<ServerName, &'static str> {
    let name = text.parse();
    name.map_err(|_| "must be 1 to 40 of a-z, 0-9 and '-', beginning with a letter")
}

/// All where none is named.
fn placements(numbers: &[i32]) -> Result<Vec<Placement>, &'static str> {
    let named: Vec<Placement> = numbers
        .iter()
        .map(|number| placement_from_wire(*number).ok_or("must be known placements"))
        .collect::<Result<_, _>>()?;
    let kept = PLACEMENTS
        .into_iter()
        .filter(|one| named.is_empty() || named.contains(one));
    Ok(kept.collect())
}

/// The paths that a mask names, all where it is absent or empty (AIP-134).
fn paths(violations: &mut Violations, mask: Option<FieldMask>) -> Vec<String> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        return CHANGEABLE.map(str::to_owned).to_vec();
    }
    for (index, path) in paths.iter().enumerate() {
        if !CHANGEABLE.contains(&path.as_str()) {
            violations.add(
                "update_mask",
                "may name address, labels, placements and tenants_max only",
            );
        } else if paths.iter().take(index).any(|earlier| earlier == path) {
            violations.add("update_mask", "must name each field once");
        }
    }
    paths
}

fn state(state: State) -> proto::ServerState {
    match state {
        State::Active => proto::ServerState::Active,
        State::Draining => proto::ServerState::Draining,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> proto::Server {
        proto::Server {
            name: "data2".to_owned(),
            address: "data2.internal:5432".to_owned(),
            labels: [("region".to_owned(), "eu".to_owned())].into(),
            ..Default::default()
        }
    }

    fn register(server: proto::Server) -> Result<Traits, Failure> {
        traits(proto::RegisterServerRequest { server: Some(server) })
    }

    fn update(server: proto::Server, paths: &[&str]) -> Result<Change, Failure> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        change(proto::UpdateServerRequest {
            server: Some(server),
            update_mask: Some(FieldMask { paths }),
        })
    }

    fn fields(failure: &Failure) -> Vec<&str> {
        failure.violations().iter().map(|one| one.field.as_str()).collect()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let read = register(server()).unwrap();
        assert_eq!(read.placements, PLACEMENTS);
        assert_eq!(read.tenants_max.tenants(), 5_000);
        assert_eq!(read.labels.pairs()["region"], "eu");
    }

    #[test]
    fn every_wrong_field_is_named() {
        let wrong = proto::Server {
            name: "Data 2".to_owned(),
            address: "user:secret@data2:5432".to_owned(),
            labels: [("Region".to_owned(), "eu".to_owned())].into(),
            placements: vec![9],
            tenants_max: -1,
            ..Default::default()
        };
        assert_eq!(
            fields(&register(wrong).unwrap_err()),
            [
                "server.name",
                "server.address",
                "server.labels",
                "server.placements",
                "server.tenants_max"
            ]
        );
        assert!(traits(proto::RegisterServerRequest::default()).is_err());
    }

    #[test]
    fn an_address_is_host_and_port() {
        for good in ["", "data2:5432", "10.0.0.7:1", "[fd00::1]:65535"] {
            assert!(good.parse::<super::super::Address>().is_ok(), "{good}");
        }
        for bad in [
            "data2",
            ":5432",
            "data2:0",
            "data2:65536",
            "data2:",
            "postgres://data2:5432",
            "a b:1",
        ] {
            assert!(bad.parse::<super::super::Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_are_bounded() {
        let pair = |key: &str, value: &str| [(key.to_owned(), value.to_owned())];
        assert!(Labels::parse(pair("region", "EU-west.1_a")).is_ok());
        for (key, value) in [
            ("", "x"),
            ("1a", "x"),
            ("region", ""),
            ("region", "a b"),
            ("region", "a\0"),
        ] {
            assert!(Labels::parse(pair(key, value)).is_err(), "{key:?} {value:?}");
        }
        assert!(
            Labels::parse(pair("a", &"x".repeat(64))).is_err() && Labels::parse(pair("a", &"x".repeat(63))).is_ok()
        );
        let many = |count: usize| (0..count).map(|number| (format!("key{number}"), "x".to_owned()));
        assert!(Labels::parse(many(16)).is_ok() && Labels::parse(many(17)).is_err());
    }

    #[test]
    fn a_mask_names_what_changes_and_nothing_else() {
        let change = update(server(), &["address"]).unwrap();
        assert!(change.address.is_some() && change.labels.is_none() && change.tenants_max.is_none());
        // Where all is changed, a capacity of 0 is a mistake and no default.
        assert_eq!(fields(&update(server(), &[]).unwrap_err()), ["server.tenants_max"]);
        for paths in [&["name"][..], &["*"], &["tenants"], &["address", "address"]] {
            assert_eq!(
                fields(&update(server(), paths).unwrap_err()),
                ["update_mask"],
                "{paths:?}"
            );
        }
    }
}
