//! Limits that all servers of a cluster count together. What each of them counts by itself is never behind that, so it
//! goes on with its own count while Redis is away.

use std::{sync::Arc, time::Duration};

use super::rate_limit::{Limit, Subject};
use crate::{
    address::ClientAddress,
    cluster::{Bucket, Cluster},
    connection::{Connection, Identity},
};

/// Takes a token from the sender's bucket of each of these limits, among all servers; or says how long there is none.
/// This server's own ones have been taken. Buckets of connections are not asked for: each is on one server.
pub(crate) async fn check_shared(
    cluster: &Cluster,
    limits: &[Arc<Limit>],
    connection: &Connection,
    identity: &Identity,
) -> Result<(), Duration> {
    let counted = limits.iter().filter_map(|limit| {
        let subject = limit.subject(connection, identity)?;
        Some((&**limit, subject))
    });
    check(cluster, counted.collect()).await
}

/// The same by an address alone.
pub(crate) async fn check_shared_address(
    cluster: &Cluster,
    limit: &Limit,
    address: ClientAddress,
) -> Result<(), Duration> {
    check(cluster, vec![(limit, Subject::Ip(address.network()))]).await
}

async fn check(cluster: &Cluster, counted: Vec<(&Limit, Subject)>) -> Result<(), Duration> {
    let Some((limit, _)) = counted.first() else {
        return Ok(());
    };
    let family = limit.family();
    let name = |(limit, subject): &(&Limit, Subject)| limit.bucket_name(subject);
    let names: Vec<_> = counted.iter().map(name).collect();
    let buckets: Vec<_> = counted
        .iter()
        .zip(&names)
        .map(|((limit, _), name)| {
            let (count, interval, burst) = limit.quota().parts();
            Bucket {
                name,
                count,
                interval,
                burst,
            }
        })
        .collect();
    let Some(Err(spent)) = cluster.take_tokens(family, &buckets).await else {
        return Ok(());
    };
    // What was not taken among all has not been taken here.
    let mut untaken = counted.into_iter().skip(spent.index);
    if let Some((limit, subject)) = untaken.next() {
        limit.count_hit();
        limit.give_back(subject);
    }
    for (limit, subject) in untaken {
        limit.give_back(subject);
    }
    Err(spent.wait)
}
