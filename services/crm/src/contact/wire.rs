//! Contacts between proto and domain.

use rowhouse_db::paging::page_size;
use rowhouse_proto::crm::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_proto::well_known::FieldMask;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{ContactId, Text, UserId, optional};

use super::actions::reassign::{Reassigned, Reassignment};
use super::actions::{Change, ListQuery, NewContact};
use super::mask::{Field, Mask};
use super::{Contact, Details, OptionalEmail, Patch};

/// Reads a request to create a contact.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn new_contact(request: &proto::CreateContactRequest) -> Result<NewContact, Failure> {
    let mut violations = Violations::default();
    let request_id = violations.take("request_id", optional(&request.request_id));
    let details = match &request.contact {
        Some(contact) => details(&mut violations, contact),
        None => {
            violations.add("contact", "must be set");
            None
        }
    };
    let read = details.zip(request_id);
    let (details, request_id) = violations.finish(read)?;
    Ok(NewContact { details, request_id })
}

/// Reads a request to change a contact.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn change(request: &proto::UpdateContactRequest) -> Result<(Change, Patch), Failure> {
    let mut violations = Violations::default();
    let Some(contact) = &request.contact else {
        return Err(Failure::field("contact", "must be set"));
    };
    let id = violations.take("contact.id", contact.id.parse());
    let etag = violations.take("contact.etag", optional(&contact.etag));
    let mask = violations.take("update_mask", mask(request.update_mask.as_ref()));
    let patch = mask.and_then(|mask| patch(&mut violations, contact, &mask));
    let ((id, etag), patch) = violations.finish(id.zip(etag).zip(patch))?;
    Ok((Change { id, etag }, patch))
}

/// Reads what a delete or an undelete names.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn id_and_etag(id: &str, etag: &str) -> Result<Change, Failure> {
    let mut violations = Violations::default();
    let id = violations.take("id", id.parse());
    let etag = violations.take("etag", optional(etag));
    let (id, etag) = violations.finish(id.zip(etag))?;
    Ok(Change { id, etag })
}

/// Reads a contact's id.
///
/// # Errors
/// A violation of `id`.
pub(crate) fn id(text: &str) -> Result<ContactId, Failure> {
    text.parse().map_err(|fault| Failure::field("id", fault))
}

/// Reads a request for a list.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn list_query(request: proto::ListContactsRequest) -> Result<ListQuery, Failure> {
    let mut violations = Violations::default();
    let size = violations.take("page_size", page_size(request.page_size));
    let filter = violations.take("filter", request.filter.parse());
    let order = violations.take("order_by", request.order_by.parse());
    let ((size, filter), order) = violations.finish(size.zip(filter).zip(order))?;
    Ok(ListQuery {
        size,
        token: request.page_token,
        filter,
        order,
        show_deleted: request.show_deleted,
    })
}

/// Reads whose contacts are to go to whom.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn reassignment(request: proto::ReassignContactsRequest) -> Result<Reassignment, Failure> {
    let mut violations = Violations::default();
    let from = violations.take("from_owner_id", request.from_owner_id.parse::<UserId>());
    let to = violations.take("to_owner_id", request.to_owner_id.parse::<UserId>());
    if from.is_some() && from == to {
        // Given to who has them, they would never be fewer.
        violations.add("to_owner_id", "must be another than from_owner_id");
    }
    let filter = violations.take("filter", request.filter.parse());
    let request_id = violations.take("request_id", optional(&request.request_id));
    let read = from.zip(to).zip(filter).zip(request_id);
    let (((from, to), filter), request_id) = violations.finish(read)?;
    Ok(Reassignment {
        from,
        to,
        filter,
        validate_only: request.validate_only,
        request_id,
    })
}

/// Writes what a hand-over did.
pub(crate) fn reassigned(done: Reassigned) -> proto::ReassignContactsResponse {
    proto::ReassignContactsResponse {
        reassigned_count: done.given,
        remaining_count: done.remaining,
    }
}

/// Writes a contact.
pub(crate) fn contact(contact: &Contact) -> proto::Contact {
    let details = &contact.details;
    proto::Contact {
        id: contact.id.to_string(),
        display_name: details.display_name.to_string(),
        email: details.email.as_str().to_owned(),
        phone: details.phone.to_string(),
        company: details.company.to_string(),
        job_title: details.job_title.to_string(),
        owner_id: contact.owner.to_string(),
        create_time: Some(timestamp(contact.created_at)),
        update_time: Some(timestamp(contact.updated_at)),
        delete_time: contact.deleted_at.map(timestamp),
        etag: contact.etag.to_string(),
    }
}

fn details(violations: &mut Violations, contact: &proto::Contact) -> Option<Details> {
    let display_name = violations.take("contact.display_name", Text::parse_required(&contact.display_name));
    let email = violations.take("contact.email", OptionalEmail::parse(&contact.email));
    let phone = violations.take("contact.phone", Text::parse_optional(&contact.phone));
    let company = violations.take("contact.company", Text::parse_optional(&contact.company));
    let job_title = violations.take("contact.job_title", Text::parse_optional(&contact.job_title));
    Some(Details {
        display_name: display_name?,
        email: email?,
        phone: phone?,
        company: company?,
        job_title: job_title?,
    })
}

/// The new values of the fields that the mask names. Others are not even looked at (AIP-134).
fn patch(violations: &mut Violations, contact: &proto::Contact, mask: &Mask) -> Option<Patch> {
    let named = |field, text: &str| mask.names(field, text.is_empty());
    let mut patch = Patch::default();
    if named(Field::DisplayName, &contact.display_name) {
        let parsed = Text::parse_required(&contact.display_name);
        patch.display_name = Some(violations.take("contact.display_name", parsed)?);
    }
    if named(Field::Email, &contact.email) {
        patch.email = Some(violations.take("contact.email", OptionalEmail::parse(&contact.email))?);
    }
    if named(Field::Phone, &contact.phone) {
        patch.phone = Some(violations.take("contact.phone", Text::parse_optional(&contact.phone))?);
    }
    if named(Field::Company, &contact.company) {
        patch.company = Some(violations.take("contact.company", Text::parse_optional(&contact.company))?);
    }
    if named(Field::JobTitle, &contact.job_title) {
        patch.job_title = Some(violations.take("contact.job_title", Text::parse_optional(&contact.job_title))?);
    }
    if named(Field::Owner, &contact.owner_id) {
        patch.owner = Some(violations.take("contact.owner_id", contact.owner_id.parse())?);
    }
    if patch == Patch::default() {
        violations.add(
            "update_mask",
            "is absent, and the contact has no field that could be changed",
        );
        return None;
    }
    Some(patch)
}

fn mask(mask: Option<&FieldMask>) -> Result<Mask, super::mask::ParseMaskError> {
    Mask::parse(mask.map(|mask| mask.paths.as_slice()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
