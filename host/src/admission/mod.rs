//! What is checked before a plugin is called: may this sender, not too often, not too large, and
//! does it look right. All of it native, in the order of its cost.

mod contract;
mod document;
mod rate_limit;
mod schema;
mod violation;

pub use contract::{Contract, ContractError};
pub use rate_limit::{Limit, Now, RateLimits, scope_name};
pub use schema::Schema;
pub use violation::Violation;

use std::{sync::Arc, time::Duration};

use crate::{
    connection::{Connection, Identity},
    error::WireError,
    message::Message,
};

/// An event that was let in: what `dispatch` may call a plugin with.
pub struct Admitted {
    message: Message,
    identity: Arc<Identity>,
}

impl Admitted {
    /// The message, and who sends it.
    pub fn into_parts(self) -> (Message, Arc<Identity>) {
        (self.message, self.identity)
    }
}

/// Checks a message against its event's contract.
pub fn admit(
    contract: &Contract,
    connection: &Connection,
    identity: Arc<Identity>,
    now: &Now,
    message: Message,
) -> Result<Admitted, WireError> {
    may_send(contract, &identity)?;
    for limit in &contract.limits {
        limit
            .check(connection, &identity, now)
            .map_err(|wait| rate_limited(&format!("{:?} events", contract.event), wait))?;
    }
    let size = message.size();
    if size > contract.max_bytes {
        let message = format!(
            "the payload has {size} bytes; {} are allowed",
            contract.max_bytes
        );
        return Err(WireError::new("payload_too_large", message));
    }
    if let Some(schema) = &contract.arguments {
        schema.check(&message.arguments).map_err(invalid_payload)?;
    }
    Ok(Admitted { message, identity })
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

/// Too many at once.
pub fn rate_limited(what: &str, wait: Duration) -> WireError {
    WireError::temporary("rate_limited", format!("too many {what}")).with_retry_after(wait)
}

fn invalid_payload(violation: Violation) -> WireError {
    let message = format!("{}: {}", violation.path, violation.message);
    WireError::new("invalid_payload", message).with_details(&violation)
}
