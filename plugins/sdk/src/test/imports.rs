//! The functions of the host, as the contract has them, on what is around a test's handler.
use serde_json::Value;

use super::{Broadcast, Emitted, Moved, Selection, Target, around};
use crate::{Error, Message};

/// What the host takes is JSON; so is what plugins of Rust write.
fn json(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::Invalid(error.to_string()))
}

pub(crate) mod connection {
    use super::*;
    use crate::{Connection, User};

    fn told<T>(tell: impl FnOnce(&Connection) -> T) -> Result<T, Error> {
        around(|state| {
            state
                .connection
                .as_ref()
                .map(tell)
                .ok_or(Error::NoConnection)
        })
    }

    pub(crate) fn id() -> Result<String, Error> {
        told(|connection| connection.id.clone())
    }

    pub(crate) fn namespace() -> Result<String, Error> {
        told(|connection| connection.namespace.clone())
    }

    pub(crate) fn address() -> Result<String, Error> {
        told(|connection| connection.address.clone())
    }

    pub(crate) fn user() -> Result<Option<User>, Error> {
        told(|connection| connection.user.clone())
    }

    pub(crate) fn recovered() -> Result<bool, Error> {
        told(|connection| connection.recovered)
    }

    /// Fails where there is none.
    pub(super) fn needed() -> Result<(), Error> {
        told(|_| ())
    }
}

pub(crate) mod rooms {
    use super::*;

    pub(crate) fn join(room: &str) -> Result<(), Error> {
        connection::needed()?;
        around(|state| {
            let rooms = &mut state.effects.rooms;
            if !rooms.iter().any(|other| other == room) {
                rooms.push(room.to_owned());
            }
        });
        Ok(())
    }

    pub(crate) fn leave(room: &str) -> Result<(), Error> {
        connection::needed()?;
        around(|state| state.effects.rooms.retain(|other| other != room));
        Ok(())
    }

    pub(crate) fn joined() -> Result<Vec<String>, Error> {
        connection::needed()?;
        Ok(around(|state| state.effects.rooms.clone()))
    }

    pub(crate) fn join_sockets(selection: &Selection, room: &str) -> Result<(), Error> {
        moved(selection, room, true)
    }

    pub(crate) fn leave_sockets(selection: &Selection, room: &str) -> Result<(), Error> {
        moved(selection, room, false)
    }

    fn moved(selection: &Selection, room: &str, joins: bool) -> Result<(), Error> {
        let moved = Moved {
            selection: selection.clone(),
            room: room.to_owned(),
            joins,
        };
        around(|state| state.effects.moved.push(moved));
        Ok(())
    }
}

pub(crate) mod emit {
    use super::*;
    pub(crate) use crate::bindings::mixlab::plugin::emit::Options;

    pub(crate) fn emit(
        target: &Target,
        event: &str,
        message: &Message,
        options: &Options,
    ) -> Result<(), Error> {
        if matches!(target, Target::Sender) {
            connection::needed()?;
        }
        let emitted = Emitted {
            target: target.clone(),
            event: event.to_owned(),
            arguments: json(&message.arguments)?,
            attachments: message.attachments.clone(),
            volatile: options.volatile,
            keep: options.keep.clone(),
        };
        around(|state| state.effects.emitted.push(emitted));
        Ok(())
    }
}

pub(crate) mod broadcast {
    use super::*;

    fn record(broadcast: Broadcast) -> Result<(), Error> {
        around(|state| state.effects.broadcasts.push(broadcast));
        Ok(())
    }

    pub(crate) fn broadcast_payment_update(data: &str) -> Result<(), Error> {
        record(Broadcast::PaymentUpdate(json(data)?))
    }

    pub(crate) fn send_user_notification(user: &str, notification: &str) -> Result<(), Error> {
        record(Broadcast::Notification(
            user.to_owned(),
            json(notification)?,
        ))
    }

    pub(crate) fn broadcast_to_role(role: &str, event: &str, data: &str) -> Result<(), Error> {
        record(Broadcast::ToRole(
            role.to_owned(),
            event.to_owned(),
            json(data)?,
        ))
    }

