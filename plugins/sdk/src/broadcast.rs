//! The four broadcast primitives.
use std::fmt::Display;

use serde::Serialize;

use crate::host::broadcast;
use crate::rejection::not_json;
use crate::{Context, Error};

impl Context {
    /// Emits `payment_update` with `{ type, data, timestamp }` to everyone who subscribed to
    /// payments. Grant: `payments`.
    pub fn broadcast_payment_update(&self, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        broadcast::broadcast_payment_update(&json(data)?)
    }

    /// Emits `notification` with the fields of `notification` and a timestamp to every connection
    /// of a user. Grant: `notify`.
    pub fn send_user_notification(
        &self,
        user_id: impl Display,
        notification: &(impl Serialize + ?Sized),
    ) -> Result<(), Error> {
        broadcast::send_user_notification(&user_id.to_string(), &json(notification)?)
    }

    /// Emits `event` with `data` to every user with a role. Grant: `role:ROLE` or
    /// `role:ROLE:EVENT`.
    pub fn broadcast_to_role(
        &self,
        role: &str,
        event: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<(), Error> {
        broadcast::broadcast_to_role(role, event, &json(data)?)
    }

    /// The number of connected clients. Grant: `clients`.
    pub fn connected_clients_count(&self) -> Result<u64, Error> {
        broadcast::connected_clients_count()
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> Result<String, Error> {
    serde_json::to_string(value).map_err(not_json)
}
