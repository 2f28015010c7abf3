//! `/v1/agent/services`, `/v1/agent/checks` and what is below `service/`, `check/` and `health/`: what runs on this agent.

mod check;
mod definition;
mod files;
mod health;
mod listing;
mod mesh_rules;
mod register;
mod sidecar;
mod status;
mod views;

use lictor_local::Request as Change;

pub use self::files::{DefinitionError, define_check, define_service};
pub(crate) use self::health::{by_id as health_by_id, by_name as health_by_name};
pub(crate) use self::listing::{checks, service, services};
pub(crate) use self::register::{deregister_check, deregister_service, register_check, register_service};
pub(crate) use self::status::{fail, maintenance, pass, reload, service_maintenance, update, warn};
use crate::decode::{Fields, parse};
use crate::reply::Fault;
use crate::request::Request;

/// The body of a request: an object, to be taken apart. `path` and `kind_name` are what errors call it.
async fn body(request: &mut Request<'_>, path: &'static str, kind_name: &str) -> Result<Fields, Fault> {
    let body = request.large_body().await?;
    parse(&body)
        .and_then(|value| Fields::new(value, path, &format!("value of type {kind_name}")))
        .map_err(malformed)
}

/// The body cannot be read.
fn malformed(why: String) -> Fault {
    Fault::bad_request(format!("Request decode failed: {why}"))
}

/// Changes what runs here.
async fn change(request: &Request<'_>, change: Change) -> Result<(), Fault> {
    Ok(request.api.agent.change(change).await?)
}
