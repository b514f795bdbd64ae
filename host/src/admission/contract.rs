//! What a plugin declares for one event, checked and compiled at load.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    rate_limit::{Limit, RateLimits},
    schema::Schema,
    serial::SerialBy,
    weight::Budget,
};
use crate::{
    access::Access,
    capability::is_reserved_event,
    config::OnExcess,
    guest::{self, EventContract},
    shorten::shortened,
    user::{MAX_ROLE_BYTES, MAX_ROLES},
};

/// Longer names are refused at load.
const MAX_EVENT_BYTES: usize = 128;

/// More rate limits of one event are refused: each is looked at for every event.
const MAX_LIMITS: usize = 16;

/// What is checked before an event's handler runs, and what its ack must look like.
pub struct Contract {
    /// The event's name.
    pub event: String,
    /// Who may send it.
    pub access: Access,
    /// What its arguments must look like.
    pub arguments: Option<Schema>,
    /// What the ack's arguments must look like.
    pub reply: Option<Schema>,
    /// How often it may be sent.
    pub limits: Vec<Arc<Limit>>,
    /// What becomes of it over a limit; none leaves it to the configuration.
    pub on_excess: Option<OnExcess>,
    /// How large it may be, in bytes.
    pub max_bytes: usize,
    /// Which calls run one after the other.
    pub serial_by: Option<SerialBy>,
    /// Whether a call that acted at once may run again.
    pub repeatable: bool,
}

/// What is wrong with a contract.
#[derive(Debug, thiserror::Error)]
#[error("its contract for event {event:?} is not valid: {reason}")]
pub struct ContractError {
    event: String,
    reason: String,
}

impl Contract {
    /// Checks and compiles a contract of `plugin`, whose schemas share a `budget`.
    pub fn compile(
        plugin: &str,
        contract: EventContract,
        limits: &RateLimits,
        budget: &mut Budget,
    ) -> Result<Self, ContractError> {
        let EventContract {
            name: event,
            access,
            arguments,
            reply,
            limits: declared,
            on_excess,
            max_bytes,
            serial_by,
            repeatable,
        } = contract;
        let error = |reason: String| ContractError {
            event: shortened(&event, MAX_EVENT_BYTES),
            reason,
        };
        if event.is_empty() || event.len() > MAX_EVENT_BYTES {
            return Err(error(format!("a name has 1 to {MAX_EVENT_BYTES} bytes")));
        }
        if declared.len() > MAX_LIMITS {
            let count = declared.len();
            return Err(error(format!(
                "it has {count} rate limits; {MAX_LIMITS} are allowed"
            )));
        }
        if is_reserved_event(&event) || is_host_event(&event) {
            return Err(error("the name is reserved".to_owned()));
        }
        let mut schema = |what: &str, text: Option<String>| {
            let compiled = text.map(|text| Schema::compile(&text, budget)).transpose();
            compiled.map_err(|reason| error(format!("its schema of the {what}: {reason}")))
        };
        let limits = declared
            .iter()
            .map(|limit| limits.declare(plugin, &event, limit));
        Ok(Self {
            access: match access {
                guest::Access::Anyone => Access::Anyone,
                guest::Access::Authenticated => Access::Authenticated,
                guest::Access::Roles(roles) => Access::Roles(checked_roles(roles).map_err(error)?),
            },
            arguments: schema("arguments", arguments)?,
            reply: schema("reply", reply)?,
            limits: limits.collect::<Result<_, _>>().map_err(error)?,
            on_excess: on_excess.map(|on_excess| match on_excess {
                guest::OnExcess::Answer => OnExcess::Answer,
                guest::OnExcess::Drop => OnExcess::Drop,
            }),
            max_bytes: max_bytes.map_or(usize::MAX, |bytes| bytes as usize),
            serial_by: serial_by.map(SerialBy::new).transpose().map_err(error)?,
            repeatable,
            event,
        })
    }
}

fn checked_roles(roles: Vec<String>) -> Result<BTreeSet<String>, String> {
    if roles.len() > MAX_ROLES {
        let count = roles.len();
        return Err(format!("it names {count} roles; {MAX_ROLES} are allowed"));
    }
    if let Some(long) = roles.iter().find(|role| role.len() > MAX_ROLE_BYTES) {
        let size = long.len();
        return Err(format!(
            "a role has {size} bytes; {MAX_ROLE_BYTES} are allowed"
        ));
    }
    Ok(roles.into_iter().collect())
}

/// Events that the host itself answers.
fn is_host_event(event: &str) -> bool {
    ["authenticate", "subscribe:payments", "unsubscribe:payments"].contains(&event)
}
