//! Whom a request is about: sockets of a namespace, as backends name them in all requests alike.

use std::borrow::Cow;

use super::auth::Backend;
use crate::{
    error::WireError,
    namespace::{MAIN_NAMESPACE, is_namespace},
    selected::{Named, Selected, Unreachable},
};

/// Sockets of one namespace as a backend names them.
#[derive(Debug, Default)]
pub(super) struct Whom {
    /// The main one if it is not said.
    pub namespace: Option<String>,
    pub named: Named,
    /// Has to be said, so that a list that is empty by mistake reaches nobody.
    pub everyone: bool,
}

impl Whom {
    /// Refuses a request that does not say whom it is about.
    pub(super) fn check(&self) -> Result<(), WireError> {
        match (self.named.is_everyone(), self.everyone) {
            (true, false) => Err(invalid(
                "name \"rooms\", \"users\", \"roles\" or \"sockets\", or say \"everyone\": true",
            )),
            (false, true) => Err(invalid("\"everyone\" is for nobody in particular")),
            _ => Ok(()),
        }
    }

    /// The sockets, if the backend may reach them: to emit an `event` to them, or to do anything else with them.
    pub(super) fn granted(
        self,
        backend: &Backend,
        event: Option<&str>,
    ) -> Result<Selected, WireError> {
        let namespace = granted_namespace(backend, self.namespace)?;
        let selection = self
            .named
            .granted(&backend.rights, event)
            .map_err(|unreachable| match unreachable {
                Unreachable::NotGranted(right) => backend.lacks(right),
                Unreachable::Invalid(reason) => invalid(reason),
            })?;
        Ok(Selected {
            namespace: Some(namespace),
            selection,
        })
    }
}

/// The namespace, if the backend may reach it.
pub(super) fn granted_namespace(
    backend: &Backend,
    namespace: Option<String>,
) -> Result<String, WireError> {
    let namespace = namespace.unwrap_or_else(|| MAIN_NAMESPACE.to_owned());
    if !is_namespace(&namespace) {
        return Err(invalid("namespace: expected a path like \"/staff\""));
    }
    let right = format_args!("namespace:{namespace}");
    backend.may(backend.rights.namespace(&namespace), right)?;
    Ok(namespace)
}

/// The refusal of what is not understood.
pub(super) fn invalid(reason: impl Into<Cow<'static, str>>) -> WireError {
    WireError::new("invalid_payload", reason)
}
