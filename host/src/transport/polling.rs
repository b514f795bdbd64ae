//! Long polling: a GET waits for packets, a POST brings some.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::{task::unconstrained, time::sleep};

use super::{
    event_name::{self, SEPARATOR, is_separator},
    front::{Front, Origin},
    handshake::Handshake,
    introduction::Answer,
    outbox::Pushed,
    passage::Passage,
    refusal::Refusal,
    session::Session,
};

/// How long a session that its client ends is known for a last poll: what was sent at once over two
/// connections may come in any order.
const LAST_POLL: Duration = Duration::from_millis(100);

/// The packet of a poll that comes back without others.
const NOTHING: Bytes = Bytes::from_static(b"6");

/// Ends a session.
const CLOSE: Bytes = Bytes::from_static(b"1");

/// What an answer to CONNECT has beside the namespace, in bytes.
const ANSWER: usize = 64;

/// Begins a session.
pub async fn open(front: &Arc<Front>, request: Request) -> Result<Response, Refusal> {
    let origin = Origin::of(&request);
    let handshake = Handshake::of(&request, &front.sessions)?;
    let session = front.sessions.begin(handshake);
    let request = front.opening_request("polling", origin, session.clone(), Body::empty());
    let packet = front.ask(request).await?;
    if let Some(id) = session_id(&packet) {
        front.sessions.enter(&session, id.clone());
        // Weak: the front holds socketioxide, which holds the session.
        let (weak, ended) = (Arc::downgrade(front), id.clone());
        let end = move || {
            if let Some(front) = weak.upgrade() {
                close(front, ended.clone());
            }
        };
        session.end_polling.get_or_init(|| Box::new(end));
        answer_first_ping(front, &id).await;
    }
    Ok(payload(packet))
}

/// The id in an OPEN packet.
fn session_id(packet: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Open {
        sid: String,
    }
    let open: Open = serde_json::from_slice(packet.strip_prefix(b"0")?).ok()?;
    Some(open.sid)
}

/// Takes and answers the ping that socketioxide sends at once. Nobody else can know the session
/// yet, so the ping is all there is.
async fn answer_first_ping(front: &Front, id: &str) {
    let ping = front.request(Method::GET, "polling", Some(id), Body::empty());
    if front.ask(ping).await.is_ok_and(|packet| *packet == *b"2") {
        let pong = front.request(Method::POST, "polling", Some(id), Body::from("3"));
        if let Err(refusal) = front.ask(pong).await {
            tracing::debug!(?refusal, "a session ended as it began");
        }
    }
}

/// Waits for packets.
pub async fn poll(
    front: Arc<Front>,
    session: Arc<Session>,
    id: String,
) -> Result<Response, Refusal> {
    if session.owes_poll.swap(false, Ordering::Relaxed) {
        return Ok(payload(NOTHING));
    }
    let number = session.polls.begin();
    // Of two polls at once, socketioxide refuses the second and ends the session.
    let _waiting = session.poll.try_lock();
    let request = front.request(Method::GET, "polling", Some(&id), Body::empty());
    let end_if_aborted = EndIfAborted::new(&front, &session, id.clone());
    let mut asked = pin!(front.ask(request));
    // Unless it has to give way to other tasks, it is ready if there is anything.
    let packets = match unconstrained(asked.as_mut()).now_or_never() {
        Some(packets) => packets,
        None if session.is_closing() => {
            end_if_aborted.disarm();
            close(front.clone(), id);
            return Ok(payload(CLOSE));
        }
        None => {
            session.outbox.polled_empty();
            tokio::select! {
                biased;
                packets = asked => packets,
                () = session.polls.released(number) => match session.is_on_websocket() {
                    // The client had none waiting as it ended the upgrade, so this one came behind.
                    true => Err(Refusal::BadRequest),
                    false => Ok(NOTHING),
                },
            }
        }
    };
    end_if_aborted.disarm();
    let packets = packets?;
    session.outbox.polled(size(&packets));
    Ok(payload(with_connect_answers(&session, packets)))
}

/// What the packets in a payload take as they were counted when they were sent, in bytes.
fn size(packets: &[u8]) -> usize {
    let size = |packet: &[u8]| match packet {
        [b'4', b'0' | b'2'..=b'6', ..] => packet.len(),
        [b'b', attachment @ ..] => base64::decoded_len_estimate(attachment.len()),
        _ => 0,
    };
    packets.split(is_separator).map(size).sum()
}

