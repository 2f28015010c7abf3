//! A lock with one holder: a key that a session has acquired.

use std::thread;

use super::{CALL_LIMIT, DELAYED, Entry, Held, Lock, WAIT, entries};
use crate::client::{CallError, Change, Client, is_true};
use crate::path::{below, clean};

/// Tells keys of such locks from others.
const FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;

/// A lock with one holder.
pub(super) struct Mutex {
    key: String,
    path: String,
    flags: String,
}

impl Mutex {
    /// The lock of a prefix.
    pub(super) fn new(prefix: &str) -> Self {
        let key = below(&clean(prefix), ".lock");
        Self {
            path: format!("kv/{key}"),
            key,
            flags: FLAGS.to_string(),
        }
    }

    /// The key's entry, and its version. With an `index`, after that has changed or some time has passed.
    fn entry(
        &self,
        client: &Client,
        index: Option<u64>,
        sure: bool,
    ) -> Result<(Option<Entry>, u64), CallError> {
        let (index, wait) = (
            index.map(|index| index.to_string()),
            format!("{}s", WAIT.as_secs()),
        );
        let mut query = vec![("fence", "")];
        let mut limit = CALL_LIMIT;
        if let Some(index) = &index {
            query.extend([("index", index.as_str()), ("wait", &wait)]);
            limit += WAIT * 2;
        }
        if sure {
            query.push(("consistent", ""));
        }
        let found = client.look(&self.path, query, limit)?;
        Ok((entries(found.body.as_deref())?.pop(), found.index.max(1)))
    }

    fn see_flags(entry: Option<&Entry>) -> Result<(), String> {
        match entry {
            Some(entry) if entry.flags != FLAGS => Err("Existing key does not match lock use".to_owned()),
            Some(_) | None => Ok(()),
        }
    }
}

impl Lock for Mutex {
    fn describe(&self) -> String {
        format!("Setting up lock at path: {}", self.key)
    }

    fn acquire(&self, client: &Client, session: &str) -> Result<Held, String> {
        let unread = |error: CallError| format!("failed to read lock: {error}");
        let mut index = None;
        loop {
            let (entry, seen) = self.entry(client, index, false).map_err(unread)?;
            Self::see_flags(entry.as_ref())?;
            if entry.as_ref().is_some_and(|entry| entry.holder().is_some()) {
                index = Some(seen);
                continue;
            }
            let query = vec![("acquire", session), ("flags", self.flags.as_str())];
            client
                .change(Change::Put, &self.path, query, b"", CALL_LIMIT)
                .map_err(|error| format!("failed to acquire lock: {error}"))?;
            // This says whose it is, whatever the answer was, and with which fence.
            let (entry, seen) = self.entry(client, None, true).map_err(unread)?;
            match entry.as_ref().map(|entry| (entry.holder(), entry.fence)) {
                Some((Some(holder), fence)) if holder == session => return Ok(Held { fence, index: seen }),
                Some((Some(_), _)) => index = Some(seen),
                // Free, and yet not given to us: for the lock delay, of whose end nobody tells.
                Some((None, _)) | None => {
                    thread::sleep(DELAYED);
                    index = None;
                }
            }
        }
    }

    fn watch(&self, client: &Client, session: &str, index: u64) -> Result<Option<u64>, CallError> {
        let (entry, seen) = self.entry(client, Some(index), true)?;
        let ours = entry.is_some_and(|entry| entry.holder() == Some(session));
        Ok(ours.then_some(seen))
    }

    fn release(&self, client: &Client, session: &str) -> Result<(), String> {
        let query = vec![("flags", self.flags.as_str()), ("release", session)];
        // That it was not ours any more is no failure.
        client
            .change(Change::Put, &self.path, query, b"", CALL_LIMIT)
            .map(drop)
            .map_err(|error| format!("failed to release lock: {error}"))
    }

    fn clean_up(&self, client: &Client) -> Result<bool, String> {
        let found = self.entry(client, None, false);
        let (entry, _) = found.map_err(|error| format!("failed to read lock: {error}"))?;
        Self::see_flags(entry.as_ref())?;
        let Some(entry) = entry else { return Ok(true) };
        if entry.holder().is_some() {
            return Ok(false);
        }
        let index = entry.modify_index.to_string();
        client
            .change(Change::Delete, &self.path, vec![("cas", &index)], b"", CALL_LIMIT)
            .map(|answer| is_true(&answer))
            .map_err(|error| format!("failed to remove lock entry: {error}"))
    }
}
