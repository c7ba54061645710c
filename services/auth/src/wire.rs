//! What the messages of several entities have in common.

use rowhouse_proto::well_known::FieldMask;
use rowhouse_status::Violations;
pub(crate) use rowhouse_types::optional;

/// Which fields of a resource an update changes (AIP-134): those that the mask names, without a mask those that are set.
///
/// `fields`: the names of those that can change, and whether the request has something in each; the answer is in their order.
pub(crate) fn wanted<const N: usize>(
    mask: Option<&FieldMask>,
    fields: [(&str, bool); N],
    violations: &mut Violations,
) -> [bool; N] {
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    let counts = fields.map(|(name, _)| paths.iter().filter(|path| *path == name).count());
    let wanted = if paths.is_empty() {
        fields.map(|(_, is_set)| is_set)
    } else {
        counts.map(|count| count > 0)
    };
    if counts.iter().any(|count| *count > 1) {
        violations.add("update_mask", "must name each field once");
    }
    if counts.iter().sum::<usize>() < paths.len() || wanted == [false; N] {
        let names = fields.map(|(name, _)| name).join(", ");
        violations.add("update_mask", format!("must name some of {names}"));
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wanted of `name`, which is set, and `state`, which is not; and how many faults the mask has.
    fn of(paths: &[&str]) -> ([bool; 2], usize) {
        let mask = FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        };
        let mut violations = Violations::default();
        let wanted = wanted(Some(&mask), [("name", true), ("state", false)], &mut violations);
        let faults = violations
            .finish(None::<()>)
            .map_or_else(|failure| failure.violations().len(), |()| 0);
        (wanted, faults)
    }

    #[test]
    fn a_mask_names_known_fields_once_and_without_one_what_is_set_changes() {
        assert_eq!(of(&[]).0, [true, false]);
        assert_eq!(of(&["state"]).0, [false, true]);
        assert_eq!(of(&["state", "name"]).0, [true, true]);
        for (paths, faults) in [
            (["*"].as_slice(), 1),
            (&["name", "etag"], 1),
            (&["name", "name"], 1),
            (&["name", "name", "id"], 2),
            (&["Name"], 1),
        ] {
            assert_eq!(of(paths).1, faults, "{paths:?}");
        }
        let mut violations = Violations::default();
        assert_eq!(wanted(None, [("name", false)], &mut violations), [false]);
        assert!(violations.finish(Some(())).is_err(), "nothing is to change");
    }
}
