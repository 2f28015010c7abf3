//! `/v1/catalog/`: what there is.

use crate::reply::{Fault, Reply};
use crate::request::Request;

/// The data centers, the nearest first.
pub(crate) async fn datacenters(request: &Request<'_>) -> Result<Reply, Fault> {
    // All agents know them, so the mode changes nothing; but one that contradicts itself is refused, as everywhere.
    request.params.mode(request.headers())?;
    let datacenters = request.api.backend.datacenters().await?;
    Ok(request.json(&datacenters, 32 * datacenters.len()))
}
