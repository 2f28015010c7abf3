//! Sessions that commands work under: they live as long as they are renewed.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::client::{CallError, Change, Client};

/// How long a call may take that makes or ends a session.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// How long the session lives without being renewed.
const TTL: Duration = Duration::from_secs(15);

/// How long to wait before a renewal that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What session is to be made.
pub(crate) struct Wanted<'a> {
    /// Its name, for people.
    pub(crate) name: &'a str,
    /// What becomes of its keys when it ends: `release` or `delete`.
    pub(crate) behavior: &'a str,
    /// The node that it lives on, whatever the node's checks say. `None`: that of the agent that is asked, for as long as that is well.
    pub(crate) node: Option<&'a str>,
}

/// A session, as the API is asked for it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Asked<'a> {
    name: &'a str,
    #[serde(rename = "TTL")]
    ttl: String,
    behavior: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_checks: Option<[&'a str; 0]>,
}

/// And as it says that it was made.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    #[serde(rename = "ID")]
    id: String,
}

/// A session. It is not ended when this is dropped.
pub(crate) struct Session {
    id: String,
    /// When it was asked for: it is no younger.
    since: Instant,
}

/// Renews a session until it is dropped.
pub(crate) struct Keeper(#[expect(dead_code, reason = "what counts is that it is dropped")] Sender<()>);

impl Session {
    /// Makes a session.
    pub(crate) fn create(client: &Client, wanted: &Wanted<'_>) -> Result<Self, CallError> {
        let since = Instant::now();
        let asked = Asked {
            name: wanted.name,
            ttl: format!("{}s", TTL.as_secs()),
            behavior: wanted.behavior,
            node: wanted.node,
            node_checks: wanted.node.map(|_| []),
        };
        let body = serde_json::to_vec(&asked).expect("texts in a struct are always JSON");
        let answer = client.change(Change::Put, "session/create", Vec::new(), &body, CALL_LIMIT)?;
        let made: Made =
            serde_json::from_slice(&answer).map_err(|error| CallError::Nonsense(error.to_string()))?;
        Ok(Self { id: made.id, since })
    }

    /// Its name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Renews it from now on. When it is gone, or may be, `lost` is called, on a thread of its own.
    pub(crate) fn keep(&self, client: &Arc<Client>, lost: impl FnOnce() + Send + 'static) -> Keeper {
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
            lost();
        });
        Keeper(keeper)
    }

    /// Ends it. One that has ended is no error.
    pub(crate) fn destroy(&self, client: &Client) -> Result<(), CallError> {
        let path = format!("session/destroy/{}", self.id);
        client
            .change(Change::Put, &path, Vec::new(), b"", CALL_LIMIT)
            .map(drop)
    }
}
