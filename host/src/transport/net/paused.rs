//! A connection that waits, for an answer or for its next request. It keeps nothing but what it has read:
//! hyper's buffers take 16 KiB, and the connections of clients that poll nearly always wait.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::response::Response;
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::timeout,
};

use super::{deferred::Deferred, listener::Stream};

/// How much of what a client sends meanwhile is read, which is how one learns that it has gone.
const MAX_UNREAD: usize = 8 * 1024;

/// So much of it is read at once.
const READ: usize = 512;

/// A request whose answer is there already: it takes the place of one that was answered later, so that hyper
/// sends the answer.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// A connection while nobody serves it.
pub(super) struct Paused {
    /// The connection.
    pub stream: Stream,
    /// What the client has sent, and nobody has looked at.
    pub unread: BytesMut,
}

impl Paused {
    /// Waits for an answer; none if the client goes away before.
    pub(super) async fn answer(&mut self, deferred: &mut Deferred) -> Option<Response> {
        poll_fn(|cx| {
            if let Poll::Ready(response) = deferred.poll(cx) {
                return Poll::Ready(Some(response));
            }
            loop {
                match self.poll_read(cx) {
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Waits until the next request begins; none if it does not within `limit`.
    pub(super) async fn next_request(&mut self, limit: Duration) -> Option<()> {
        let read = poll_fn(|cx| self.poll_read(cx));
        timeout(limit, read).await.ok()?
    }

    /// Reads more of what the client sends, up to what is kept of it; none if it has ended.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        if self.unread.len() >= MAX_UNREAD {
            return Poll::Pending;
        }
        let mut bytes = [0; READ];
        let mut read = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
            Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                self.unread.extend_from_slice(read.filled());
                Poll::Ready(Some(()))
            }
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The stream, of which what was read is read again.
    pub(super) fn resumed(self) -> Stream {
        let Self { mut stream, unread } = self;
        stream.give_back(unread.freeze());
        stream
    }

    /// The same behind a request that stands in for the one whose answer is there.
    pub(super) fn resumed_with_answer(self) -> Stream {
        let Self { mut stream, unread } = self;
        stream.give_back([STAND_IN, &unread].concat().into());
        stream
    }
}
