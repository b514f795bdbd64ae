//! Long polling: a GET waits for packets, a POST brings some.

mod compression;
pub(super) mod payload;

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use engineioxide_core::Packet;
use futures_util::StreamExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::task::yield_now;

use self::compression::Coding;
use super::{
    outbox::Polled,
    refusal::Refusal,
    session::{EndReason, Session, Transport},
    sessions::Policy,
};

/// So many packets of one body are handled before others get their turn.
const PACKETS_IN_A_ROW: usize = 64;

/// How the client wants large answers compressed, where that is switched on.
pub(super) fn coding(policy: &Policy, headers: &HeaderMap) -> Option<Coding> {
    policy.http_compression.and_then(|_| Coding::of(headers))
}

/// Waits for packets, which come back in this coding if they are many bytes.
pub(super) async fn poll(
    session: Arc<Session>,
    coding: Option<Coding>,
) -> Result<Response, Refusal> {
    // The client cannot have two open: it does not know which of them is answered first.
    let Some(_poll) = session.polls.begin() else {
        session.end_here(EndReason::TransportError);
        return Err(Refusal::BadRequest);
    };
    let mut end_if_aborted = EndIfAborted(Some(&session));
    let max = session.policy().max_payload;
    let polled = poll_fn(|cx| {
        let mut encoded = Bytes::new();
        let polled = session.outbox.poll_packets(cx, |packets| {
            let (count, payload) = payload::encode(packets, max);
            encoded = payload;
            count
        });
        match polled {
            Poll::Ready(Polled::Packets) => Poll::Ready(Ok(encoded)),
            // The client had none waiting as it moved to the websocket, so this one came behind.
            Poll::Ready(Polled::Moved) => Poll::Ready(Err(Refusal::BadRequest)),
            Poll::Ready(Polled::Closed) => Poll::Ready(Err(Refusal::UnknownSession)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    end_if_aborted.0 = None;
    if session.outbox.is_done() {
        session.end_here(EndReason::TransportClose);
    }
    let threshold = session.policy().http_compression;
    polled.map(|packets| match (coding, threshold) {
        (Some(coding), Some(threshold)) if packets.len() >= threshold => {
            let mut response = response(coding.encode(&packets));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_ENCODING, coding.header());
            response
        }
        _ => response(packets),
    })
}

/// Takes packets from the client.
pub(super) async fn post(session: Arc<Session>, request: Request) -> Result<Response, Refusal> {
    // Of two at once nobody knows which is first.
    let Some(_post) = session.posts.begin() else {
        session.end_here(EndReason::TransportError);
        return Err(Refusal::BadRequest);
    };
    let mut end_if_aborted = EndIfAborted(Some(&session));
    let body = Limited::new(request.into_body(), session.policy().max_payload).collect();
    let body = tokio::select! {
        biased;
        body = body => body,
        // The client has sent another one meanwhile.
        () = session.posts.ended() => return Err(Refusal::BadRequest),
    };
    let body = match body {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            end_if_aborted.0 = None;
            return Err(Refusal::PayloadTooLarge);
        }
        Err(_) => return Err(Refusal::BadRequest),
    };
    // The codec reads nothing behind a last separator, where Node finds a packet without a type.
    let is_cut = body.ends_with(&[payload::SEPARATOR]);
    let mut packets = pin!(payload::decode(body));
    let mut handled = 0;
    while let Some(packet) = packets.next().await {
        let received = match packet {
            Ok(packet) => receive(&session, packet),
            Err(_) => Err(EndReason::ParseError),
        };
        match received {
            Ok(()) => {}
            Err(EndReason::TransportClose) => {
                end_if_aborted.0 = None;
                session.close_by_client();
                return Ok(response(Bytes::from_static(b"ok")));
            }
            Err(reason) => {
                session.end_here(reason);
                return Err(Refusal::BadRequest);
            }
        }
        handled += 1;
        if handled % PACKETS_IN_A_ROW == 0 {
            yield_now().await;
        }
    }
    if is_cut {
        session.end_here(EndReason::ParseError);
        return Err(Refusal::BadRequest);
    }
    end_if_aborted.0 = None;
    Ok(response(Bytes::from_static(b"ok")))
}

fn receive(session: &Arc<Session>, packet: Packet) -> Result<(), EndReason> {
    match packet {
        Packet::Message(message) => Ok(session.receive_text(&message)?),
        Packet::Binary(bytes) => session.receive_binary(bytes),
        Packet::Close => Err(EndReason::TransportClose),
        other => session.receive(&String::from(other)),
    }
}

/// What answers to polls say to caches, as by Node: the first has the secret of a session in it, and no client is to get
/// another one's.
pub(crate) const UNCACHED: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// A payload as a response.
pub(super) fn response(packets: Bytes) -> Response {
    const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
    ([(header::CONTENT_TYPE, TEXT), UNCACHED], packets).into_response()
}

/// Ends a session if the client goes away in the middle of a request: nobody knows what it has got.
struct EndIfAborted<'a>(Option<&'a Arc<Session>>);

impl Drop for EndIfAborted<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.0
            && session.transport() != Transport::Websocket
        {
            session.end(EndReason::TransportClose);
        }
    }
}
