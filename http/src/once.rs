//! Changes that clients may ask for again, and that are carried out once all the same.
//!
//! A change that comes with the header `Lictor-Idempotency-Key` is known by what the client wrote there. Whoever asks for the same change with
//! the same key again within ten minutes gets the answer of the first time, also from another server, and after a change of leader.
//! Another change with the same key is refused. Requests without the header cost nothing for this.
//!
//! Endpoints that change only what an agent itself holds, and those of operators for Raft, do not look at the header.

use lictor_catalog::{Action, IdempotencyKey, MAX_IDEMPOTENCY_KEY_BYTES, Once, Outcome};

use crate::backend::{Secret, WriteOptions};
use crate::kv::unexpected;
use crate::reply::Fault;
use crate::request::Request;

/// The header that a key comes in.
const HEADER: &str = "Lictor-Idempotency-Key";

impl Request<'_> {
    /// Commits a change, once if the client gave it a key.
    pub(crate) async fn write(&self, action: Action, options: WriteOptions) -> Result<Outcome, Fault> {
        let action = match self.headers().get(HEADER) {
            None => action,
            Some(text) => once(text.as_ref(), &action, options.token.as_ref())?,
        };
        Ok(self.api.backend.write(action, options).await?)
    }
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