    pub(crate) fn connected_clients_count() -> Result<u64, Error> {
        Ok(around(|state| state.clients))
    }
}

pub(crate) mod ask {
    use super::*;
    use crate::bindings::mixlab::plugin::ask::{Answer, Answers};

    pub(crate) fn ask(event: &str, message: &Message, _: u32) -> Result<Message, Error> {
        connection::needed()?;
        let arguments = json(&message.arguments)?;
        around(|state| {
            state.acts.asked.push((event.to_owned(), arguments));
            state
                .acts
                .answers
                .pop_front()
                .unwrap_or(Err(Error::TimedOut))
        })
    }

    /// Each socket that is there gives the next answer.
    pub(crate) fn ask_sockets(
        _: &Selection,
        event: &str,
        message: &Message,
        _: u32,
    ) -> Result<Answers, Error> {
        let arguments = json(&message.arguments)?;
        Ok(around(|state| {
            state.acts.asked.push((event.to_owned(), arguments));
            let mut answers = Answers {
                answers: Vec::new(),
                missing: Vec::new(),
            };
            for socket in &state.sockets {
                let socket = socket.connection.id.clone();
                match state.acts.answers.pop_front() {
                    Some(Ok(message)) => answers.answers.push(Answer { socket, message }),
                    _ => answers.missing.push(socket),
                }
            }
            answers
        }))
    }
}

pub(crate) mod http {
    use super::*;
    pub(crate) use crate::bindings::mixlab::plugin::http::{Request, Response};

    pub(crate) fn send(request: &Request) -> Result<Response, Error> {
        around(|state| {
            state.acts.requests.push(request.clone());
            let unanswered = || Error::Unreachable("the test has no answer for it".to_owned());
            let answer = state.acts.http.pop_front();
            answer.unwrap_or_else(|| Err(unanswered()))
        })
    }
}

pub(crate) mod sockets {
    use super::*;
    use crate::{Handshake, Socket};

    pub(crate) fn handshake() -> Result<Handshake, Error> {
        connection::needed()?;
        let nothing = || Handshake {
            query: Vec::new(),
            headers: Vec::new(),
        };
        Ok(around(|state| {
            state.handshake.clone().unwrap_or_else(nothing)
        }))
    }

    pub(crate) fn find(_: &Selection) -> Result<Vec<Socket>, Error> {
        Ok(around(|state| state.sockets.clone()))
    }

    pub(crate) fn count(_: &Selection) -> Result<u64, Error> {
        Ok(around(|state| state.sockets.len() as u64))
    }

    pub(crate) fn data() -> Result<String, Error> {
        connection::needed()?;
        let kept = around(|state| state.effects.data.clone());
        Ok(kept.unwrap_or_else(|| "null".to_owned()))
    }

    pub(crate) fn set_data(data: &str) -> Result<(), Error> {
        connection::needed()?;
        around(|state| state.effects.data = Some(data.to_owned()));
        Ok(())
    }

    pub(crate) fn disconnect(target: &Target, close: bool) -> Result<(), Error> {
        around(|state| state.effects.disconnected.push((target.clone(), close)));
        Ok(())
    }
}

pub(crate) mod history {
    use super::*;
    use crate::Page;

    /// A position is the number of the events before it.
    pub(crate) fn since(topic: &str, position: Option<&str>, limit: u32) -> Result<Page, Error> {
        let kept = around(|state| state.history.get(topic).cloned().unwrap_or_default());
        let limit = limit as usize;
        let from = match position {
            None => kept.len().saturating_sub(limit),
            Some(position) => {
                let behind = kept.iter().position(|entry| entry.position == position);
                behind.map_or(0, |index| index + 1)
            }
        };
        let entries: Vec<_> = kept[from..].iter().take(limit).cloned().collect();
        let last = entries.last().map(|entry| entry.position.clone());
        Ok(Page {
            more: from + entries.len() < kept.len(),
            gap: false,
            position: last.or(position.map(str::to_owned)).unwrap_or_default(),
            entries,
        })
    }
}

pub(crate) mod presence {
    use super::*;
    pub(crate) use crate::bindings::mixlab::plugin::presence::Member;

