//! Looks up the names of servers. Addresses that may not be reached are left out here, where what is
//! found is what is connected to: a name that has another address a moment later gains nothing by it.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use hyper_util::client::legacy::connect::dns::Name;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};
use tower_service::Service;

use super::addresses::Reach;

/// How many names are looked up at once. Each takes a thread, which nobody can call back when its
/// request has ended.
const MAX_LOOKUPS: usize = 16;

/// So many of them are of one plugin: one that asks for names that nobody answers for, as its clients say,
/// leaves the others to the others.
const MAX_LOOKUPS_OF_ONE: usize = 4;

tokio::task_local! {
    /// Of whom the request is that this task sends: hyper hands a resolver the name and nothing else.
    static SHARE: Share;
}

/// The lookups of one plugin.
#[derive(Clone)]
pub(super) struct Share(Arc<Semaphore>);

impl Share {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LOOKUPS_OF_ONE)))
    }

    /// Runs what looks names up on behalf of the plugin.
    pub(super) async fn scope<T>(self, sending: impl Future<Output = T>) -> T {
        SHARE.scope(self, sending).await
    }

    /// Of the request that this task sends; nobody's if it sends none.
    fn current() -> Self {
        SHARE.try_with(Self::clone).unwrap_or_else(|_| Self::new())
    }
}

/// Finds the addresses of a name; blocks meanwhile.
type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// What came of a lookup, for all who wait for it.
type Found = Result<Arc<[IpAddr]>, Arc<io::Error>>;

/// How names are looked up, for all that do.
#[derive(Clone)]
pub(super) struct Lookups {
    lookup: Arc<Lookup>,
    places: Arc<Semaphore>,
    /// By name. Whoever asks for one of these waits for the same answer: a name that nobody answers for
    /// takes one place, however many ask, and leaves the others to other names.
    under_way: Arc<Mutex<HashMap<Name, Shared<BoxFuture<'static, Found>>>>>,
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
    Failed(Arc<io::Error>),
}

impl Lookups {
    pub(super) fn new(
        lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            lookup: Arc::new(lookup),
            places: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            under_way: Arc::default(),
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

    async fn find(self, name: Name, share: Share) -> Found {
        let under_way = self.under_way.lock().get(&name).cloned();
        if let Some(looking) = under_way {
            return looking.await;
        }
        let mut places = Vec::with_capacity(2);
        for free in [share.0, self.places.clone()] {
            let place = free.acquire_owned().await;
            places.push(place.expect("the semaphore is never closed"));
        }
        self.begin(name, places).await
    }

    /// Begins to look a name up, unless somebody has begun meanwhile.
    fn begin(
        self,
        name: Name,
        places: Vec<OwnedSemaphorePermit>,
    ) -> Shared<BoxFuture<'static, Found>> {
        let all = self.under_way.clone();
        let mut under_way = all.lock();
        if let Some(looking) = under_way.get(&name) {
            return looking.clone();
        }
        let key = name.clone();
        let looking = spawn_blocking(move || {
            let found = (self.lookup)(name.as_str());
            // Not when nobody waits for the name any more, but when the thread is free.
            self.under_way.lock().remove(&name);
            drop(places);
            found.map(Arc::from).map_err(Arc::new)
        });
        let looking = async {
            looking
                .await
                .unwrap_or_else(|error| Err(Arc::new(error.into())))
        };
        let looking = looking.boxed().shared();
        under_way.insert(key, looking.clone());
        looking
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
        let share = Share::current();
        Box::pin(async move {
            let found = lookups
                .find(name, share)
                .await
                .map_err(Unresolved::Failed)?;
            within_reach(&found, reach)
        })
    }
}

fn within_reach(found: &[IpAddr], reach: Reach) -> Result<vec::IntoIter<SocketAddr>, Unresolved> {
    let kept = found.iter().filter(|address| reach.permits(**address));
    let kept: Vec<_> = kept.map(|address| SocketAddr::new(*address, 0)).collect();
    if kept.is_empty() && !found.is_empty() {
        return Err(Unresolved::OutOfReach);
    }
    Ok(kept.into_iter())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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
    async fn a_name_that_nobody_answers_for_leaves_places_to_others() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = parking_lot::Mutex::new(held);
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let lookups = Lookups::new(move |name| {
            counted.fetch_add(1, Ordering::Relaxed);
            if name == "held.example" {
                held.lock().recv().ok();
            }
            Ok(vec![IpAddr::from([1, 1, 1, 1])])
        });
        let places = lookups.places.clone();
        let mut resolver = Resolver::new(lookups, Reach::Public);
        let mut looking: Vec<_> = (0..2 * MAX_LOOKUPS)
            .map(|_| resolver.call("held.example".parse().unwrap()))
            .collect();
        for waiting in &mut looking {
            assert!(futures_util::poll!(waiting).is_pending());
        }
        assert_eq!(places.available_permits(), MAX_LOOKUPS - 1);
        assert_eq!(resolve(&mut resolver).await.unwrap(), ["1.1.1.1"]);
        drop(release);
        for waiting in looking {
            assert_eq!(waiting.await.unwrap().count(), 1);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        resolver
            .call("held.example".parse().unwrap())
            .await
            .unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3, "an answer is not kept");
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
        for number in 0..MAX_LOOKUPS {
            let mut looking = resolver.call(format!("n{number}.example").parse().unwrap());
            assert!(futures_util::poll!(&mut looking).is_pending());
        }
        assert_eq!(places.available_permits(), 0);
        drop(release);
        let all = places.acquire_many(MAX_LOOKUPS as u32).await;
        assert!(all.is_ok());
    }
}
