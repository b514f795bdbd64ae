//! Events whose acks somebody waits for.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
    vec,
};

use ahash::{HashMap, HashSet};
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};

use crate::{message::Message, transport::key::SessionKey};

/// What a client that was asked answered.
pub(super) type Answer = (SessionKey, Result<Message, Unanswered>);

/// Why a client did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Not in time, or with nothing that can be read. Nor does one that did not get the event
    /// because its send buffer was full.
    TimedOut,
    /// Its connection ended.
    Disconnected,
}

/// The questions to clients of one namespace that are open.
#[derive(Default)]
pub(super) struct Asks {
    next: AtomicI64,
    open: Mutex<HashMap<i64, Asked>>,
}

/// One question, perhaps to many.
struct Asked {
    /// Who has not answered.
    waiting: HashSet<SessionKey>,
    /// There is one answer for each who was asked, so they are bounded.
    answers: mpsc::UnboundedSender<Answer>,
}

/// The answers as they come.
struct Answers {
    id: i64,
    asks: Arc<Asks>,
    answers: mpsc::UnboundedReceiver<Answer>,
    timeout: Pin<Box<Sleep>>,
    /// Who has not answered in time.
    late: Option<vec::IntoIter<SessionKey>>,
}

impl Asks {
    /// A question to sockets, and the number that their acks have to name: an item of the stream for
    /// each of them, within `timeout`.
    pub(super) fn open(
        self: &Arc<Self>,
        sockets: HashSet<SessionKey>,
        timeout: Duration,
    ) -> (i64, impl Stream<Item = Answer> + Send + use<>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::unbounded_channel();
        let asked = Asked {
            waiting: sockets,
            answers: sender,
        };
        if !asked.waiting.is_empty() {
            self.open.lock().insert(id, asked);
        }
        let answers = Answers {
            id,
            asks: self.clone(),
            answers: receiver,
            timeout: Box::pin(sleep(timeout)),
            late: None,
        };
        (id, stream::unfold(answers, Answers::next))
    }

    /// A client has answered. What nobody waits for is dropped.
    pub(super) fn answer(&self, id: i64, answer: Answer) {
        let mut open = self.open.lock();
        let Some(asked) = open.get_mut(&id) else {
            return;
        };
        if asked.waiting.remove(&answer.0) {
            // Whoever asked may wait no more.
            asked.answers.send(answer).ok();
        }
        if asked.waiting.is_empty() {
            open.remove(&id);
        }
    }

    /// A client is gone, and answers nothing any more.
    pub(super) fn is_gone(&self, socket: SessionKey) {
        let mut open = self.open.lock();
        open.retain(|_, asked| {
            if asked.waiting.remove(&socket) {
                let gone = (socket, Err(Unanswered::Disconnected));
                asked.answers.send(gone).ok();
            }
            !asked.waiting.is_empty()
        });
    }

    /// Nobody waits any more; returns who has not answered.
    fn close(&self, id: i64) -> Vec<SessionKey> {
        let asked = self.open.lock().remove(&id);
        asked.map_or_else(Vec::new, |asked| asked.waiting.into_iter().collect())
    }
}

impl Answers {
    async fn next(mut self) -> Option<(Answer, Self)> {
        loop {
            if let Some(late) = &mut self.late {
                let socket = late.next()?;
                return Some(((socket, Err(Unanswered::TimedOut)), self));
            }
            tokio::select! {
                biased;
                answer = self.answers.recv() => return answer.map(|answer| (answer, self)),
                () = &mut self.timeout => {
                    self.late = Some(self.asks.close(self.id).into_iter());
                }
            }
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.asks.close(self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn each_who_is_asked_is_heard_of_once() {
        let asks = Arc::new(Asks::default());
        let [quick, gone, silent] = [(); 3].map(|()| SessionKey::new());
        let asked = HashSet::from_iter([quick, gone, silent]);
        let (id, answers) = asks.open(asked, Duration::from_millis(50));
        for _ in 0..2 {
            asks.answer(id, (quick, Ok(Message::none())));
            asks.answer(id + 1, (silent, Ok(Message::none())));
            asks.is_gone(gone);
        }
        let answers: Vec<_> = answers
            .map(|(socket, answer)| (socket, answer.err()))
            .collect()
            .await;
        let expected = [
            (quick, None),
            (gone, Some(Unanswered::Disconnected)),
            (silent, Some(Unanswered::TimedOut)),
        ];
        assert_eq!(answers, expected);
        assert!(asks.open.lock().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_question_that_nobody_asks_any_more() {
        let asks = Arc::new(Asks::default());
        let (_, answers) = asks.open(
            HashSet::from_iter([SessionKey::new()]),
            Duration::from_secs(1),
        );
        drop(answers);
        assert!(asks.open.lock().is_empty());
        let (_, answers) = asks.open(HashSet::default(), Duration::from_secs(1));
        assert_eq!(answers.count().await, 0);
    }
}
