//! `update_mask` of UpdateContact (AIP-134): which fields a call changes.

use std::fmt;

/// A field that a caller may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    DisplayName,
    Email,
    Phone,
    Company,
    JobTitle,
    /// Changed only where a mask names it: who sends back what they have read gives nothing away.
    Owner,
}

/// Which fields to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// No mask was sent: every field that is not empty, but for the owner.
    Populated,
    /// Exactly these, emptied where they are empty.
    Fields(Vec<Field>),
}

/// Why a mask is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParseMaskError {
    /// A field that does not exist or that the service sets.
    Unknown,
    /// A field twice.
    Repeated(Field),
}

// === impl Field ===

impl Field {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::DisplayName,
        Self::Email,
        Self::Phone,
        Self::Company,
        Self::JobTitle,
        Self::Owner,
    ];

    /// The name as in the proto.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::DisplayName => "display_name",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Company => "company",
            Self::JobTitle => "job_title",
            Self::Owner => "owner_id",
        }
    }
}

// === impl Mask ===

impl Mask {
    /// Reads the paths of a mask. None at all count as an absent mask: protobuf's JSON cannot tell the two apart.
    pub(crate) fn parse(paths: &[String]) -> Result<Self, ParseMaskError> {
        let mut fields: Vec<Field> = Vec::new();
        // Each field is taken once, so the loop ends after as many rounds as there are fields, or with an error.
        for path in paths {
            let field = Field::ALL.into_iter().find(|field| field.as_str() == path);
            let field = field.ok_or(ParseMaskError::Unknown)?;
            if fields.contains(&field) {
                return Err(ParseMaskError::Repeated(field));
            }
            fields.push(field);
        }
        Ok(if fields.is_empty() {
            Self::Populated
        } else {
            Self::Fields(fields)
        })
    }

    /// Whether a field is to be changed. `is_empty`: whether the request has nothing in it.
    pub(crate) fn names(&self, field: Field, is_empty: bool) -> bool {
        match self {
            Self::Populated => !is_empty && field != Field::Owner,
            Self::Fields(fields) => fields.contains(&field),
        }
    }
}

// === impl ParseMaskError ===

impl fmt::Display for ParseMaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Without the path: it is the caller's text and may be of any length.
            Self::Unknown => {
                f.write_str("may name only")?;
                for (index, field) in Field::ALL.into_iter().enumerate() {
                    let separator = if index == 0 { " " } else { ", " };
                    write!(f, "{separator}{}", field.as_str())?;
                }
                Ok(())
            }
            Self::Repeated(field) => write!(f, "names {} twice", field.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> Result<Mask, ParseMaskError> {
        Mask::parse(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn known_fields_are_read() {
        assert_eq!(
            mask(&["email", "job_title"]),
            Ok(Mask::Fields(vec![Field::Email, Field::JobTitle]))
        );
        assert_eq!(mask(&[]), Ok(Mask::Populated));
    }

    #[test]
    fn what_the_service_sets_wildcards_and_unknown_names_are_refused() {
        for path in [
            "id",
            "tenant_id",
            "*",
            "",
            "etag",
            "contact.email",
            "displayName",
            "EMAIL",
            "create_time",
        ] {
            assert_eq!(mask(&[path]), Err(ParseMaskError::Unknown), "{path:?}");
        }
        let text = ParseMaskError::Unknown.to_string();
        assert_eq!(
            text,
            "may name only display_name, email, phone, company, job_title, owner_id"
        );
    }

    #[test]
    fn a_field_twice_is_refused() {
        assert_eq!(mask(&["email", "email"]), Err(ParseMaskError::Repeated(Field::Email)));
    }

    #[test]
    fn without_a_mask_only_what_is_there_changes() {
        assert!(Mask::Populated.names(Field::Phone, false));
        assert!(!Mask::Populated.names(Field::Phone, true));
        assert!(!Mask::Populated.names(Field::Owner, false));
        assert!(Mask::Fields(vec![Field::Phone]).names(Field::Phone, true));
        assert!(!Mask::Fields(vec![Field::Phone]).names(Field::Email, false));
    }
}
