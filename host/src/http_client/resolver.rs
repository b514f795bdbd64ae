//! Looks up the names of servers. Addresses that may not be reached are left out here, where what is
//! found is what is connected to: a name that has another address a moment later gains nothing by it.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::{sync::Semaphore, task::spawn_blocking};
use tower_service::Service;

use super::addresses::Reach;

/// How many names are looked up at once. Each takes a thread, which nobody can call back when its
/// request has ended.
const MAX_LOOKUPS: usize = 16;

/// Finds the addresses of a name; blocks meanwhile.
type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// How names are looked up, for all that do.
#[derive(Clone)]
pub(super) struct Lookups {
    lookup: Arc<Lookup>,
    places: Arc<Semaphore>,
}

/// Looks names up, and keeps those of their addresses that may be reached.
#[derive(Clone)]
pub(super) struct Resolver {
    lookups: Lookups,
    reach: Reach,
}

/// Why there is no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    /// It has some, and none that may be reached.
    #[error("none of its addresses may be reached")]
    OutOfReach,
    /// It was not found.
    #[error("{0}")]
    Failed(io::Error),
}

impl Lookups {
    pub(super) fn new(
        lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            lookup: Arc::new(lookup),
            places: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    /// As this machine looks names up.
    pub(super) fn of_system() -> Self {
        Self::new(|name| {
            // The port is that of the URL, whatever stands here.
            let found = (name, 0).to_socket_addrs()?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }

    async fn find(self, name: Name) -> io::Result<Vec<IpAddr>> {
        let place = self.places.acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        let looking = spawn_blocking(move || {
            let found = (self.lookup)(name.as_str());
            // Not when nobody waits for the name any more, but when the thread is free.
            drop(place);
            found
        });
        looking.await.unwrap_or_else(|error| Err(error.into()))
    }
}

impl Resolver {
    pub(super) fn new(lookups: Lookups, reach: Reach) -> Self {
        Self { lookups, reach }
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unresolved>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { lookups, reach } = self.clone();
        Box::pin(async move {
            let found = lookups.find(name).await.map_err(Unresolved::Failed)?;
            within_reach(found, reach)
        })
    }
}

fn within_reach(found: Vec<IpAddr>, reach: Reach) -> Result<vec::IntoIter<SocketAddr>, Unresolved> {
    let is_empty = found.is_empty();
    let kept = found.into_iter().filter(|address| reach.permits(*address));
    let kept: Vec<_> = kept.map(|address| SocketAddr::new(address, 0)).collect();
    if kept.is_empty() && !is_empty {
        return Err(Unresolved::OutOfReach);
    }
    Ok(kept.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolve(resolver: &mut Resolver) -> Result<Vec<String>, Unresolved> {
        let found = resolver.call("name.example".parse().unwrap()).await?;
        Ok(found.map(|address| address.ip().to_string()).collect())
    }

    fn always(addresses: &[&str]) -> Lookups {
        let found: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Lookups::new(move |_| Ok(found.clone()))
    }

    #[tokio::test]
    async fn addresses_out_of_reach_are_left_out() {
        let lookups = always(&["127.0.0.1", "1.1.1.1", "169.254.169.254", "::ffff:10.0.0.1"]);
        let mut public = Resolver::new(lookups.clone(), Reach::Public);
        assert_eq!(resolve(&mut public).await.unwrap(), ["1.1.1.1"]);
        let mut private = Resolver::new(lookups, Reach::Private);
        assert_eq!(
            resolve(&mut private).await.unwrap(),
            ["127.0.0.1", "1.1.1.1", "::ffff:10.0.0.1"]
        );
    }

    #[tokio::test]
    async fn a_name_without_an_address_within_reach_is_told_from_one_that_is_not_there() {
        let mut own = Resolver::new(always(&["10.0.0.1", "::1"]), Reach::Public);
        assert!(matches!(
            resolve(&mut own).await,
            Err(Unresolved::OutOfReach)
        ));
        let mut special = Resolver::new(always(&["169.254.169.254"]), Reach::Private);
        assert!(matches!(
            resolve(&mut special).await,
            Err(Unresolved::OutOfReach)
        ));
        let missing = Lookups::new(|_| Err(io::Error::other("no such name")));
        let mut missing = Resolver::new(missing, Reach::Public);
        assert!(matches!(
            resolve(&mut missing).await,
            Err(Unresolved::Failed(_))
        ));
    }

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_keeps_its_place_until_it_ends() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = parking_lot::Mutex::new(held);
        let lookups = Lookups::new(move |_| {
            held.lock().recv().ok();
            Ok(Vec::new())
        });
        let places = lookups.places.clone();
        let mut resolver = Resolver::new(lookups, Reach::Public);
        for _ in 0..MAX_LOOKUPS {
            let mut looking = resolver.call("name.example".parse().unwrap());
            assert!(futures_util::poll!(&mut looking).is_pending());
        }
        assert_eq!(places.available_permits(), 0);
        drop(release);
        let all = places.acquire_many(MAX_LOOKUPS as u32).await;
        assert!(all.is_ok());
    }
}
