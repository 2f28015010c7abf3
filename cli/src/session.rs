//! The session that holds a lock: it lives as long as it is renewed.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::CALL_LIMIT;
use crate::client::{CallError, Change, Client};

/// How long the session lives without being renewed.
const TTL: Duration = Duration::from_secs(15);

/// How long to wait before a renewal that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A session, as the API is asked for it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Asked<'a> {
    name: &'a str,
    #[serde(rename = "TTL")]
    ttl: String,
    behavior: &'a str,
}

/// And as it says that it was made.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    #[serde(rename = "ID")]
    id: String,
}

/// A session. It is not ended when this is dropped.
pub(super) struct Session {
    id: String,
    /// When it was asked for: it is no younger.
    since: Instant,
}

/// Renews a session until it is dropped.
pub(super) struct Keeper(#[expect(dead_code, reason = "what counts is that it is dropped")] Sender<()>);

impl Session {
    /// Makes a session. `behavior`: what becomes of its keys when it ends.
    pub(super) fn create(client: &Client, name: &str, behavior: &str) -> Result<Self, String> {
        let since = Instant::now();
        let ttl = format!("{}s", TTL.as_secs());
        let asked = Asked { name, ttl, behavior };
        let failed = |why: &dyn std::fmt::Display| format!("failed to create session: {why}");
        let body = serde_json::to_vec(&asked).map_err(|error| failed(&error))?;
        let answer = client
            .change(Change::Put, "session/create", Vec::new(), &body, CALL_LIMIT)
            .map_err(|error| failed(&error))?;
        let made: Made = serde_json::from_slice(&answer)
            .map_err(|error| failed(&CallError::Nonsense(error.to_string())))?;
        Ok(Self { id: made.id, since })
    }

    /// Its name.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Renews it from now on. When it is gone, or may be, `lost` is said once.
    pub(super) fn keep<T: Send + 'static>(
        &self,
        client: &Arc<Client>,
        tell: Sender<T>,
        lost: impl FnOnce() -> T + Send + 'static,
    ) -> Keeper {
        let (keeper, stop) = channel();
        let (client, path, mut renewed) = (
            Arc::clone(client),
            format!("session/renew/{}", self.id),
            self.since,
        );
        thread::spawn(move || {
            let mut pause = TTL / 2;
            loop {
                match stop.recv_timeout(pause) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
                let asked = Instant::now();
                // It counts from when a renewal was asked for: the answer may have been long on its way.
                let left = TTL.saturating_sub(asked - renewed);
                if left.is_zero() {
                    break;
                }
                match client.change(Change::Put, &path, Vec::new(), b"", left) {
                    Ok(_) => (renewed, pause) = (asked, TTL / 2),
                    Err(CallError::Refused { status: 404, .. }) => break,
                    Err(_) => pause = RETRY.min(TTL.saturating_sub(renewed.elapsed())),
                }
            }
            // Whoever cared may be gone.
            let _ = tell.send(lost());
        });
        Keeper(keeper)
    }

    /// Ends it. One that has ended is no error.
    pub(super) fn destroy(&self, client: &Client) -> Result<(), String> {
        let path = format!("session/destroy/{}", self.id);
        client
            .change(Change::Put, &path, Vec::new(), b"", CALL_LIMIT)
            .map(drop)
            .map_err(|error| format!("failed to destroy session: {error}"))
    }
}
