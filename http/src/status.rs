//! `/v1/status/leader` and `/v1/status/peers`.

use crate::json::Array;
use crate::reply::{Fault, Reply};
use crate::request::Request;

/// The leader's address, or an empty string.
pub(crate) async fn leader(request: &Request<'_>) -> Result<Reply, Fault> {
    let datacenter = request.read_options()?.datacenter;
    let leader = request.api.backend.leader(datacenter.as_deref()).await?;
    Ok(request.json(&leader.map(|address| address.to_string()).unwrap_or_default(), 64))
}

/// The voting servers' addresses.
pub(crate) async fn peers(request: &Request<'_>) -> Result<Reply, Fault> {
    let datacenter = request.read_options()?.datacenter;
    let peers = request.api.backend.peers(datacenter.as_deref()).await?;
    Ok(request.json(&Array(|| peers.iter().map(ToString::to_string)), 32 * peers.len()))
}
