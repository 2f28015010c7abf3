//! Tests of the crate as a whole.

mod autopilot;
mod commands;
mod coordinates;
mod discovery;
mod indexes;
mod kv;
mod model;
mod once;
mod prepared;
mod properties;
mod restore;
mod rows;
mod sessions;
mod txn;
mod txn_objects;
mod watches;

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdSet;
use lictor_machine::{Index, UnixMillis};

use crate::{
    Action, Changes, Command, Found, Key, KvEntry, KvPair, KvTxnOp, KvWrite, Outcome, Query, SessionId,
    SessionRef, State, TxnOp,
};

/// Two sessions that live in every test state, and one that does not.
const ALICE: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
const BOB: &str = "bbbbbbbb-0000-4000-8000-00000000000b";
const GHOST: &str = "dddddddd-0000-4000-8000-00000000000d";

/// A state with the living sessions, and the commands as short words. Every command gets the next index.
struct Bench {
    state: State,
    changes: Changes,
}

impl Bench {
    fn new() -> Self {
        Self {
            state: with_sessions(State::new()),
            changes: Changes::default(),
        }
    }

    /// Applies at the next index; `changes` are those of this command alone.
    fn apply(&mut self, action: Action) -> Outcome {
        self.changes = Changes::default();
        let index = self.state.index().next();
        self.state
            .apply(index, &command(action), &mut self.changes)
            .unwrap()
    }

    fn kv(&mut self, write: KvWrite) -> Outcome {
        self.apply(Action::Kv(write))
    }

    fn set(&mut self, key: &str, value: &str) {
        assert_eq!(self.kv(KvWrite::Set(pair(key, value))), Outcome::Done(true));
    }

    fn delete(&mut self, key: &str) {
        assert_eq!(self.kv(KvWrite::Delete(bytes(key))), Outcome::Done(true));
    }

    fn delete_tree(&mut self, prefix: &str) {
        assert_eq!(self.kv(KvWrite::DeleteTree(bytes(prefix))), Outcome::Done(true));
    }

    fn lock(&mut self, key: &str, value: &str, session: &str) -> Outcome {
        self.kv(KvWrite::Lock(pair(key, value), SessionRef(session.to_owned())))
    }

    fn unlock(&mut self, key: &str, value: &str, session: &str) -> Outcome {
        self.kv(KvWrite::Unlock(pair(key, value), SessionRef(session.to_owned())))
    }

    fn txn(&mut self, ops: Vec<KvTxnOp>) -> Outcome {
        self.apply(Action::Txn(ops.into_iter().map(TxnOp::Kv).collect()))
    }

    fn get(&self, key: &str) -> Option<Arc<KvEntry>> {
        let Found::Entry(entry) = self.state.query(&Query::KvGet(bytes(key))).1 else {
            panic!("not an entry");
        };
        entry
    }

    /// Session, lock index and modify index of a key that exists.
    fn lock_of(&self, key: &str) -> (Option<String>, u64, u64) {
        let entry = self.get(key).unwrap();
        (
            entry.session().map(str::to_owned),
            entry.lock_index,
            entry.modify_index.0,
        )
    }

    fn keys(&self, prefix: &str, separator: &str) -> Vec<String> {
        let query = Query::KvKeys {
            prefix: bytes(prefix),
            separator: bytes(separator),
        };
        let Found::Keys(keys) = self.state.query(&query).1 else {
            panic!("not keys");
        };
        keys.iter()
            .map(|key| String::from_utf8(key.to_vec()).unwrap())
            .collect()
    }

    fn index_of_key(&self, key: &str) -> u64 {
        self.state.query(&Query::KvGet(bytes(key))).0.0
    }

    /// The index of a prefix, which is the same whatever is asked about it.
    fn index_of(&self, prefix: &str) -> u64 {
        let (index, _) = self.state.query(&Query::KvList(bytes(prefix)));
        for separator in ["", "/"] {
            let query = Query::KvKeys {
                prefix: bytes(prefix),
                separator: bytes(separator),
            };
            assert_eq!(self.state.query(&query).0, index);
        }
        index.0
    }
}

fn with_sessions(mut state: State) -> State {
    state.sessions.assumed = assumed();
    state
}

/// The living sessions by id.
fn assumed() -> OrdSet<SessionId> {
    let ids = [ALICE, BOB].map(|session| SessionId::parse(session).unwrap().unwrap());
    ids.into_iter().collect()
}

fn command(action: Action) -> Command {
    Command {
        stamp: UnixMillis(1),
        action,
    }
}

fn bytes(text: &str) -> Bytes {
    Key::copy_from_slice(text.as_bytes())
}

fn pair(key: &str, value: &str) -> KvPair {
    KvPair {
        key: bytes(key),
        value: bytes(value),
        flags: 0,
    }
}

fn session(text: &str) -> SessionRef {
    SessionRef(text.to_owned())
}

fn refused(text: &str) -> Outcome {
    Outcome::Refused(text.to_owned())
}

const DONE: Outcome = Outcome::Done(true);
const NOT_DONE: Outcome = Outcome::Done(false);

/// Applies one command to a state, whatever it changes.
fn apply(state: &mut State, index: u64, action: Action) -> Outcome {
    state
        .apply(Index(index), &command(action), &mut Changes::default())
        .unwrap()
}
