//! Keys of issuers that are fetched from where these publish them. Tokens are held against what was fetched
//! last; one that names a key which is not among them has the keys fetched anew, and is waited for.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::keys::KeySet;
use crate::{
    config,
    http_client::{Answer, Destination, HttpClient, Reach},
    metrics::Metrics,
    tasks::Task,
};

/// A larger answer is no set of keys.
const MAX_BYTES: usize = 256 * 1024;

/// How long a provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The least between two requests to a provider, whatever tokens name.
const PAUSE: Duration = Duration::from_secs(5);

/// The most between two, while it does not answer.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// How long a token is waited for whose key is not here: until the pause is over, and the answer has come.
const WAIT: Duration = Duration::from_secs(12);

/// How long keys are good where the provider does not say it, and within which bounds it may.
const AGE: Duration = Duration::from_secs(300);
const MIN_AGE: Duration = Duration::from_secs(60);
const MAX_AGE: Duration = Duration::from_secs(3600);

/// All whose keys are fetched.
pub(crate) struct Providers {
    http: HttpClient,
    metrics: Arc<Metrics>,
    known: Mutex<Vec<Arc<Provider>>>,
    /// When one is due may have changed.
    changed: Arc<Notify>,
}

impl Providers {
    /// None yet.
    pub(crate) fn new(http: &HttpClient, metrics: Arc<Metrics>) -> Self {
        Self {
            // Names that nobody answers for must not hold plugins up, nor theirs these.
            http: http.of_plugin(),
            metrics,
            known: Mutex::default(),
            changed: Arc::default(),
        }
    }

    /// Of a server that asks nobody.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self::new(&HttpClient::canned(Arc::default()), Arc::default())
    }

    /// Those of a configuration, with the keys that they have already. Others are forgotten.
    pub(super) fn of(&self, config: &config::Auth) -> Vec<Arc<Provider>> {
        let mut known = self.known.lock();
        let sources = config.issuers.iter().filter_map(Source::of);
        let same = |source: Source| {
            let known = known.iter().find(|provider| provider.source == source);
            known
                .cloned()
                .unwrap_or_else(|| Arc::new(Provider::new(source, self.changed.clone())))
        };
        let current: Vec<_> = sources.map(same).collect();
        known.clone_from(&current);
        self.changed.notify_one();
        current
    }

    /// The issuers whose keys have never been there.
    pub(crate) fn missing(&self) -> Vec<String> {
        let known = self.known.lock();
        let missing = known
            .iter()
            .filter(|provider| provider.keys.load().is_none());
        missing
            .map(|provider| provider.source.issuer.clone())
            .collect()
    }

    /// Those that are to be asked now, and when to look again.
    fn due(&self, now: Instant) -> (Vec<Arc<Provider>>, Option<Instant>) {
        let known = self.known.lock();
        let due = known.iter().filter(|provider| provider.begin(now));
        let due = due.cloned().collect();
        (due, known.iter().filter_map(|it| it.next()).min())
    }
}

/// Fetches keys when they are due.
pub(crate) struct FetchKeys(pub(crate) Arc<Providers>);

impl Task for FetchKeys {
    const NAME: &'static str = "fetching of keys";

    async fn run(&mut self, stop: &CancellationToken) {
        let Providers {
            http,
            metrics,
            changed,
            ..
        } = &*self.0;
        let mut under_way = JoinSet::new();
        loop {
            let (due, next) = self.0.due(Instant::now());
            for provider in due {
                let (http, metrics) = (http.clone(), metrics.clone());
                under_way.spawn(async move { provider.fetch(&http, &metrics).await });
            }
            let next = async {
                match next {
                    Some(next) => sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed.notified() => {}
                () = next => {}
                Some(_) = under_way.join_next() => {}
            }
        }
    }
}

/// What is fetched, and from where.
#[derive(PartialEq)]
struct Source {
    issuer: String,
    url: Destination,
    algorithms: Vec<Algorithm>,
    /// So long are keys taken that cannot be fetched again.
    outage: Duration,
}

impl Source {
    fn of(issuer: &config::Issuer) -> Option<Self> {
        Some(Self {
            issuer: issuer.issuer.clone(),
            url: issuer.provider.clone()?,
            algorithms: issuer.algorithms.clone(),
            outage: issuer.jwks_outage,
        })
    }
}

/// Where the keys of an issuer come from.
pub(super) struct Provider {
    source: Source,
    keys: ArcSwapOption<Fetched>,
    plan: Mutex<Plan>,
    /// The number of the last attempt that has ended.
    ended: watch::Sender<u64>,
    changed: Arc<Notify>,
}

/// Keys, and since when they are here.
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    at: Instant,
}

/// When a provider is asked.
#[derive(Debug, Default)]
struct Plan {
    /// None: as soon as can be.
    next: Option<Instant>,
    /// When it was asked last.
    asked: Option<Instant>,
    /// How often.
    attempts: u64,
    is_under_way: bool,
    /// How often in a row without an answer.
    failures: u32,
}

