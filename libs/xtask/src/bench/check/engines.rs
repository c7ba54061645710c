//! Casbin and Cedar, told the same policy.
//!
//! Both get the best of what they offer: policies and role links built beforehand, matchers compiled, and for Cedar the
//! requests too, which it can take ready. Both are told whose record it is; our own decision looks it up in each question.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::{Context as _, Result, anyhow, ensure};
use casbin::{CoreApi as _, DefaultModel, Enforcer, MemoryAdapter, MgmtApi as _};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression,
};
use rowhouse_auth_kit::Scope;
use rowhouse_proto::policy::PERMISSIONS;

use super::policy::{Policy, Question, Relation};

/// Roles, wildcards on both sides, and scopes.
const MODEL: &str = r#"
[request_definition]
r = sub, obj, act, whose

[policy_definition]
p = sub, obj, act, scope

[role_definition]
g = _, _

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = (p.obj == "*" || r.obj == p.obj) && (p.act == "*" || r.act == p.act) && (p.scope == "all" || r.whose == "any" || r.whose == "own" || (r.whose == "mate" && p.scope == "team")) && g(r.sub, p.sub)
"#;

/// Decides with an `Enforcer` without a cache: a remembered answer is no decision.
pub(super) struct Casbin {
    enforcer: Enforcer,
    /// Subjects as texts, one for each question.
    subjects: Vec<String>,
}

/// Decides with an `Authorizer`, without a schema: there is nothing to check when a question is asked.
pub(super) struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    /// One for each question.
    requests: Vec<Request>,
}

/// A role's grant in its parts: resource, action, scope; `*` stands for any.
type Parts = (String, String, Scope);

/// Who holds which role: ids and roles' names.
fn holders(policy: &Policy) -> BTreeMap<String, String> {
    let holders = policy.questions.iter().map(|question| &question.holder);
    holders
        .map(|holder| (holder.user.to_string(), holder.role.clone()))
        .collect()
}

/// The grants of each role, once.
fn roles(policy: &Policy) -> Result<BTreeMap<String, Vec<Parts>>> {
    let mut roles = BTreeMap::new();
    for holder in policy.questions.iter().map(|question| &question.holder) {
        let grants = holder.grants.iter().map(|grant| {
            let text = grant.to_string();
            let sides = text.split('@').next().unwrap_or_default();
            let (resource, action) = sides.split_once(':').context("a grant has two sides")?;
            Ok((resource.to_owned(), action.to_owned(), grant.scope()))
        });
        let grants = grants.collect::<Result<Vec<Parts>>>()?;
        roles.entry(holder.role.clone()).or_insert(grants);
    }
    Ok(roles)
}

fn sides(permission: &str) -> Result<(&str, &str)> {
    permission.split_once(':').context("a permission has two sides")
}

fn word(relation: Relation) -> &'static str {
    match relation {
        Relation::Whole => "whole",
        Relation::Any => "any",
        Relation::Own => "own",
        Relation::Mate => "mate",
        Relation::Other => "other",
    }
}

// === impl Casbin ===

impl Casbin {
    pub(super) async fn new(policy: &Policy) -> Result<Self> {
        let model = DefaultModel::from_str(MODEL).await?;
        let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await?;
        let rules = roles(policy)?.into_iter().flat_map(|(role, grants)| {
            grants
                .into_iter()
                .map(move |(resource, action, scope)| vec![role.clone(), resource, action, scope.to_string()])
        });
        enforcer.add_policies(rules.collect()).await?;
        let links = holders(policy).into_iter().map(|(user, role)| vec![user, role]);
        enforcer.add_grouping_policies(links.collect()).await?;
        let subjects = policy.questions.iter().map(|question| question.holder.user.to_string());
        Ok(Self {
            enforcer,
            subjects: subjects.collect(),
        })
    }

    pub(super) fn decide(&self, number: usize, question: &Question) -> Result<bool> {
        let subject = self.subjects.get(number).context("a subject")?;
        let (resource, action) = sides(question.permission)?;
        let asked = (subject.as_str(), resource, action, word(question.relation));
        Ok(self.enforcer.enforce(asked)?)
    }
}

// === impl Cedar ===

impl Cedar {
    pub(super) fn new(policy: &Policy) -> Result<Self> {
        let rules = roles(policy)?.into_iter().flat_map(|(role, grants)| {
            let rule = move |grant| rule(&role, &grant);
            grants.into_iter().map(rule)
        });
        let policies: PolicySet = rules.collect::<String>().parse()?;
        let mut entities = actions()?;
        for role in roles(policy)?.keys() {
            entities.push(Entity::new_no_attrs(id("Role", role)?, HashSet::new()));
        }
        for (user, role) in holders(policy) {
            let parents = HashSet::from([id("Role", &role)?]);
            entities.push(Entity::new_no_attrs(id("User", &user)?, parents));
        }
        let requests = policy.questions.iter().map(request);
        Ok(Self {
            authorizer: Authorizer::new(),
            policies,
            entities: Entities::from_entities(entities, None)?,
            requests: requests.collect::<Result<_>>()?,
        })
    }

    pub(super) fn decide(&self, number: usize) -> Result<bool> {
        let request = self.requests.get(number).context("a request")?;
        let answer = self.authorizer.is_authorized(request, &self.policies, &self.entities);
        let fault = answer.diagnostics().errors().next();
        ensure!(fault.is_none(), "Cedar could not evaluate: {fault:?}");
        Ok(answer.decision() == Decision::Allow)
    }
}

/// A grant as a policy. Wildcards are groups of actions.
fn rule(role: &str, (resource, action, scope): &Parts) -> String {
    let operator = if resource == "*" || action == "*" { "in" } else { "==" };
    let condition = match scope {
        Scope::All => "",
        Scope::Team => " when { [\"any\", \"own\", \"mate\"].contains(context.whose) }",
        Scope::Own => " when { [\"any\", \"own\"].contains(context.whose) }",
    };
    format!(
        "permit(principal in Role::\"{role}\", action {operator} Action::\"{resource}:{action}\", resource){condition};\n"
    )
}

/// Each permission as an action, in the groups that wildcards stand for.
fn actions() -> Result<Vec<Entity>> {
    let mut entities = Vec::new();
    let mut groups = BTreeSet::new();
    for permission in PERMISSIONS {
        let (resource, action) = sides(permission.name)?;
        let of = [format!("{resource}:*"), format!("*:{action}"), "*:*".to_owned()];
        let parents = of.iter().map(|group| id("Action", group)).collect::<Result<_>>()?;
        entities.push(Entity::new_no_attrs(id("Action", permission.name)?, parents));
        groups.extend(of);
    }
    for group in groups {
        entities.push(Entity::new_no_attrs(id("Action", &group)?, HashSet::new()));
    }
    Ok(entities)
}

fn request(question: &Question) -> Result<Request> {
    let whose = RestrictedExpression::new_string(word(question.relation).to_owned());
    let request = Request::new(
        id("User", &question.holder.user.to_string())?,
        id("Action", question.permission)?,
        id("Record", "one")?,
        Context::from_pairs([("whose".to_owned(), whose)])?,
        None,
    );
    Ok(request?)
}

fn id(kind: &str, name: &str) -> Result<EntityUid> {
    let parsed = format!("{kind}::\"{name}\"").parse();
    parsed.map_err(|fault| anyhow!("{kind} {name}: {fault}"))
}
