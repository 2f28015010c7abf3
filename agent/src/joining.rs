//! Looking for others: the addresses that an agent was given, tried until somebody is found there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lictor_gossip::{Answer, Input, MAX_JOIN_ADDRESSES, MemberState};
use lictor_node::agent::Pool;

use crate::config::{Join, JoinAddress, JoinHost};
use crate::handle::Handle;
use crate::pools::Pools;

/// The first attempts come quicker than the configured interval, which may be long: when agents are started together, those that come
/// first find nobody yet.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How long a name may take to be resolved before the others go on without it.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks for others in a pool: at once, again until somebody is found, and whenever this agent finds itself alone. Ends only when the
/// attempts allowed are used up before anybody was ever found.
pub(crate) async fn look(pool: Pool, join: Join, handle: Handle, pools: Arc<Pools>) -> Result<(), String> {
    if join.addresses.is_empty() {
        return futures::future::pending().await;
    }
    let mut pause = FIRST_PAUSE.min(join.interval);
    let mut attempts = 0;
    let mut found = false;
    loop {
        if pools.count(pool, MemberState::is_well) <= 1 {
            attempts += 1;
            match attempt(pool, &join.addresses, &handle).await {
                Ok(joined) => {
                    found = true;
                    pause = join.interval;
                    tracing::info!(?pool, joined, "joined");
                }
                Err(reasons) => {
                    if !found && join.attempts_max.is_some_and(|max| attempts >= max) {
                        return Err(format!(
                            "max join retry exhausted, exiting: {}",
                            reasons.join("; ")
                        ));
                    }
                    tracing::warn!(?pool, reasons = reasons.join("; "), retry_in = ?pause, "found nobody to join");
                    async_io::Timer::after(pause).await;
                    pause = (pause * 2).min(join.interval);
                    continue;
                }
            }
        }
        async_io::Timer::after(join.interval.min(Duration::from_secs(30))).await;
    }
}

/// Joins whoever is found at these addresses: how many were, or why nobody was.
pub(crate) async fn attempt(pool: Pool, join: &[JoinAddress], handle: &Handle) -> Result<usize, Vec<String>> {
    let (addresses, reasons) = resolve_all(join).await;
    ask(pool, addresses, reasons, handle).await
}

/// What these stand for, and why some of them stand for nothing.
pub(crate) async fn resolve_all(join: &[JoinAddress]) -> (Vec<SocketAddr>, Vec<String>) {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut reasons = Vec::new();
    let lookups = join.iter().map(resolve);
    for found in futures::future::join_all(lookups).await {
        match found {
            Ok(found) => addresses.extend(found),
            Err(reason) => reasons.push(reason),
        }
    }
    addresses.truncate(MAX_JOIN_ADDRESSES);
    (addresses, reasons)
}

/// Joins whoever is found at these addresses: how many were, or why nobody was, `reasons` included.
pub(crate) async fn ask(
    pool: Pool,
    addresses: Vec<SocketAddr>,
    mut reasons: Vec<String>,
    handle: &Handle,
) -> Result<usize, Vec<String>> {
    if addresses.is_empty() {
        return Err(reasons);
    }
    match handle
        .gossip(pool, |token| Input::Join { token, addresses })
        .await
    {
        Answer::Joined { joined, .. } if joined > 0 => Ok(joined),
        Answer::Joined { failed, .. } => {
            reasons.extend(
                failed
                    .into_iter()
                    .map(|(address, reason)| format!("Failed to join {address}: {reason}")),
            );
            Err(reasons)
        }
        Answer::Failed(reason) => Err(vec![reason]),
        Answer::Done | Answer::QueryDone => Ok(0),
    }
}

async fn resolve(address: &JoinAddress) -> Result<Vec<SocketAddr>, String> {
    let name = match &address.host {
        JoinHost::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, address.port)]),
        JoinHost::Name(name) => name.as_str(),
    };
    let late = async {
        async_io::Timer::after(RESOLVE_TIMEOUT).await;
        Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "no answer from the resolver in time",
        ))
    };
    let found = futures_lite::future::or(async_net::resolve((name, address.port)), late).await;
    found.map_err(|error| format!("Failed to resolve {name}: {error}"))
}
