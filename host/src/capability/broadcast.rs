//! `mixlab:plugin/broadcast`: the four primitives.

use serde_json::{Value, value::RawValue};

use super::{State, checked_event, denied, taped::Taped};
use crate::{
    broadcast::Notification,
    effect::Effect,
    guest::{Error, broadcast},
    message::{AROUND_PUSHED, check_inside},
    user::UserId,
};

impl broadcast::Host for State {
    fn broadcast_payment_update(&mut self, data: String) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(data.len())?;
        Ok(self.payment_update(data))
    }

    fn send_user_notification(
        &mut self,
        user_id: String,
        notification: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(user_id.len() + notification.len())?;
        Ok(self.user_notification(&user_id, &notification))
    }

    fn broadcast_to_role(
        &mut self,
        role: String,
        event: String,
        data: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.meter
            .host_call(role.len() + event.len() + data.len())?;
        Ok(self.role_event(role, event, data))
    }

    fn connected_clients_count(&mut self) -> wasmtime::Result<Result<u64, Error>> {
        self.meter.host_call(0)?;
        let note = match self.answer("broadcast.connected-clients-count", || Value::Null) {
            Taped::Told(told) => return Ok(told),
            Taped::Ask(note) => note,
        };
        let count = self.clients_count();
        note.keep(&count);
        Ok(count)
    }
}

impl State {
    fn payment_update(&mut self, data: String) -> Result<(), Error> {
        if !self.grants().payments() {
            return Err(denied("payments"));
        }
        self.record(Effect::PaymentUpdate {
            data: json("data", data)?,
        })
    }

    fn user_notification(&mut self, user_id: &str, notification: &str) -> Result<(), Error> {
        if !self.grants().notify(user_id) {
            return Err(denied(format_args!("notify:{user_id}")));
        }
        let user = UserId::from_text(user_id)
            .ok_or_else(|| Error::Invalid(format!("user-id: {user_id:?} is no user id")))?;
        let fields = Notification::parse(notification)
            .map_err(|error| Error::Invalid(format!("notification: not a JSON object: {error}")))?;
        readable("notification", notification)?;
        self.record(Effect::Notify {
            user,
            notification: fields,
        })
    }

    fn role_event(&mut self, role: String, event: String, data: String) -> Result<(), Error> {
        if !self.grants().role(&role, Some(&event)) {
            return Err(denied(format_args!("role:{role}:{event}")));
        }
        checked_event(&event)?;
        let data = json("data", data)?;
        self.record(Effect::ToRole { role, event, data })
    }

    fn clients_count(&self) -> Result<u64, Error> {
        if !self.grants().clients() {
            return Err(denied("clients"));
        }
        Ok(self.broadcast.connected_clients_count() as u64)
    }
}

fn json(argument: &str, text: String) -> Result<Box<RawValue>, Error> {
    let json = RawValue::from_string(text)
        .map_err(|error| Error::Invalid(format!("{argument}: not a JSON value: {error}")))?;
    readable(argument, json.get())?;
    Ok(json)
}

fn readable(argument: &str, json: &str) -> Result<(), Error> {
    let readable = check_inside(json, AROUND_PUSHED);
    readable.map_err(|error| Error::Invalid(format!("{argument}: {error}")))
}
