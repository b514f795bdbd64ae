//! Calls of a version whose place another has taken meanwhile.

use std::sync::Arc;

use super::{Dispatcher, call::Call, progress::Progress};
use crate::{capability, error::WireError};

impl Dispatcher {
    /// Hands a call to the version that has taken the place of one of its plugins, and stores otherwise. As
    /// nothing of it has happened, it is as if it came now; it has been let in.
    pub(super) fn start_over(self: &Arc<Self>, mut call: Call) -> Progress {
        call.restart();
        let registry = self.registry.load();
        let (namespace, event) = (call.answer.connection.namespace(), &call.answer.event);
        let Some(route) = registry.route(namespace, event).cloned() else {
            let error = WireError::temporary("plugin_unavailable", "the plugin is not available");
            self.refuse(call.answer, None, error);
            return Progress::Done;
        };
        let this = self.clone();
        let most = self.broadcast.max_attachments();
        Progress::Moved(Box::pin(async move {
            let client = call.answer.connection.address.network();
            let check = {
                let (route, given) = (route.clone(), call.message.clone());
                move || {
                    // What the client sent can be read: it was.
                    let message = capability::checked((*given).clone(), Some(&given), most);
                    let message =
                        message.map_err(|_| WireError::new("internal", "the server failed"))?;
                    // The new version may have another contract.
                    route.contract.check(&message).map(|()| message)
                }
            };
            let checked = this.checks.run(&route.plugin, client, check).await;
            match checked.flatten() {
                Ok(message) => this.run_in_turn(call.by_route(route, message)).end().await,
                Err(error) => this.refuse(call.answer, Some(&route), error),
            }
        }))
    }
}
