//! Collects what is wrong with the fields of a request, so that the caller hears of everything at once.

use std::fmt::Display;

use crate::Failure;
use crate::failure::Violation;

/// The faults found so far.
#[derive(Debug, Default)]
pub struct Violations {
    found: Vec<Violation>,
}

// === impl Violations ===

impl Violations {
    /// Notes a fault. `field`: the path as in the proto, written only here.
    pub fn add(&mut self, field: impl Display, description: impl Display) {
        self.found.push(Violation {
            field: field.to_string(),
            description: description.to_string(),
        });
    }

    /// Takes the value of a parse, or notes its fault.
    pub fn take<T, E: Display>(&mut self, field: impl Display, parsed: Result<T, E>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(fault) => {
                self.add(field, fault);
                None
            }
        }
    }

    /// Ends collecting: the value where there was no fault and everything was taken.
    ///
    /// # Errors
    /// A [`Failure`] that lists every fault.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Failure> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            None if self.found.is_empty() => Err(Failure::internal("a field was dropped without a violation")),
            _ => Err(Failure::fields(self.found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_listed() {
        let mut violations = Violations::default();
        let good = violations.take("a", "1".parse::<u8>());
        let bad = violations.take("b", "x".parse::<u8>());
        violations.add("c", "must be set");
        let failure = violations.finish(good.zip(bad)).unwrap_err();
        let fields: Vec<&str> = failure
            .violations
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(fields, ["b", "c"]);
    }
}
