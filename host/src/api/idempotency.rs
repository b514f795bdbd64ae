//! Requests that a backend may send again: the header `Idempotency-Key`, and what came of each.
//!
//! A backend that gets no answer does not know whether its push has happened. It asks again with the same
//! key: what has happened is not done twice, and the answer is the first one's. In a cluster it may ask any server:
//! they share their answers in Redis ([`Request`]), and each has its own for while that is away.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::OptionalFromRequestParts,
    http::{HeaderName, request::Parts},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    broadcast::Broadcast,
    clock::Moment,
    cluster::{Begun, Bounds, Request},
    config::KeyHash,
    error::WireError,
};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// Longer keys are refused: they are kept.
const MAX_KEY_BYTES: usize = 255;

/// How long an answer is kept: longer than a backend tries again.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How many answers are kept for one API key. The oldest goes first.
const MAX_KEPT: usize = 10_000;

/// How many bytes they may have together, with their keys.
const MAX_KEPT_BYTES: usize = 4 << 20;

/// The same for what a cluster keeps.
const BOUNDS: Bounds = Bounds {
    requests: MAX_KEPT,
    bytes: MAX_KEPT_BYTES,
    time: KEPT_FOR,
};

/// So many answers may wait until Redis is back for other servers to know them.
const MAX_UNTOLD: usize = 10_000;

/// They wait no longer.
const TOLD_WITHIN: Duration = Duration::from_secs(10 * 60);

/// The key of a request: 1 to [`MAX_KEY_BYTES`] visible characters.
pub struct Key(Arc<str>);

/// What came of the requests of all backends, each by the API key that it was sent with. Kept in memory.
#[derive(Clone)]
pub struct Idempotency {
    backends: Arc<Mutex<HashMap<KeyHash, Kept>>>,
    /// Places for those that wait until other servers can be told.
    untold: Arc<Semaphore>,
}

/// Tells bodies apart: nobody makes two that are alike.
type Fingerprint = [u8; 32];

/// What came of a request, for the process that follows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedAnswer {
    /// When it came, in milliseconds since 1970.
    pub at: u64,
    backend: KeyHash,
    key: String,
    body: Fingerprint,
    answer: String,
}

/// What came of the requests of one backend.
#[derive(Default)]
struct Kept {
    requests: HashMap<Arc<str>, Known>,
    /// Those with answers, the oldest first.
    answered: VecDeque<(Instant, Arc<str>)>,
    bytes: usize,
}

/// A request that this server knows.
struct Known {
    body: Fingerprint,
    /// None while it is under way.
    answer: Option<Arc<str>>,
}

/// A request that is being performed. When that is over, its answer is kept; if it came to none, also by a
/// panic, the request is forgotten.
struct UnderWay<'a> {
    idempotency: &'a Idempotency,
    backend: &'a KeyHash,
    key: Arc<str>,
    since: Instant,
    answer: Option<Arc<str>>,
}

impl Default for Idempotency {
    fn default() -> Self {
        Self {
            backends: Arc::default(),
            untold: Arc::new(Semaphore::new(MAX_UNTOLD)),
        }
    }
}

impl Idempotency {
    /// The answer to a request: what `act` does now, or did when the same was asked for before. What fails
    /// has done nothing, and may be sent again with another body.
    pub fn once(
        &self,
        backend: &KeyHash,
        Key(key): Key,
        body: &str,
        act: impl FnOnce() -> Result<String, WireError>,
    ) -> Result<Arc<str>, WireError> {
        let mut under_way = match self.begin(backend, key, body, Instant::now())? {
            Ok(under_way) => under_way,
            Err(answer) => return Ok(answer),
        };
        let answer = act()?.into();
        Ok(under_way.answered(answer))
    }

    /// The same among all servers, where there are several.
    pub async fn once_among_all(
        &self,
        broadcast: &Broadcast,
        backend: &KeyHash,
        Key(key): Key,
        body: &str,
        act: impl FnOnce() -> Result<String, WireError>,
    ) -> Result<Arc<str>, WireError> {
        let Some(cluster) = broadcast.others() else {
            return self.once(backend, Key(key), body, act);
        };
        let request = Request::new(backend.to_hex(), &key, body);
        let mut under_way = match self.begin(backend, key, body, Instant::now())? {
            Ok(under_way) => under_way,
            Err(answer) => return Ok(answer),
        };
        match cluster.begin_request(&request, BOUNDS).await {
            Some(Begun::Answered(answer)) => return Ok(under_way.answered(answer.into())),
            Some(Begun::Before) => return Err(is_under_way()),
            Some(Begun::Reused) => return Err(reused()),
            Some(Begun::First) | None => {}
        }
        let answer = match act() {
            Ok(answer) => under_way.answered(answer.into()),
            Err(error) => {
                // Where Redis does not hear it, the key is free again when the time of the request is over.
                cluster.end_request(&request, None, BOUNDS).await;
                return Err(error);
            }
        };
        if !cluster.end_request(&request, Some(&answer), BOUNDS).await {
            self.tell_later(broadcast.clone(), request, answer.clone());
        }
        Ok(answer)
    }

