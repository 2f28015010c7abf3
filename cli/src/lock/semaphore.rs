//! A lock with several holders: a key that lists them, and a key for each that its session holds.

use std::collections::{BTreeMap, BTreeSet};

use lictor_agent::config::decode_base64;
use serde::{Deserialize, Serialize};

use super::{CALL_LIMIT, Entry, Held, Lock, WAIT, entries};
use crate::client::{CallError, Change, Client, is_true};
use crate::path::{below, clean};

/// Tells keys of such locks from others.
const FLAGS: u64 = 0xe0f6_9a2b_aa41_4de0;

/// A lock with several holders.
pub(super) struct Semaphore {
    /// As it was given.
    shown: String,
    prefix: String,
    /// The key that lists the holders.
    list: String,
    limit: usize,
    flags: String,
}

/// What the list says.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Holders {
    #[serde(default)]
    limit: usize,
    #[serde(default, deserialize_with = "crate::client::null_is_empty")]
    holders: BTreeMap<String, bool>,
}

/// All keys below the prefix at one moment.
struct State {
    entries: Vec<Entry>,
    index: u64,
}

impl Semaphore {
    /// The semaphore of a prefix, which at most `limit` may hold.
    pub(super) fn new(prefix: &str, limit: usize) -> Self {
        let shown = prefix.to_owned();
        let prefix = clean(prefix);
        Self {
            shown,
            list: below(&prefix, ".lock"),
            prefix,
            limit,
            flags: FLAGS.to_string(),
        }
    }

    /// With an `index`, after that has changed or some time has passed.
    fn state(&self, client: &Client, index: Option<u64>, sure: bool) -> Result<State, CallError> {
        let (index, wait) = (
            index.map(|index| index.to_string()),
            format!("{}s", WAIT.as_secs()),
        );
        let mut query = vec![("recurse", "")];
        let mut limit = CALL_LIMIT;
        if let Some(index) = &index {
            query.extend([("index", index.as_str()), ("wait", &wait)]);
            limit += WAIT * 2;
        }
        if sure {
            query.push(("consistent", ""));
        }
        let found = client.look(&format!("kv/{}", self.prefix), query, limit)?;
        Ok(State {
            entries: entries(found.body.as_deref())?,
            index: found.index.max(1),
        })
    }

    /// The list, without those who hold nothing any more, and its version; 0 if there is none yet.
    fn holders(&self, state: &State) -> Result<(Holders, u64), String> {
        let nobody = || Holders {
            limit: self.limit,
            holders: BTreeMap::new(),
        };
        let Some(list) = state.entries.iter().find(|entry| entry.key == self.list) else {
            return Ok((nobody(), 0));
        };
        let mut read = read(list)?.unwrap_or_else(nobody);
        let alive: BTreeSet<&str> = state.entries.iter().filter_map(Entry::holder).collect();
        read.holders.retain(|session, _| alive.contains(session.as_str()));
        Ok((read, list.modify_index))
    }

    /// Writes the list, if it is still of that version.
    fn write(&self, client: &Client, holders: &Holders, version: u64) -> Result<bool, String> {
        let failed = |error: &dyn std::fmt::Display| format!("failed to update lock: {error}");
        let body = serde_json::to_vec(holders).map_err(|error| failed(&error))?;
        let version = version.to_string();
        let query = vec![("cas", version.as_str()), ("flags", &self.flags)];
        client
            .change(
                Change::Put,
                &format!("kv/{}", self.list),
                query,
                &body,
                CALL_LIMIT,
            )
            .map(|answer| is_true(&answer))
            .map_err(|error| failed(&error))
    }

    fn contender(&self, session: &str) -> String {
        format!("kv/{}", below(&self.prefix, session))
    }
}

impl Lock for Semaphore {
    fn describe(&self) -> String {
        format!(
            "Setting up semaphore (limit {}) at prefix: {}",
            self.limit, self.shown
        )
    }

    fn acquire(&self, client: &Client, session: &str) -> Result<Held, String> {
        let query = vec![("acquire", session), ("flags", self.flags.as_str())];
        let made = client
            .change(Change::Put, &self.contender(session), query, b"", CALL_LIMIT)
            .map_err(|error| format!("failed to make contender entry: {error}"))?;
        if !is_true(&made) {
            return Err("failed to make contender entry".to_owned());
        }
        let mut index = None;
        loop {
            let state = self.state(client, index, false);
            let state = state.map_err(|error| format!("failed to read prefix: {error}"))?;
            let (mut list, version) = self.holders(&state)?;
            if list.limit != self.limit {
                let (theirs, ours) = (list.limit, self.limit);
                return Err(format!(
                    "semaphore limit conflict (lock: {theirs}, local: {ours})"
                ));
            }
            if list.holders.len() >= list.limit {
                index = Some(state.index);
                continue;
            }
            list.holders.insert(session.to_owned(), true);
            if self.write(client, &list, version)? {
                let index = state.index;
                return Ok(Held { fence: None, index });
            }
            // Somebody else was faster.
            index = None;
        }
    }

    fn watch(&self, client: &Client, session: &str, index: u64) -> Result<Option<u64>, CallError> {
        let state = self.state(client, Some(index), true)?;
        let (list, _) = self.holders(&state).map_err(CallError::Nonsense)?;
        Ok(list.holders.contains_key(session).then_some(state.index))
    }

    fn release(&self, client: &Client, session: &str) -> Result<(), String> {
        loop {
            let state = self.state(client, None, true);
            let state = state.map_err(|error| format!("failed to read prefix: {error}"))?;
            let (mut list, version) = self.holders(&state)?;
            if list.holders.remove(session).is_none() || self.write(client, &list, version)? {
                break;
            }
        }
        client
            .change(
                Change::Delete,
                &self.contender(session),
                Vec::new(),
                b"",
                CALL_LIMIT,
            )
            .map(drop)
            .map_err(|error| format!("failed to remove contender entry: {error}"))
    }

    fn clean_up(&self, client: &Client) -> Result<bool, String> {
        let state = self.state(client, None, false);
        let state = state.map_err(|error| format!("failed to read prefix: {error}"))?;
        let (list, version) = self.holders(&state)?;
        if version == 0 {
            return Ok(true);
        }
        if !list.holders.is_empty() {
            return Ok(false);
        }
        let version = version.to_string();
        client
            .change(
                Change::Delete,
                &format!("kv/{}", self.list),
                vec![("cas", &version)],
                b"",
                CALL_LIMIT,
            )
            .map(|answer| is_true(&answer))
            .map_err(|error| format!("failed to remove semaphore: {error}"))
    }
}

/// What a key says of who holds the lock; `None`, if it has no value.
fn read(list: &Entry) -> Result<Option<Holders>, String> {
    if list.flags != FLAGS {
        return Err("Existing key does not match semaphore use".to_owned());
    }
    let failed = |error: &dyn std::fmt::Display| format!("lock decoding failed: {error}");
    let value = list.value.as_deref().unwrap_or_default();
    let value = decode_base64(value.as_bytes()).map_err(|error| failed(&error))?;
    if value.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&value)
        .map(Some)
        .map_err(|error| failed(&error))
}
