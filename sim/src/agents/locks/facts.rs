//! What a command is meant to do to locks, and what a state says of them.

use std::sync::Arc;

use lictor_catalog::{
    Action, Found, Key, KvEntry, KvPair, KvTxnOp, KvWrite, Outcome, Query, Session, SessionId, State, Status,
    TxnOp,
};

use super::{LOCKS, is_counter, is_lock, value_number};

/// Who holds a lock, and by which fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) session: SessionId,
    pub(super) fence: u64,
}

/// Whether the node of a session is gone, or a check that it depends on is, or is critical.
pub(super) fn has_lost_its_ground(state: &State, session: &Session) -> bool {
    let node = &session.def.node;
    let unwell = |id| {
        let check = state.check(node, id);
        check.is_none_or(|check| check.def.status == Status::Critical)
    };
    state.node(node).is_none() || session.def.all_checks().any(|id| unwell(id))
}

/// Whether an action is meant to free a lock that this session holds.
pub(super) fn frees(action: &Action, key: &Key, holder: SessionId) -> bool {
    let Action::Kv(write) = action else {
        return false;
    };
    match write {
        KvWrite::Unlock(pair, session) => pair.key == *key && session.0 == holder.to_string(),
        KvWrite::Delete(deleted) | KvWrite::DeleteCas(deleted, _) => deleted == key,
        KvWrite::DeleteTree(prefix) => key.starts_with(prefix),
        KvWrite::Set(_) | KvWrite::Cas(..) | KvWrite::Lock(..) => false,
    }
}

/// The values, each its writer's own, that an action has written.
pub(super) fn written_by(action: &Action, outcome: &Outcome) -> Vec<u64> {
    let pairs: Vec<&KvPair> = match (action, outcome) {
        (Action::Kv(write), Outcome::Done(true)) => match write {
            KvWrite::Set(pair)
            | KvWrite::Cas(pair, _)
            | KvWrite::Lock(pair, _)
            | KvWrite::Unlock(pair, _) => vec![pair],
            KvWrite::Delete(_) | KvWrite::DeleteCas(..) | KvWrite::DeleteTree(_) => Vec::new(),
        },
        (Action::Txn(ops), Outcome::Txn(Ok(_))) => ops.iter().filter_map(written_in).collect(),
        _ => Vec::new(),
    };
    let numbers = pairs.into_iter().filter_map(|pair| value_number(&pair.value));
    numbers.collect()
}

/// The counters that an action has made to count.
pub(super) fn counted_by(action: &Action, outcome: &Outcome) -> impl Iterator<Item = Key> {
    let pairs: Vec<&KvPair> = match (action, outcome) {
        (Action::Kv(KvWrite::Cas(pair, _)), Outcome::Done(true)) => vec![pair],
        (Action::Txn(ops), Outcome::Txn(Ok(_))) => ops.iter().filter_map(written_in).collect(),
        _ => Vec::new(),
    };
    let keys = pairs.into_iter().map(|pair| pair.key.clone());
    keys.filter(|key| is_counter(key))
}

const fn written_in(op: &TxnOp) -> Option<&KvPair> {
    if let TxnOp::Kv(
        KvTxnOp::Set(pair) | KvTxnOp::Cas(pair, _) | KvTxnOp::Lock(pair, _) | KvTxnOp::Unlock(pair, _),
    ) = op
    {
        Some(pair)
    } else {
        None
    }
}

/// The entries of all locks, held or not.
pub(super) fn locks_in(state: &State) -> Vec<Arc<KvEntry>> {
    if let Found::Entries(entries) = state.query(&Query::KvList(Key::from_static(LOCKS))).1 {
        entries
    } else {
        Vec::new()
    }
}

/// Who holds a lock, if anybody does.
pub(super) fn hold_of(entry: &KvEntry) -> Option<(Key, Hold)> {
    let holder = entry.holder.as_ref().filter(|_| is_lock(&entry.key))?;
    let session = SessionId::parse(&holder.session).ok().flatten()?;
    let hold = Hold {
        session,
        fence: holder.fence,
    };
    Some((entry.key.clone(), hold))
}