    /// Has other servers know an answer when Redis is back.
    fn tell_later(&self, broadcast: Broadcast, request: Request, answer: Arc<str>) {
        let Ok(place) = self.untold.clone().try_acquire_owned() else {
            return;
        };
        let tell = async move {
            let Some(cluster) = broadcast.others() else {
                return;
            };
            loop {
                cluster.redis_is_back().await;
                if cluster.end_request(&request, Some(&answer), BOUNDS).await {
                    return;
                }
            }
        };
        tokio::spawn(async move {
            let _ = timeout(TOLD_WITHIN, tell).await;
            drop(place);
        });
    }

    /// The request is under way from now on, or this is its answer.
    fn begin<'a>(
        &'a self,
        backend: &'a KeyHash,
        key: Arc<str>,
        body: &str,
        now: Instant,
    ) -> Result<Result<UnderWay<'a>, Arc<str>>, WireError> {
        let body = Sha256::digest(body).into();
        let mut backends = self.backends.lock();
        backends.retain(|_, kept| {
            kept.expire(now);
            !kept.requests.is_empty()
        });
        let kept = backends.entry(*backend).or_default();
        match kept.requests.get(&key) {
            Some(request) if request.body != body => return Err(reused()),
            Some(Known { answer: None, .. }) => return Err(is_under_way()),
            Some(Known {
                answer: Some(answer),
                ..
            }) => return Ok(Err(answer.clone())),
            None => {}
        }
        let request = Known { body, answer: None };
        kept.requests.insert(key.clone(), request);
        Ok(Ok(UnderWay {
            idempotency: self,
            backend,
            key,
            since: now,
            answer: None,
        }))
    }
}

impl Idempotency {
    /// What came of all requests, for the process that follows; those of one backend the oldest first.
    pub(crate) fn save(&self, now: Moment) -> Vec<SavedAnswer> {
        let backends = self.backends.lock();
        let all = backends.iter().flat_map(|(backend, kept)| {
            kept.answered.iter().filter_map(|(since, key)| {
                let request = kept.requests.get(key)?;
                Some(SavedAnswer {
                    at: now.told(*since),
                    backend: *backend,
                    key: key.to_string(),
                    body: request.body,
                    answer: request.answer.as_deref()?.to_owned(),
                })
            })
        });
        all.collect()
    }

    /// Knows what came of requests to the process before, those of one backend the oldest first.
    pub(crate) fn restore(&self, answers: Vec<SavedAnswer>, now: Moment) {
        let mut backends = self.backends.lock();
        for saved in answers {
            let kept = backends.entry(saved.backend).or_default();
            let (key, body) = (Arc::from(saved.key), saved.body);
            let request = Known { body, answer: None };
            kept.requests.insert(Arc::clone(&key), request);
            kept.answer(&key, saved.answer.into(), now.meant(saved.at));
        }
    }
}

impl UnderWay<'_> {
    /// It has an answer, which is kept as soon as this is dropped.
    fn answered(&mut self, answer: Arc<str>) -> Arc<str> {
        self.answer.insert(answer).clone()
    }
}

fn reused() -> WireError {
    let message = "this Idempotency-Key was sent with another body or path";
    WireError::new("idempotency_key_reused", message)
}

fn is_under_way() -> WireError {
    let message = "a request with this Idempotency-Key is under way";
    WireError::temporary("conflict", message)
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut backends = self.idempotency.backends.lock();
        let Some(kept) = backends.get_mut(self.backend) else {
            return;
        };
        match self.answer.take() {
            Some(answer) => kept.answer(&self.key, answer, self.since),
            None => {
                kept.requests.remove(&self.key);
            }
        }
    }
}

impl Kept {
    fn answer(&mut self, key: &Arc<str>, answer: Arc<str>, since: Instant) {
        let Some(request) = self.requests.get_mut(key) else {
            return;
        };
        self.bytes += key.len() + answer.len();
        request.answer = Some(answer);
        self.answered.push_back((since, key.clone()));
        while self.answered.len() > MAX_KEPT || self.bytes > MAX_KEPT_BYTES {
            self.forget_oldest();
        }
    }