impl Plan {
    /// Begins an attempt, if one is due.
    fn begin(&mut self, now: Instant) -> bool {
        let is_due = !self.is_under_way && self.next.is_none_or(|next| next <= now);
        if is_due {
            self.is_under_way = true;
            self.asked = Some(now);
            self.attempts += 1;
        }
        is_due
    }

    /// Somebody needs keys: `others` than those that an attempt under way may bring, or any. Returns the
    /// number of the attempt to wait for.
    fn want(&mut self, others: bool) -> u64 {
        let soonest = self.asked.map(|asked| asked + PAUSE);
        if !self.is_under_way && self.next > soonest {
            self.next = soonest;
        }
        match self.is_under_way && !others {
            true => self.attempts,
            false => self.attempts + 1,
        }
    }

    /// An attempt has ended; with keys that are good for so long.
    fn end(&mut self, now: Instant, age: Option<Duration>) {
        self.is_under_way = false;
        let pause = match age {
            // Before they are too old.
            Some(age) => {
                self.failures = 0;
                age * 4 / 5
            }
            None => {
                self.failures += 1;
                MAX_PAUSE.min(PAUSE * 2_u32.saturating_pow(self.failures - 1))
            }
        };
        self.next = Some(now + pause);
    }
}

impl Provider {
    fn new(source: Source, changed: Arc<Notify>) -> Self {
        Self {
            source,
            keys: ArcSwapOption::empty(),
            plan: Mutex::default(),
            ended: watch::Sender::new(0),
            changed,
        }
    }

    /// The keys, if they are not too old.
    pub(super) fn keys(&self) -> Option<Arc<Fetched>> {
        let fetched = self.keys.load_full();
        fetched.filter(|fetched| fetched.at.elapsed() <= self.source.outage)
    }

    /// Whether it did not answer when it was asked last.
    pub(super) fn is_down(&self) -> bool {
        self.plan.lock().failures > 0
    }

    /// Whether a key of it may be for this algorithm.
    pub(super) fn may_have(&self, algorithm: Algorithm) -> bool {
        self.source.algorithms.contains(&algorithm)
    }

    /// Whether the keys are there, and are what is looked for.
    pub(super) fn has(&self, is_here: impl FnOnce(&KeySet) -> bool) -> bool {
        self.keys().is_some_and(|fetched| is_here(&fetched.keys))
    }

    /// Has the keys fetched, and waits until they are what is looked for; not for long.
    pub(super) fn wait<F: Fn(&KeySet) -> bool + Send + Sync>(
        self: &Arc<Self>,
        is_here: F,
    ) -> impl Future<Output = ()> + Send + use<F> {
        let provider = self.clone();
        let mut ended = self.ended.subscribe();
        // One that is under way may have been answered before the key was there.
        let others = self.keys().is_some();
        let wanted = self.plan.lock().want(others);
        self.changed.notify_one();
        async move {
            let has_come = async {
                while *ended.borrow_and_update() < wanted && !provider.has(&is_here) {
                    provider.plan.lock().want(others);
                    provider.changed.notify_one();
                    if ended.changed().await.is_err() {
                        return;
                    }
                }
            };
            timeout(WAIT, has_come).await.ok();
        }
    }

    fn begin(&self, now: Instant) -> bool {
        self.plan.lock().begin(now)
    }

    fn next(&self) -> Option<Instant> {
        let plan = self.plan.lock();
        plan.next.filter(|_| !plan.is_under_way)
    }

    async fn fetch(&self, http: &HttpClient, metrics: &Metrics) {
        let attempt = Attempt::of(self);
        let Source {
            issuer,
            url,
            algorithms,
            outage,
        } = &self.source;
        let sending = http.send(request(url), Reach::Private, MAX_BYTES);
        let fetched = match timeout(PATIENCE, sending).await {
            Ok(Ok(answer)) => read(&answer, algorithms),
            Ok(Err(reason)) => Err(reason.to_string()),
            Err(_) => Err(format!("there was no answer in {PATIENCE:?}")),
        };
        metrics.keys_fetched(issuer, fetched.is_ok());
        let was_down = self.is_down();
        match fetched {
            Ok((keys, age)) => {
                let at = Instant::now();
                let former = self.keys.swap(Some(Arc::new(Fetched { keys, at })));
                attempt.end(Some(age));
                if was_down || former.is_none() {
                    tracing::info!(issuer, "the keys of an issuer are here");
                }
            }
            Err(reason) => {
                attempt.end(None);
                if !was_down {
                    let outage = humantime::format_duration(*outage);
                    tracing::error!(
                        issuer,
                        %url,
                        "the keys of an issuer cannot be fetched: {reason}; those that are here are taken for \
                         {outage} after they were"
                    );
                }
            }
        }
    }
}

