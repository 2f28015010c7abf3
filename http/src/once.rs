//! Changes that clients may ask for again, and that are carried out once all the same.
//!
//! A change that comes with the header `Lictor-Idempotency-Key` is known by what the client wrote there. Whoever asks for the same change with
//! the same key again within ten minutes gets the answer of the first time, also from another server, and after a change of leader.
//! Another change with the same key is refused. Requests without the header cost nothing for this.
//!
//! Endpoints that change only what an agent itself holds, those that speak to gossip, and those of operators for Raft keep no answers; they refuse
//! requests with the header, so that nobody relies on what is not there. Reads may be repeated anyway. Every answer to a request with the
//! header has it, too (`api.rs` sees to that): so clients know that the server knows it.

use lictor_catalog::{Action, IdempotencyKey, KEY_REUSED, MAX_IDEMPOTENCY_KEY_BYTES, Once, Outcome};
use trillium::{Headers, Method, Status};

use crate::backend::{Secret, WriteOptions};
use crate::kv::unexpected;
use crate::reply::Fault;
use crate::request::Request;
use crate::route::Endpoint;

/// The header that a key comes in.
pub(crate) const HEADER: &str = "Lictor-Idempotency-Key";

/// The value that it has in answers.
pub(crate) const UNDERSTOOD: &str = "understood";

/// Refuses a key that comes with what is never known again.
pub(crate) fn check(headers: &Headers, endpoint: Endpoint, method: Method) -> Result<(), Fault> {
    if !headers.has_header(HEADER) {
        return Ok(());
    }
    if method != Method::Get && !takes_key(endpoint) {
        return Err(Fault::bad_request(format!(
            "{HEADER} is not for this endpoint, which would do again what it is asked for again: ask without it"
        )));
    }
    Ok(())
}

impl Request<'_> {
    /// Commits a change, once if the client gave it a key.
    pub(crate) async fn write(&self, action: Action, options: WriteOptions) -> Result<Outcome, Fault> {
        let action = match self.headers().get(HEADER) {
            None => action,
            Some(text) => once(text.as_ref(), &action, options.token.as_ref())?,
        };
        let outcome = self.api.backend.write(action, options).await?;
        if let Outcome::Refused(why) = &outcome
            && why == KEY_REUSED
        {
            // Not 500, after which clients try again.
            return Err(Fault::new(Status::Conflict, KEY_REUSED));
        }
        Ok(outcome)
    }
}

/// Whether the changes of an endpoint are made by [`Request::write`].
const fn takes_key(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::Kv
            | Endpoint::Txn
            | Endpoint::SessionCreate
            | Endpoint::SessionDestroy
            | Endpoint::CatalogRegister
            | Endpoint::CatalogDeregister
            | Endpoint::Queries
            | Endpoint::Query
            | Endpoint::AutopilotConfiguration
    )
}

fn once(text: &[u8], action: &Action, token: Option<&Secret>) -> Result<Action, Fault> {
    if text.is_empty() || text.len() > MAX_IDEMPOTENCY_KEY_BYTES {
        return Err(Fault::bad_request(format!(
            "{HEADER} has {} bytes, and must have 1 to {MAX_IDEMPOTENCY_KEY_BYTES}",
            text.len()
        )));
    }
    // Clients with different tokens do not know of each other, nor of each other's keys.
    let token = token.map_or("", Secret::expose);
    let key = IdempotencyKey::of(&[text, token.as_bytes()]);
    let once = Once::new(key, action).ok_or_else(unexpected)?;
    Ok(Action::Once(Box::new(once)))
}