    pub(crate) fn enter(room: &str, data: &str) -> Result<(), Error> {
        json(data)?;
        let (id, user) = (connection::id()?, connection::user()?);
        let member = Member {
            anonymous: user.is_none(),
            id: user.map_or(id, |user| user.id),
            connections: 1,
            data: data.to_owned(),
        };
        rooms::join(room)?;
        around(|state| {
            let present = state.effects.present.entry(room.to_owned()).or_default();
            present.retain(|other| other.id != member.id);
            present.push(member);
        });
        Ok(())
    }

    pub(crate) fn leave(room: &str) -> Result<(), Error> {
        let (id, user) = (connection::id()?, connection::user()?);
        let id = user.map_or(id, |user| user.id);
        rooms::leave(room)?;
        around(|state| {
            let present = state.effects.present.entry(room.to_owned()).or_default();
            present.retain(|other| other.id != id);
        });
        Ok(())
    }

    /// Those who were before this call.
    pub(crate) fn members(room: &str) -> Result<Vec<Member>, Error> {
        let present = around(|state| state.present.get(room).cloned());
        Ok(present.unwrap_or_default())
    }

    pub(crate) fn count(room: &str) -> Result<u64, Error> {
        Ok(members(room)?.len() as u64)
    }
}

pub(crate) mod store {
    use super::*;
    pub(crate) use crate::bindings::mixlab::plugin::store::Entry;

    fn at(bucket: Option<&str>, key: &str) -> (Option<String>, String) {
        (bucket.map(str::to_owned), key.to_owned())
    }

    pub(crate) fn get(bucket: Option<&str>, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(around(|state| {
            state.effects.store.get(&at(bucket, key)).cloned()
        }))
    }

    pub(crate) fn exists(bucket: Option<&str>, key: &str) -> Result<bool, Error> {
        Ok(get(bucket, key)?.is_some())
    }

    pub(crate) fn scan(
        bucket: Option<&str>,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Entry>, Error> {
        Ok(around(|state| {
            let of_bucket = state.effects.store.iter().filter(|((of, key), _)| {
                of.as_deref() == bucket
                    && key.starts_with(prefix)
                    && after.is_none_or(|after| key.as_str() > after)
            });
            let entries = of_bucket.map(|((_, key), value)| Entry {
                key: key.clone(),
                value: value.clone(),
            });
            entries.take(limit as usize).collect()
        }))
    }

    /// Nothing is over before the test is.
    pub(crate) fn set(
        bucket: Option<&str>,
        key: &str,
        value: &[u8],
        _time_to_live: Option<u64>,
    ) -> Result<(), Error> {
        around(|state| state.effects.store.insert(at(bucket, key), value.to_vec()));
        Ok(())
    }

    pub(crate) fn delete(bucket: Option<&str>, key: &str) -> Result<(), Error> {
        around(|state| state.effects.store.remove(&at(bucket, key)));
        Ok(())
    }

    pub(crate) fn add(bucket: Option<&str>, key: &str, delta: i64) -> Result<(), Error> {
        let former = match get(bucket, key)? {
            None => 0,
            Some(bytes) => serde_json::from_slice::<i64>(&bytes)
                .map_err(|_| Error::Invalid(format!("{key} is not a whole number")))?,
        };
        let overflows = || Error::Invalid(format!("{key} would be too large"));
        let sum = former.checked_add(delta).ok_or_else(overflows)?;
        set(bucket, key, sum.to_string().as_bytes(), None)
    }
}

pub(crate) mod timers {
    use super::*;
    pub(crate) use crate::bindings::mixlab::plugin::timers::{Timer, When};

    pub(crate) fn set(timer: &Timer) -> Result<(), Error> {
        json(&timer.payload)?;
        around(|state| {
            state
                .effects
                .timers
                .insert(timer.name.clone(), timer.clone())
        });
        Ok(())
    }

    pub(crate) fn cancel(name: &str) -> Result<(), Error> {
        around(|state| state.effects.timers.remove(name));
        Ok(())
    }
}

pub(crate) mod log {
    use super::around;
    use crate::log::Level;

    pub(crate) fn write(level: Level, line: &str) {
        around(|state| state.acts.log.push((level, line.to_owned())));
    }
}