/// An attempt to fetch keys. One that ends in the midst has failed.
struct Attempt<'a> {
    provider: &'a Provider,
    age: Option<Duration>,
}

impl<'a> Attempt<'a> {
    fn of(provider: &'a Provider) -> Self {
        Self {
            provider,
            age: None,
        }
    }

    fn end(mut self, age: Option<Duration>) {
        self.age = age;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut plan = self.provider.plan.lock();
        plan.end(Instant::now(), self.age);
        self.provider.ended.send_replace(plan.attempts);
    }
}

fn request(url: &Destination) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = url.uri();
    let headers = request.headers_mut();
    let accepted = HeaderValue::from_static("application/jwk-set+json, application/json");
    headers.insert(header::ACCEPT, accepted);
    let own = HeaderValue::from_static(concat!("mixlab/", env!("CARGO_PKG_VERSION")));
    headers.insert(header::USER_AGENT, own);
    request
}

/// The keys of an answer, and how long they are good.
fn read(answer: &Answer, algorithms: &[Algorithm]) -> Result<(KeySet, Duration), String> {
    if answer.status != StatusCode::OK {
        return Err(format!("it answers with status {}", answer.status.as_u16()));
    }
    let json = std::str::from_utf8(&answer.body).map_err(|error| error.to_string())?;
    let keys = KeySet::of_jwks(json, algorithms).map_err(|error| error.to_string())?;
    Ok((keys, age(&answer.headers)))
}

/// How long an answer is good (RFC 9111, section 5.2.2), within bounds.
fn age(headers: &HeaderMap) -> Duration {
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    let directives = values.filter_map(|value| value.to_str().ok());
    let mut age = AGE;
    for directive in directives.flat_map(|value| value.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-cache" || directive == "no-store" {
            return MIN_AGE;
        }
        let seconds = directive.strip_prefix("max-age=");
        if let Some(seconds) = seconds.and_then(|text| text.trim_matches('"').parse().ok()) {
            age = Duration::from_secs(seconds);
        }
    }
    age.clamp(MIN_AGE, MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_asked_before_its_keys_are_too_old_and_for_others_at_most_every_few_seconds() {
        let start = Instant::now();
        let mut plan = Plan::default();
        assert!(plan.begin(start), "at once for the first");
        assert!(!plan.begin(start), "one at a time");
        assert_eq!(plan.want(false), 1);
        assert_eq!(plan.want(true), 2, "the one under way may be too early");
        plan.end(start, Some(AGE));
        assert_eq!(plan.next, Some(start + AGE * 4 / 5));
        for _ in 0..1000 {
            assert_eq!(plan.want(true), 2);
        }
        assert!(!plan.begin(start + PAUSE / 2));
        assert!(plan.begin(start + PAUSE));
    }

    #[test]
    fn a_provider_that_is_down_is_asked_less_and_less() {
        let mut now = Instant::now();
        let mut plan = Plan::default();
        for seconds in [5, 10, 20, 40, 60, 60] {
            assert!(plan.begin(now));
            plan.end(now, None);
            now += Duration::from_secs(seconds);
            assert_eq!(plan.next, Some(now));
        }
        assert!(plan.begin(now));
        plan.end(now, Some(AGE));
        assert_eq!(plan.failures, 0);
    }

    #[test]
    fn keys_that_cannot_be_fetched_again_are_taken_for_so_long() {
        const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a",
            "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        for (outage, is_there) in [(Duration::from_secs(3600), true), (Duration::ZERO, false)] {
            let source = Source {
                issuer: "x".to_owned(),
                url: Destination::parse("https://login.example.com/jwks").unwrap(),
                algorithms: vec![Algorithm::EdDSA],
                outage,
            };
            let provider = Provider::new(source, Arc::default());
            let has = |id| provider.has(|keys| keys.has_named(id, Algorithm::EdDSA));
            assert!(!has("a"));
            let keys = KeySet::of_jwks(KEYS, &[Algorithm::EdDSA]).unwrap();
            let at = Instant::now();
            provider.keys.store(Some(Arc::new(Fetched { keys, at })));
            while at.elapsed().is_zero() {}
            assert_eq!(has("a"), is_there);
            assert!(!has("b"));
        }
    }

    #[test]
    fn keys_are_good_as_long_as_is_said_within_bounds() {
        for (said, seconds) in [
            ("", 300),
            ("public", 300),
            ("public, max-age=900", 900),
            ("Max-Age=\"900\"", 900),
            ("max-age=0", 60),
            ("max-age=1", 60),
            ("max-age=31536000", 3600),
            ("max-age=many", 300),
            ("max-age=900, no-store", 60),
            ("no-cache", 60),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, said.parse().unwrap());
            assert_eq!(age(&headers), Duration::from_secs(seconds), "{said:?}");
        }
    }
}
