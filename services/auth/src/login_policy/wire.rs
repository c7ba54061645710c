//! Policies about log-ins as messages.

use std::time::Duration;

use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_proto::well_known::Duration as WireDuration;
use rowhouse_status::{Failure, Violations};

use super::{Change, Domain, LoginPolicy, MAIL_DOMAINS_MAX, PASSWORD_LENGTH_MIN, SESSION_LIFETIME_S};
use crate::wire::{optional, wanted};

const FIELDS: [&str; 4] = [
    "second_factor_required",
    "session_lifetime",
    "mail_domains",
    "password_length_min",
];

pub(super) fn change(request: &proto::UpdateLoginPolicyRequest) -> Result<Change, Failure> {
    let policy = request.login_policy.as_ref();
    let policy = policy.ok_or_else(|| Failure::field("login_policy", "must be set"))?;
    let mut violations = Violations::default();
    // What a policy leaves empty says something, so without a mask nothing is meant.
    let fields = FIELDS.map(|name| (name, false));
    let [requires, lives, bounds, lengthens] = wanted(request.update_mask.as_ref(), fields, &mut violations);
    let etag = violations.take("login_policy.etag", optional(&policy.etag));
    let lifetime = lives.then(|| {
        let read = policy.session_lifetime.as_ref().map(lifetime).transpose();
        violations.take("login_policy.session_lifetime", read)
    });
    let domains = bounds.then(|| domains(&policy.mail_domains, &mut violations));
    let length = lengthens.then(|| {
        let read = password_length(policy.password_length_min);
        violations.take("login_policy.password_length_min", read)
    });
    violations.finish(etag.map(|etag| Change {
        second_factor_required: requires.then_some(policy.second_factor_required),
        session_lifetime: lifetime.flatten(),
        mail_domains: domains.flatten(),
        password_length_min: length.flatten(),
        etag,
    }))
}

fn lifetime(duration: &WireDuration) -> Result<Duration, String> {
    let seconds = u64::try_from(duration.seconds).ok().filter(|_| duration.nanos == 0);
    let bounded = seconds.filter(|seconds| SESSION_LIFETIME_S.contains(seconds));
    let (least, most) = (SESSION_LIFETIME_S.start(), SESSION_LIFETIME_S.end());
    let lifetime = bounded.map(Duration::from_secs);
    lifetime.ok_or_else(|| format!("must be {least}s to {most}s, in whole seconds"))
}

fn domains(texts: &[String], violations: &mut Violations) -> Option<Vec<Domain>> {
    if texts.len() > MAIL_DOMAINS_MAX {
        violations.add(
            "login_policy.mail_domains",
            format!("must be {MAIL_DOMAINS_MAX} domains at most"),
        );
        return None;
    }
    let texts = texts.iter().enumerate();
    let read = texts.map(|(at, text)| violations.take(format_args!("login_policy.mail_domains[{at}]"), text.parse()));
    let mut domains: Vec<Domain> = read.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?;
    domains.sort();
    domains.dedup();
    Some(domains)
}

/// 0 stands for the platform's own.
fn password_length(length: i32) -> Result<Option<u32>, String> {
    match u32::try_from(length) {
        Ok(0) => Ok(None),
        Ok(length) if PASSWORD_LENGTH_MIN.contains(&length) => Ok(Some(length)),
        _ => {
            let (least, most) = (PASSWORD_LENGTH_MIN.start(), PASSWORD_LENGTH_MIN.end());
            Err(format!("must be {least} to {most} characters, or 0"))
        }
    }
}

pub(super) fn policy(policy: &LoginPolicy) -> proto::LoginPolicy {
    proto::LoginPolicy {
        second_factor_required: policy.second_factor_required,
        session_lifetime: policy.session_lifetime.map(|lifetime| WireDuration {
            seconds: i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX),
            nanos: 0,
        }),
        mail_domains: policy.mail_domains.iter().map(ToString::to_string).collect(),
        password_length_min: policy
            .password_length_min
            .map_or(0, |length| i32::try_from(length).unwrap_or(i32::MAX)),
        update_time: policy.written.map(|written| timestamp(written.at)),
        etag: policy
            .written
            .map(|written| written.etag.to_string())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use rowhouse_proto::well_known::FieldMask;

    use super::*;

    fn update(paths: &[&str], policy: proto::LoginPolicy) -> Result<Change, Failure> {
        change(&proto::UpdateLoginPolicyRequest {
            login_policy: Some(policy),
            update_mask: Some(FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
        })
    }

    fn faults(failure: &Failure) -> Vec<&str> {
        let violations = failure.violations().iter();
        violations.map(|violation| violation.field.as_str()).collect()
    }

    #[test]
    fn every_fault_of_a_policy_is_named_at_once() {
        for wrong in [(899, 0), (7_776_001, 0), (3_600, 1), (-3_600, 0), (i64::MAX, 0)] {
            let policy = proto::LoginPolicy {
                session_lifetime: Some(WireDuration {
                    seconds: wrong.0,
                    nanos: wrong.1,
                }),
                mail_domains: ["acme.example", "@"].map(str::to_owned).to_vec(),
                password_length_min: 14,
                ..proto::LoginPolicy::default()
            };
            let refused = update(&FIELDS, policy).unwrap_err();
            let expected = [
                "login_policy.session_lifetime",
                "login_policy.mail_domains[1]",
                "login_policy.password_length_min",
            ];
            assert_eq!(faults(&refused), expected, "{wrong:?}");
        }
        let many = proto::LoginPolicy {
            mail_domains: vec!["acme.example".to_owned(); MAIL_DOMAINS_MAX + 1],
            ..proto::LoginPolicy::default()
        };
        assert_eq!(
            faults(&update(&["mail_domains"], many).unwrap_err()),
            ["login_policy.mail_domains"]
        );
    }

    #[test]
    fn only_what_the_mask_names_changes_and_it_may_be_emptied() {
        let full = proto::LoginPolicy {
            second_factor_required: true,
            password_length_min: 20,
            ..proto::LoginPolicy::default()
        };
        let changed = update(&["password_length_min"], full.clone()).unwrap();
        assert_eq!(changed.password_length_min, Some(Some(20)));
        assert_eq!((changed.second_factor_required, changed.session_lifetime), (None, None));
        let emptied = update(&FIELDS, proto::LoginPolicy::default()).unwrap();
        assert_eq!(emptied.second_factor_required, Some(false));
        assert_eq!(
            (emptied.session_lifetime, emptied.password_length_min),
            (Some(None), Some(None))
        );
        assert_eq!(emptied.mail_domains, Some(Vec::new()));
        for paths in [[].as_slice(), &["*"], &["etag"], &["mail_domains", "mail_domains"]] {
            assert!(update(paths, full.clone()).is_err(), "{paths:?}");
        }
    }
}
