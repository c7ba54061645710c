//! Compiles `proto/` without protoc, and writes the policy table from the descriptors.
//!
//! The build fails for an RPC without a policy, with an audience that is not known, or with a permission that is not
//! `resource:action` or not described exactly once: deny by default begins here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error::Error, fs};

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ServiceDescriptor, Value};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    // Asked when it runs: what is compiled in would be the folder of whichever checkout built this last.
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    find_protos(&root.join("rowhouse"), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let pool = compiler.descriptor_pool();
    fs::write(out.join("policy_table.rs"), policy_table(&pool)?)?;
    fs::write(out.join("permission_table.rs"), permission_table(&pool)?)?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::StrictCodec")
        .bytes(".rowhouse.worker.v1.DownloadReportResponse")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn find_protos(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

/// Rust source of the array that `rowhouse_proto::policy::POLICIES` includes, one entry per RPC of the suite.
fn policy_table(pool: &DescriptorPool) -> Result<String> {
    let mut table = String::from("&[\n");
    for service in pool.services() {
        if !service.full_name().starts_with("rowhouse.") {
            continue;
        }
        for method in service.methods() {
            let line = policy_entry(pool, &method).map_err(|fault| format!("{}: {fault}", method.full_name()))?;
            table.push_str(&line);
        }
    }
    table.push(']');
    Ok(table)
}

fn policy_entry(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<String> {
    let extension = pool
        .get_extension_by_name("rowhouse.common.v1.policy")
        .ok_or("the policy option is not defined")?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return Err("has no (rowhouse.common.v1.policy) option".into());
    }
    let value = options.get_extension(&extension);
    let policy = value.as_message().ok_or("the policy is not a message")?;
    let audience = audience(policy)?;
    let permission = text(policy, "permission");
    if !permission.is_empty() && !is_permission(&permission) {
        return Err(format!("permission {permission:?} is not resource:action").into());
    }
    let callers = callers(policy);
    match (audience, permission.is_empty(), callers.is_empty()) {
        ("Tenant" | "Platform", true, _) => return Err("needs a permission".into()),
        ("Public" | "OneSelf", false, _) => return Err("cannot need a permission".into()),
        ("Internal", _, true) => return Err("needs its callers".into()),
        ("Public" | "OneSelf" | "Tenant" | "Platform", _, false) => {
            return Err("only internal RPCs have callers".into());
        }
        _ => {}
    }
    let refuses = policy
        .get_field_by_name("refuses_impersonation")
        .and_then(|value| value.as_bool())
        .unwrap_or_default();
    if refuses && audience != "Tenant" {
        return Err("only RPCs for tenants say whether they refuse impersonation".into());
    }
    let permission = if permission.is_empty() {
        "None".to_owned()
    } else {
        format!("Some({permission:?})")
    };
    let mut line = String::new();
    writeln!(
        line,
        "    Policy {{ path: \"/{}/{}\", audience: Audience::{audience}, permission: {permission}, callers: &{callers:?}, refuses_impersonation: {refuses} }},",
        method.parent_service().full_name(),
        method.name(),
    )?;
    Ok(line)
}

/// Rust source of the array that `rowhouse_proto::policy::PERMISSIONS` includes: one entry per permission, with its one
/// description and the RPCs that need it.
fn permission_table(pool: &DescriptorPool) -> Result<String> {
    let mut rpcs: BTreeMap<String, (bool, Vec<String>)> = BTreeMap::new();
    let mut descriptions: BTreeMap<String, (String, bool)> = BTreeMap::new();
    for service in pool
        .services()
        .filter(|service| service.full_name().starts_with("rowhouse."))
    {
        for (permission, described) in described(pool, &service)? {
            if descriptions.insert(permission.clone(), described).is_some() {
                return Err(format!("{permission} is described twice").into());
            }
        }
        for method in service.methods() {
            let policy = option(pool, "rowhouse.common.v1.policy", &method.options())?;
            let policy = policy.as_message().ok_or("the policy is not a message")?;
            let permission = text(policy, "permission");
            if !permission.is_empty() {
                let entry = rpcs.entry(permission).or_default();
                entry.0 |= audience(policy)? != "Platform";
                entry.1.push(format!("{}/{}", service.full_name(), method.name()));
            }
        }
    }
    let mut table = String::from("&[\n");
    for (permission, (of_tenants, rpcs)) in &rpcs {
        let described = descriptions.remove(permission);
        let (description, scoped) = described.ok_or_else(|| format!("{permission} is not described"))?;
        writeln!(
            table,
            "    Permission {{ name: {permission:?}, description: {description:?}, of_tenants: {of_tenants}, scoped: {scoped}, rpcs: &{rpcs:?} }},"
        )?;
    }
    table.push(']');
    match descriptions.keys().next() {
        Some(permission) => Err(format!("{permission} is described, and no RPC needs it").into()),
        None => Ok(table),
    }
}

/// The permissions that a service describes: the words, and whether it is about records with owners.
fn described(pool: &DescriptorPool, service: &ServiceDescriptor) -> Result<Vec<(String, (String, bool))>> {
    let value = option(pool, "rowhouse.common.v1.permissions", &service.options())?;
    let list = value.as_list().unwrap_or_default();
    let entries = list.iter().filter_map(Value::as_message);
    Ok(entries
        .map(|entry| {
            let scoped = entry.get_field_by_name("scoped").and_then(|value| value.as_bool());
            let described = (text(entry, "description"), scoped.unwrap_or_default());
            (text(entry, "permission"), described)
        })
        .collect())
}

fn option(pool: &DescriptorPool, name: &str, options: &DynamicMessage) -> Result<Value> {
    let extension = pool.get_extension_by_name(name);
    let extension = extension.ok_or_else(|| format!("the option {name} is not defined"))?;
    Ok(options.get_extension(&extension).into_owned())
}

fn audience(policy: &DynamicMessage) -> Result<&'static str> {
    match policy.get_field_by_name("audience").as_deref() {
        Some(Value::EnumNumber(1)) => Ok("Public"),
        Some(Value::EnumNumber(2)) => Ok("Tenant"),
        Some(Value::EnumNumber(3)) => Ok("Platform"),
        Some(Value::EnumNumber(4)) => Ok("Internal"),
        Some(Value::EnumNumber(5)) => Ok("OneSelf"),
        other => Err(format!("unknown audience {other:?}").into()),
    }
}

fn text(policy: &DynamicMessage, field: &str) -> String {
    policy
        .get_field_by_name(field)
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn callers(policy: &DynamicMessage) -> Vec<String> {
    let field = policy.get_field_by_name("callers");
    let list = field.as_deref().and_then(Value::as_list).unwrap_or_default();
    list.iter()
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect()
}

fn is_permission(text: &str) -> bool {
    let word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    text.split_once(':')
        .is_some_and(|(resource, action)| word(resource) && word(action))
}
