//! Books a studio with `booking:create`: the admins hear of it, the user gets a notification.
use std::hash::{BuildHasher, RandomState};

use mixlab_plugin::prelude::*;
use time::PrimitiveDateTime;
use time::format_description::well_known::Iso8601;

mixlab_plugin::export!(plugin);

fn plugin(_config: &Config) -> Result<Plugin, String> {
    let create = Event::new("booking:create")
        .authenticated()
        .limit(Scope::User, "10/1m")
        .max_bytes(4096)
        .handle(create);
    Ok(
        Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .event(create)
            .emits::<Booking>("new_booking"),
    )
}

/// What the client asks for.
#[data]
#[serde(deny_unknown_fields)]
struct Request {
    #[schemars(length(min = 1, max = 100))]
    studio: String,
    /// Local time of the studio or with an offset, in ISO 8601: `2026-12-24T18:00`.
    #[schemars(length(max = 64))]
    start: String,
    #[schemars(range(min = 1, max = 12))]
    hours: u8,
}

/// What the client and the admins get.
#[data]
#[serde(rename_all = "camelCase")]
struct Booking {
    id: String,
    studio: String,
    start: String,
    hours: u8,
    user_id: String,
}

/// To the user, on every device.
#[data]
#[serde(rename_all = "camelCase")]
struct Notification<'a> {
    title: &'a str,
    message: &'a str,
    r#type: &'a str,
    booking_id: &'a str,
}

fn create(cx: &Context, request: Request) -> Result<Booking, Rejection> {
    if !is_date_time(&request.start) {
        return Err(Rejection::new(
            "invalid_start",
            "`start` is not a date and time in ISO 8601, such as 2026-12-24T18:00",
        ));
    }
    let booking = Booking {
        id: new_id(),
        studio: request.studio,
        start: request.start,
        hours: request.hours,
        user_id: cx.user()?.id.clone(),
    };
    cx.broadcast_to_role("admin", "new_booking", &booking)?;
    cx.send_user_notification(
        &booking.user_id,
        &Notification {
            title: "Booking Confirmed",
            message: "Your studio booking has been confirmed",
            r#type: "success",
            booking_id: &booking.id,
        },
    )?;
    Ok(booking)
}

/// With or without an offset.
fn is_date_time(text: &str) -> bool {
    PrimitiveDateTime::parse(text, &Iso8601::PARSING).is_ok()
}

/// Unique without a store that all instances share: 64 random bits, which std takes from the host.
fn new_id() -> String {
    format!("{:016x}", RandomState::new().hash_one(0))
}

#[cfg(test)]
mod tests {
    use mixlab_plugin::serde_json::json;
    use mixlab_plugin::test::{Broadcast, Host};

    use super::*;

    fn host() -> Host {
        let mut host = Host::load(plugin, json!({})).unwrap();
        host.log_in("7", &["student"]);
        host
    }

    #[test]
    fn a_booking_is_told_to_admins_and_to_its_user() {
        let mut host = host();
        let wanted = json!([{ "studio": "A", "start": "2026-12-24T18:00", "hours": 2 }]);
        let booked = host.send("booking:create", wanted).unwrap().unwrap()[0].take();
        assert_eq!(booked["userId"], "7");
        let [
            Broadcast::ToRole(role, event, told),
            Broadcast::Notification(user, notification),
        ] = &host.take_broadcasts()[..]
        else {
            panic!("the admins and the user are told");
        };
        assert_eq!((&**role, &**event, told), ("admin", "new_booking", &booked));
        assert_eq!((&**user, &notification["bookingId"]), ("7", &booked["id"]));
    }

    #[test]
    fn a_start_that_is_no_date_is_refused_and_nobody_hears_of_it() {
        let mut host = host();
        for start in ["", "tomorrow", "2026-13-01T10:00", "2026-12-24"] {
            let wanted = json!([{ "studio": "A", "start": start, "hours": 2 }]);
            let refused = host.send("booking:create", wanted).unwrap_err();
            assert_eq!(refused.code, "invalid_start", "{start}");
        }
        assert!(host.take_broadcasts().is_empty());
    }
}
