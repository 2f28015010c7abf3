//! What agents answer to a command, as it comes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::client::{CallError, Client, Look};

/// How often to ask again, if the agent cannot say what is new.
const RETRIES: u32 = 3;

/// How long to wait in between.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long a question may take, beside what the agent waits for a change.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// Of the agents that carry a command out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// One begins.
    Acknowledged { node: String },
    /// The program says this: at least a byte.
    Said { node: String, output: Vec<u8> },
    /// The program runs, and says nothing.
    Alive { node: String },
    /// It has ended.
    Finished { node: String, code: i32 },
    /// One answer cannot be understood, or read: a line for people.
    Odd(String),
    /// The answers cannot be read any more: a line for people. The last news.
    Broken(String),
}

/// The answers to one command.
pub(super) struct Answers {
    client: Arc<Client>,
    /// The key below which they are.
    place: String,
    wait: Duration,
    seen: BTreeSet<String>,
}

/// A kind of answer, and from which node. In the order in which those that come at once are told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Acknowledgement(String),
    Output(String),
    Exit(String),
    Unknown,
}

impl Kind {
    /// What is behind the name of a key below that of the command. `None`: the command itself.
    fn of(name: &str) -> Option<Self> {
        Some(if name == "job" {
            return None;
        } else if let Some(node) = name.strip_suffix("/ack") {
            Self::Acknowledgement(node.to_owned())
        } else if let Some(node) = name.strip_suffix("/exit") {
            Self::Exit(node.to_owned())
        } else if let Some((node, _)) = name.rsplit_once("/out/") {
            Self::Output(node.to_owned())
        } else {
            Self::Unknown
        })
    }

    const fn order(&self) -> u8 {
        match self {
            Self::Acknowledgement(_) => 0,
            Self::Output(_) => 1,
            Self::Exit(_) => 2,
            Self::Unknown => 3,
        }
    }
}

impl Answers {
    /// Those below the key `place`. An agent is asked to wait for new ones no longer than `wait`.
    pub(super) fn new(client: Arc<Client>, place: String, wait: Duration) -> Self {
        Self {
            client,
            place,
            wait,
            seen: BTreeSet::new(),
        }
    }

    /// Tells all answers as they come, each once, until `tell` says that nobody listens any more.
    pub(super) fn follow(mut self, tell: impl Fn(News) -> bool) {
        let mut index = 0;
        loop {
            let fresh = match self.fresh(&mut index) {
                Ok(fresh) => fresh,
                Err(error) => {
                    tell(News::Broken(format!("Failed to read results: {error}")));
                    return;
                }
            };
            for (name, kind) in fresh {
                if !tell(self.news(&name, kind)) {
                    return;
                }
            }
        }
    }

    /// The answers that were not told yet, in the order in which they are to be, once there may be any after the version `index`. That is
    /// set to the version of these.
    fn fresh(&mut self, index: &mut u64) -> Result<Vec<(String, Kind)>, CallError> {
        let look = self.look_patiently(*index)?;
        // One that went backwards is waited for from the start.
        *index = if look.index < *index { 0 } else { look.index };
        let Some(keys) = look.body else {
            return Ok(Vec::new());
        };
        let keys: Vec<String> =
            serde_json::from_slice(&keys).map_err(|error| CallError::Nonsense(error.to_string()))?;
        let below = format!("{}/", self.place);
        let names = keys.iter().filter_map(|key| key.strip_prefix(&below));
        let mut fresh = Vec::new();
        for name in names {
            if let Some(kind) = Kind::of(name)
                && self.seen.insert(name.to_owned())
            {
                fresh.push((name.to_owned(), kind));
            }
        }
        fresh.sort_by_key(|(_, kind)| kind.order());
        Ok(fresh)
    }

    /// Asks for the names of all answers, and again if it is only for the moment that they cannot be told.
    fn look_patiently(&self, index: u64) -> Result<Look, CallError> {
        let mut failures = 0;
        loop {
            match self.look(index) {
                Err(error) if failures < RETRIES && error.may_pass() => failures += 1,
                answer => return answer,
            }
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// Asks for the names of all answers, once there is anything new after the version `index`.
    fn look(&self, index: u64) -> Result<Look, CallError> {
        let (wait, after) = (format!("{}ms", self.wait.as_millis()), index.to_string());
        let mut query = vec![("keys", ""), ("wait", wait.as_str())];
        if index > 0 {
            query.push(("index", &after));
        }
        // Agents stretch waits a little, so that not all come back at once.
        let limit = self.wait + self.wait / 8 + ASK_LIMIT;
        self.client.look(&format!("kv/{}/", self.place), query, limit)
    }

    fn news(&self, name: &str, kind: Kind) -> News {
        match kind {
            Kind::Acknowledgement(node) => News::Acknowledged { node },
            Kind::Output(node) => match self.value(name) {
                Ok(output) if output.is_empty() => News::Alive { node },
                Ok(output) => News::Said { node, output },
                Err(text) => News::Odd(text),
            },
            Kind::Exit(node) => match self.value(name) {
                Ok(value) => {
                    let text = String::from_utf8_lossy(&value);
                    match text.parse() {
                        Ok(code) => News::Finished { node, code },
                        Err(error) => News::Odd(format!("Failed to parse exit code '{text}': {error}")),
                    }
                }
                Err(text) => News::Odd(text),
            },
            Kind::Unknown => News::Odd(format!("Unknown key '{name}', ignoring.")),
        }
    }

    /// The value of an answer; `Err` is a line for people.
    fn value(&self, name: &str) -> Result<Vec<u8>, String> {
        let key = format!("{}/{name}", self.place);
        let failed = |why: &dyn std::fmt::Display| format!("Failed to read key '{key}': {why}");
        let found = self
            .client
            .look(&format!("kv/{key}"), vec![("raw", "")], ASK_LIMIT);
        let body = found.map_err(|error| failed(&error))?.body;
        body.ok_or_else(|| failed(&"it is not there any more"))
    }
}