/// Takes packets from the client.
pub async fn post(
    front: Arc<Front>,
    session: Arc<Session>,
    id: String,
    request: Request,
) -> Result<Response, Refusal> {
    // Of two at once nobody knows which is first.
    let Ok(mut passage) = session.post.try_lock() else {
        close(front, id);
        return Err(Refusal::BadRequest);
    };
    let end_if_aborted = EndIfAborted::new(&front, &session, id.clone());
    let body = match Limited::new(request.into_body(), front.max_payload)
        .collect()
        .await
    {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            end_if_aborted.disarm();
            return Err(Refusal::PayloadTooLarge);
        }
        Err(_) => return Err(Refusal::BadRequest),
    };
    end_if_aborted.disarm();
    if session.is_closing() {
        if body.split(is_separator).any(|packet| packet == CLOSE) {
            close(front, id);
        }
        return Ok(payload(Bytes::from_static(b"ok")));
    }
    if body.split(is_separator).any(|packet| packet == b"1") && session.poll.try_lock().is_ok() {
        expect_last_poll(session.clone());
    }
    let answers = || Pushed::Taken;
    if session.outbox.push_to_poll(answers_size(&body), answers) == Some(Pushed::Full) {
        tracing::debug!("a client ends that fetches no answers");
        close(front, id);
        return Err(Refusal::BadRequest);
    }
    for packet in body.split(is_separator) {
        if let Some(rest) = event_name::connect(packet) {
            session.asks_for(rest);
        }
    }
    for part in parts(body) {
        let is_last = part.split(is_separator).any(|packet| packet == CLOSE);
        let body = event_name::escape_payload(passed(part, &mut passage, &session));
        let request = front.request(Method::POST, "polling", Some(&id), Body::from(body));
        let taken = front.ask(request).await;
        passage.settle(&session);
        taken?;
        if is_last {
            break;
        }
    }
    Ok(payload(Bytes::from_static(b"ok")))
}

/// The parts of a payload that socketioxide gets one after the other. A CONNECT begins one: a
/// connection in the same namespace that ends before it must be gone by then.
fn parts(mut packets: Bytes) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let is_connect = |bytes: &[u8]| bytes == [SEPARATOR, b'4', b'0'];
    while let Some(end) = packets.windows(3).position(is_connect) {
        parts.push(packets.split_to(end));
        packets.advance(1);
    }
    parts.push(packets);
    parts
}

/// The packets of a payload that pass.
fn passed(packets: Bytes, passage: &mut Passage, session: &Session) -> Bytes {
    let passes = |packet: &&[u8]| match packet.first() {
        Some(b'b') => passage.attachment_passes(),
        _ => passage.passes(packet, session),
    };
    let all = packets.split(is_separator);
    let passed: Vec<&[u8]> = all.clone().filter(passes).collect();
    match passed.len() == all.count() {
        true => packets,
        false => passed.join(&SEPARATOR).into(),
    }
}

/// Has a poll that comes soon end like one that waited.
fn expect_last_poll(session: Arc<Session>) {
    session.owes_poll.store(true, Ordering::Relaxed);
    // Ends with its pause.
    tokio::spawn(async move {
        sleep(LAST_POLL).await;
        drop(session);
    });
}

/// About what the answers to the CONNECT packets in a payload take, in bytes: the namespace and a
/// few words.
fn answers_size(packets: &[u8]) -> usize {
    let packets = packets.split(is_separator);
    let connects = packets.filter(|packet| packet.starts_with(b"40"));
    connects.map(|packet| packet.len() + ANSWER).sum()
}

/// The packets with the answers to CONNECT that the client is to see.
fn with_connect_answers(session: &Session, packets: Bytes) -> Bytes {
    let mut introductions = session.introductions();
    if introductions.is_empty() {
        return packets;
    }
    let mut out = Vec::with_capacity(packets.len());
    for (index, packet) in packets.split(is_separator).enumerate() {
        if index > 0 {
            out.push(SEPARATOR);
        }
        match introductions.answer(packet) {
            Some(Answer::Instead(answer)) => out.extend_from_slice(answer.as_bytes()),
            // What was given already was given over a websocket.
            Some(Answer::Given) | None => out.extend_from_slice(packet),
        }
    }
    out.into()
}

fn payload(packets: Bytes) -> Response {
    let mut response = packets.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=UTF-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Ends a session when the client aborts a request of it: what was on its way is lost, so the
/// client must not go on as if nothing had happened.
struct EndIfAborted(Option<(Arc<Front>, Arc<Session>, String)>);

impl EndIfAborted {
    fn new(front: &Arc<Front>, session: &Arc<Session>, id: String) -> Self {
        Self(Some((front.clone(), session.clone(), id)))
    }

    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for EndIfAborted {
    fn drop(&mut self) {
        let Some((front, session, id)) = self.0.take() else {
            return;
        };
        if !session.is_on_websocket() {
            tracing::debug!("a session ends because a request of it was aborted");
            close(front, id);
        }
    }
}

/// Ends a session as the client itself would.
fn close(front: Arc<Front>, id: String) {
    // Without a runtime the server has ended, and the session with it.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    // Ends at once: socketioxide takes a POST without waiting for anything.
    runtime.spawn(async move {
        let close = front.request(Method::POST, "polling", Some(&id), Body::from("1"));
        // A refusal means that it has ended already.
        front.ask(close).await.ok();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_begins_a_part_of_its_own_and_nothing_is_lost() {
        for (payload, expected) in [
            ("", &[""][..]),
            ("40", &["40"]),
            ("41|40", &["41", "40"]),
            ("3|42[\"a\"]|402", &["3|42[\"a\"]", "402"]),
            ("40/a,|40/b,|41/a,|2|", &["40/a,", "40/b,|41/a,|2|"]),
        ] {
            let separated = |text: &str| Bytes::from(text.replace('|', "\x1e"));
            let expected: Vec<_> = expected.iter().map(|part| separated(part)).collect();
            assert_eq!(parts(separated(payload)), expected, "{payload}");
        }
    }
}