    fn expire(&mut self, now: Instant) {
        while self
            .answered
            .front()
            .is_some_and(|(since, _)| now.duration_since(*since) >= KEPT_FOR)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.answered.pop_front() else {
            return;
        };
        let request = self.requests.remove(&key);
        let answer = request.and_then(|request| request.answer);
        self.bytes -= key.len() + answer.map_or(0, |answer| answer.len());
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Key {
    type Rejection = WireError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, WireError> {
        let mut sent = parts.headers.get_all(HEADER).iter();
        let Some(key) = sent.next() else {
            return Ok(None);
        };
        let is_key = |key: &&str| (1..=MAX_KEY_BYTES).contains(&key.len());
        match key.to_str().ok().filter(is_key) {
            Some(key) if sent.next().is_none() => Ok(Some(Self(key.into()))),
            _ => Err(WireError::new(
                "invalid_payload",
                format!("send one Idempotency-Key of 1 to {MAX_KEY_BYTES} visible characters"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(
        idempotency: &Idempotency,
        (backend, key, body): (u8, &str, &str),
        answer: Result<&str, &'static str>,
    ) -> Result<String, String> {
        let act = || match answer {
            Ok(answer) => Ok(answer.to_owned()),
            Err(code) => Err(WireError::new(code, "")),
        };
        let answer = idempotency.once(&KeyHash::of(&[backend]), Key(key.into()), body, act);
        match answer {
            Ok(answer) => Ok(answer.to_string()),
            Err(error) => Err(error.code.into_owned()),
        }
    }

    #[test]
    fn the_same_request_has_the_same_answer() {
        let all = Idempotency::default();
        let reused = Err("idempotency_key_reused".to_owned());
        assert_eq!(ask(&all, (1, "a", "x"), Ok("1")), Ok("1".to_owned()));
        assert_eq!(ask(&all, (1, "a", "x"), Ok("2")), Ok("1".to_owned()));
        assert_eq!(ask(&all, (1, "a", "y"), Ok("2")), reused);
        assert_eq!(ask(&all, (1, "b", "x"), Ok("3")), Ok("3".to_owned()));
        assert_eq!(ask(&all, (2, "a", "y"), Ok("4")), Ok("4".to_owned()));
    }

    #[test]
    fn what_failed_may_be_sent_again() {
        let all = Idempotency::default();
        assert_eq!(ask(&all, (1, "a", "x"), Err("no")), Err("no".to_owned()));
        assert_eq!(ask(&all, (1, "a", "y"), Ok("1")), Ok("1".to_owned()));
        let panics = || -> Result<String, WireError> { panic!("as a test wants it") };
        let one = std::panic::AssertUnwindSafe(|| {
            all.once(&KeyHash::of(&[1]), Key("b".into()), "x", panics)
        });
        std::panic::catch_unwind(one).unwrap_err();
        assert_eq!(ask(&all, (1, "b", "y"), Ok("2")), Ok("2".to_owned()));
    }

    #[test]
    fn who_asks_while_the_first_is_under_way_is_told_so() {
        let all = Idempotency::default();
        let (backend, key) = (KeyHash::of(&[1]), || Key("a".into()));
        let first = all.once(&backend, key(), "x", || {
            let second = all.once(&backend, key(), "x", || Ok("2".to_owned()));
            let error = second.unwrap_err();
            assert_eq!((&*error.code, error.temporary), ("conflict", true));
            Ok("1".to_owned())
        });
        assert_eq!(&*first.unwrap(), "1");
        let third = all.once(&backend, key(), "x", || Ok("3".to_owned()));
        assert_eq!(&*third.unwrap(), "1");
    }

    #[test]
    fn the_oldest_answers_make_room_by_number_and_by_bytes() {
        for (answer, fit) in [("1", MAX_KEPT), (&*"x".repeat(1 << 20), 3)] {
            let all = Idempotency::default();
            let key = |index: usize| format!("{index}");
            for index in 0..=fit {
                ask(&all, (1, &key(index), "x"), Ok(answer)).unwrap();
            }
            let again = ask(&all, (1, &key(1), "x"), Ok("again"));
            assert_eq!(again.as_deref(), Ok(answer), "the second is there");
            let again = ask(&all, (1, &key(0), "x"), Ok("again"));
            assert_eq!(again.as_deref(), Ok("again"), "the first is gone");
            assert!(all.backends.lock()[&KeyHash::of(&[1])].bytes <= MAX_KEPT_BYTES);
        }
    }

    #[test]
    fn answers_go_when_their_time_is_over() {
        let all = Idempotency::default();
        ask(&all, (1, "a", "x"), Ok("1")).unwrap();
        let later = Instant::now() + KEPT_FOR;
        let other = KeyHash::of(&[2]);
        assert!(all.begin(&other, "b".into(), "x", later).unwrap().is_ok());
        let backends = all.backends.lock();
        assert!(
            !backends.contains_key(&KeyHash::of(&[1])),
            "nothing is left of it"
        );
    }
}
