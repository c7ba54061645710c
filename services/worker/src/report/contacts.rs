//! The report of all contacts: one row a contact.

use super::csv;

/// A contact, as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact {
    pub(crate) id: String,
    pub(crate) display_name: String,
    pub(crate) email: String,
    pub(crate) phone: String,
    pub(crate) company: String,
    pub(crate) job_title: String,
    pub(crate) owner_id: String,
    /// RFC 3339.
    pub(crate) create_time: String,
    /// RFC 3339.
    pub(crate) update_time: String,
}

/// Names of the columns, as the fields are called in the API.
const COLUMNS: [&str; 9] = [
    "id",
    "display_name",
    "email",
    "phone",
    "company",
    "job_title",
    "owner_id",
    "create_time",
    "update_time",
];

/// The header row.
pub(crate) fn header() -> Result<Vec<u8>, ::csv::Error> {
    csv::rows([COLUMNS])
}

/// One row a contact.
pub(crate) fn rows(contacts: &[Contact]) -> Result<Vec<u8>, ::csv::Error> {
    csv::rows(contacts.iter().map(|contact| {
        [
            contact.id.as_str(),
            &contact.display_name,
            &contact.email,
            &contact.phone,
            &contact.company,
            &contact.job_title,
            &contact.owner_id,
            &contact.create_time,
            &contact.update_time,
        ]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_without_contacts_gets_the_header_alone() {
        let mut file = header().unwrap();
        file.extend(rows(&[]).unwrap());
        let text = String::from_utf8(file).unwrap();
        assert_eq!(
            text,
            "id,display_name,email,phone,company,job_title,owner_id,create_time,update_time\r\n"
        );
    }

    #[test]
    fn cells_stand_under_their_columns_and_formulas_are_defused() {
        let contact = Contact {
            id: "contact_1".to_owned(),
            display_name: "=HYPERLINK(\"http://x\")".to_owned(),
            phone: "+49 30 1".to_owned(),
            ..Contact::default()
        };
        let text = String::from_utf8(rows(&[contact]).unwrap()).unwrap();
        assert_eq!(text, "contact_1,\"'=HYPERLINK(\"\"http://x\"\")\",,'+49 30 1,,,,,\r\n");
    }
}
