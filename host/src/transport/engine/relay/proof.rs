//! How a server shows another one of its cluster that it has passed a request on: a header that nobody else can make,
//! which is good for that request, for a moment and once.

use std::{
    mem,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ahash::HashSet;
use axum::extract::Request;
use http::{HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cluster::Seal;

/// The header.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-mixlab-passed-on");

/// So far may the clocks of two servers be apart, with the way of a request.
const WINDOW: Duration = Duration::from_secs(30);

/// What it is signed for.
const PURPOSE: &str = "request";

/// The proofs that have come within the window, so that none counts twice.
#[derive(Default)]
pub(super) struct Proofs(Mutex<Seen>);

struct Seen {
    since: Instant,
    now: HashSet<u128>,
    before: HashSet<u128>,
}

/// Why a request counts as none that was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Forged {
    #[error("it is not signed with this cluster's secret, or is for another server or request")]
    Code,
    #[error("the clocks of the servers are more than {} s apart", WINDOW.as_secs())]
    Clock,
    #[error("it has come before")]
    Again,
}

/// What is signed.
struct Claim<'a> {
    to: &'a str,
    method: &'a Method,
    path: &'a str,
    millis: u64,
    nonce: u128,
}

impl Claim<'_> {
    fn parts<R>(&self, with: impl FnOnce(&[&[u8]]) -> R) -> R {
        with(&[
            self.to.as_bytes(),
            self.method.as_str().as_bytes(),
            self.path.as_bytes(),
            &self.millis.to_be_bytes(),
            &self.nonce.to_be_bytes(),
        ])
    }
}

/// The header of a request that is passed on to a server.
pub(super) fn prove(seal: &Seal, to: &str, method: &Method, path: &str) -> HeaderValue {
    let claim = Claim {
        to,
        method,
        path,
        millis: millis(),
        nonce: rand::random(),
    };
    let code = claim.parts(|parts| seal.sign(PURPOSE, parts));
    let text = format!("{} {:032x} {code}", claim.millis, claim.nonce);
    HeaderValue::try_from(text).expect("digits and base64 are good for a header")
}

impl Proofs {
    /// Whether a server of the cluster has passed this request on to the one with this name.
    pub(super) fn check(&self, seal: &Seal, to: &str, request: &Request) -> Result<bool, Forged> {
        let mut proofs = request.headers().get_all(HEADER).iter();
        let (Some(proof), None) = (proofs.next(), proofs.next()) else {
            return match request.headers().contains_key(HEADER) {
                true => Err(Forged::Code),
                false => Ok(false),
            };
        };
        let path = request.uri().path_and_query().map_or("", |it| it.as_str());
        let (claim, code) = read(proof, to, request.method(), path).ok_or(Forged::Code)?;
        if !claim.parts(|parts| seal.verifies(PURPOSE, parts, code)) {
            return Err(Forged::Code);
        }
        if claim.millis.abs_diff(millis()) > WINDOW.as_millis() as u64 {
            return Err(Forged::Clock);
        }
        match self.0.lock().is_new(claim.nonce) {
            true => Ok(true),
            false => Err(Forged::Again),
        }
    }
}

fn read<'a>(
    proof: &'a HeaderValue,
    to: &'a str,
    method: &'a Method,
    path: &'a str,
) -> Option<(Claim<'a>, &'a str)> {
    let mut parts = proof.to_str().ok()?.split(' ');
    let (millis, nonce, code) = (parts.next()?, parts.next()?, parts.next()?);
    let claim = Claim {
        to,
        method,
        path,
        millis: millis.parse().ok()?,
        nonce: u128::from_str_radix(nonce, 16).ok()?,
    };
    Some((claim, code))
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            now: HashSet::default(),
            before: HashSet::default(),
        }
    }
}

impl Seen {
    fn is_new(&mut self, nonce: u128) -> bool {
        // One from a clock that goes before is good for twice the window.
        if self.since.elapsed() > 2 * WINDOW {
            self.before = mem::take(&mut self.now);
            self.since = Instant::now();
        }
        !self.before.contains(&nonce) && self.now.insert(nonce)
    }
}

fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::config::Secret;

    fn request(proof: Option<HeaderValue>, path: &str) -> Request {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        if let Some(proof) = proof {
            request.headers_mut().insert(HEADER, proof);
        }
        request
    }

    #[test]
    fn a_proof_is_good_for_its_request_and_once() {
        let seal = Seal::new(&Secret::new("secret"));
        let proofs = Proofs::default();
        let check = |to, request: &Request| proofs.check(&seal, to, request);
        assert_eq!(check("a", &request(None, "/s")), Ok(false));
        let proof = prove(&seal, "a", &Method::GET, "/s?x=1");
        let good = request(Some(proof.clone()), "/s?x=1");
        assert_eq!(check("b", &good), Err(Forged::Code));
        assert_eq!(
            check("a", &request(Some(proof), "/s?x=2")),
            Err(Forged::Code)
        );
        assert_eq!(check("a", &good), Ok(true));
        assert_eq!(check("a", &good), Err(Forged::Again));

        let other = Seal::new(&Secret::new("another"));
        for bad in [
            prove(&other, "a", &Method::GET, "/s"),
            prove(&seal, "a", &Method::POST, "/s"),
            HeaderValue::from_static("1 2 3"),
            HeaderValue::from_static(""),
        ] {
            assert_eq!(check("a", &request(Some(bad), "/s")), Err(Forged::Code));
        }
        let old = Claim {
            to: "a",
            method: &Method::GET,
            path: "/s",
            millis: millis() - 31_000,
            nonce: 7,
        };
        let code = old.parts(|parts| seal.sign(PURPOSE, parts));
        let old = HeaderValue::try_from(format!("{} 7 {code}", old.millis)).unwrap();
        assert_eq!(check("a", &request(Some(old), "/s")), Err(Forged::Clock));
    }
}
