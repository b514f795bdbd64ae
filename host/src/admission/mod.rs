//! What is checked before a plugin is called: may this sender, not too often, not too large, and
//! does it look right. All of it native, in the order of its cost.

mod buckets;
mod contract;
mod document;
mod own_buckets;
mod pattern;
mod quota;
mod rate_limit;
mod schema;
mod serial;
mod shared;
mod violation;
mod weight;

pub(crate) use contract::{Contract, ContractError};
pub(crate) use own_buckets::OwnBuckets;
pub(crate) use rate_limit::{Limit, Now, RateLimits, scope_name};
pub(crate) use schema::{MAX_STEPS, MAX_STEPS_AT_ONCE, Schema};
pub(crate) use shared::{check_shared, check_shared_address};
pub(crate) use violation::Violation;
pub(crate) use weight::Budget as SchemaBudget;

use std::{sync::Arc, time::Duration};

use crate::{
    connection::{Connection, Identity},
    error::WireError,
    message::Message,
};

/// Who may send an event, and does not send it too often.
pub(crate) struct Sender(Arc<Identity>);

impl Sender {
    /// Who it is.
    pub(crate) fn identity(&self) -> &Identity {
        &self.0
    }
}

/// An event that was let in: what `dispatch` may call a plugin with.
pub(crate) struct Admitted {
    message: Message,
    identity: Arc<Identity>,
}

impl Admitted {
    /// The message, and who sends it.
    pub(crate) fn into_parts(self) -> (Message, Arc<Identity>) {
        (self.message, self.identity)
    }
}

/// What came of the checks of an event.
pub(crate) enum Admission {
    /// It is let in.
    Admitted(Admitted),
    /// It is let in if it matches its schema, which takes long to find out.
    Heavy(Heavy),
}

/// An event that only its schema is left for, and that may take longer than others should wait.
pub(crate) struct Heavy(Admitted);

impl Heavy {
    /// Checks it against the schema of its contract.
    pub(crate) fn check(self, contract: &Contract) -> Result<Admitted, WireError> {
        check(contract, &self.0.message)?;
        Ok(self.0)
    }
}

/// Checks who sends an event, and how often as far as this server knows.
pub(crate) fn check_sender(
    contract: &Contract,
    connection: &Connection,
    identity: Arc<Identity>,
    now: &Now,
) -> Result<Sender, WireError> {
    may_send(contract, &identity)?;
    for limit in &contract.limits {
        limit
            .check(connection, &identity, now)
            .map_err(|wait| too_often(contract, wait))?;
    }
    Ok(Sender(identity))
}

/// An event comes too often.
pub(crate) fn too_often(contract: &Contract, wait: Duration) -> WireError {
    rate_limited(&format!("{:?} events", contract.event), wait)
}

/// Checks a message against its event's contract.
pub(crate) fn admit(
    contract: &Contract,
    Sender(identity): Sender,
    message: Message,
) -> Result<Admission, WireError> {
    check_size(contract, &message)?;
    let admitted = Admitted { message, identity };
    let schema = contract.arguments.as_ref();
    let steps = schema.map_or(0, |schema| {
        schema.steps(admitted.message.arguments.as_str().len())
    });
    if steps > MAX_STEPS_AT_ONCE {
        return Ok(Admission::Heavy(Heavy(admitted)));
    }
    check(contract, &admitted.message)?;
    Ok(Admission::Admitted(admitted))
}

impl Contract {
    /// Whether a message is one that its event may have.
    pub fn check(&self, message: &Message) -> Result<(), WireError> {
        check_size(self, message)?;
        check(self, message)
    }
}

fn check_size(contract: &Contract, message: &Message) -> Result<(), WireError> {
    let (size, most) = (message.size(), contract.max_bytes);
    if size > most {
        let message = format!("the payload has {size} bytes; {most} are allowed");
        return Err(WireError::new("payload_too_large", message));
    }
    Ok(())
}

fn check(contract: &Contract, message: &Message) -> Result<(), WireError> {
    match &contract.arguments {
        Some(schema) => schema.check(&message.arguments).map_err(invalid_payload),
        None => Ok(()),
    }
}

fn may_send(contract: &Contract, identity: &Identity) -> Result<(), WireError> {
    let user = identity.user.as_ref();
    let roles = user.map(|user| user.roles.as_slice()).unwrap_or_default();
    if contract.access.admits(user.is_some(), roles) {
        return Ok(());
    }
    Err(match user {
        None => WireError::new("unauthorized", "this event needs an authenticated user"),
        Some(_) => WireError::new("permission_denied", "your roles do not allow this event"),
    })
}

/// The code of what is too often.
pub(crate) const RATE_LIMITED: &str = "rate_limited";

/// Too many at once.
pub(crate) fn rate_limited(what: &str, wait: Duration) -> WireError {
    WireError::temporary(RATE_LIMITED, format!("too many {what}")).with_retry_after(wait)
}

fn invalid_payload(violation: Violation) -> WireError {
    let message = format!("{}: {}", violation.path, violation.message);
    WireError::new("invalid_payload", message).with_details(&violation)
}
