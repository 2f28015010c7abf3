//! Transactions: several operations that see one state, and that all happen or none does.
//!
//! Two phases can fail. Operations that make no sense are all reported before anything runs. Then every operation runs in
//! order on a scratch copy and sees what those before it did; all that fail are reported, and then nothing is kept.

mod kv;

use lictor_machine::Index;

use crate::command::{TxnError, TxnOp, TxnResult, TxnVerb};
use crate::edit::Edit;
use crate::state::State;

impl TxnOp {
    /// Whether it changes nothing. A transaction of such operations alone need not go through the log.
    pub const fn is_read_only(&self) -> bool {
        match self {
            Self::Kv(op) => op.is_read_only(),
            Self::Node(verb) => verb.is_read_only(),
            Self::Service { verb, .. } => verb.is_read_only(),
            Self::Check { verb, .. } => verb.is_read_only(),
            Self::NodeById { .. } => true,
        }
    }
}

impl<D> TxnVerb<D> {
    /// Whether it changes nothing.
    pub const fn is_read_only(&self) -> bool {
        match self {
            Self::Get(_) => true,
            Self::Set(_) | Self::Cas(..) | Self::Delete(_) | Self::DeleteCas(..) => false,
        }
    }
}

/// Reads in one transaction. Fails with an operation that writes, like with one that makes no sense.
pub(crate) fn read(state: &State, ops: &[TxnOp]) -> Result<Vec<TxnResult>, Vec<TxnError>> {
    let writes = ops.iter().map(|op| {
        let refused = "it writes, and this transaction may only read: propose it as a command";
        if op.is_read_only() {
            Ok(())
        } else {
            Err(refused.to_owned())
        }
    });
    all(writes)?;
    run(&mut state.clone(), &mut Edit::new(Index::ZERO), ops)
}

/// Carries out a transaction. After an error `state` and `edit` hold half of it: work on copies.
pub(crate) fn run(
    state: &mut State,
    edit: &mut Edit,
    ops: &[TxnOp],
) -> Result<Vec<TxnResult>, Vec<TxnError>> {
    all(ops.iter().map(|op| precheck(state, op)))?;
    let mut results = Vec::with_capacity(ops.len());
    all(ops.iter().map(|op| step(state, edit, op, &mut results)))?;
    Ok(results)
}

/// Runs every check to its end, whatever fails on the way, and collects the failures.
fn all(checks: impl Iterator<Item = Result<(), String>>) -> Result<(), Vec<TxnError>> {
    let failed =
        |(op, check): (usize, Result<(), String>)| check.err().map(|what| TxnError { op: op as u64, what });
    let errors: Vec<_> = checks.enumerate().filter_map(failed).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Whether an operation is refused before anything runs, and why.
fn precheck(state: &State, op: &TxnOp) -> Result<(), String> {
    match op {
        TxnOp::Kv(op) => op.precheck(&state.kv.locks),
        TxnOp::Node(TxnVerb::Set(def) | TxnVerb::Cas(def, _)) => node_name(&def.name),
        TxnOp::Node(TxnVerb::Delete(name) | TxnVerb::DeleteCas(name, _)) => node_name(name),
        TxnOp::Service {
            verb: TxnVerb::Set(def) | TxnVerb::Cas(def, _),
            ..
        } if def.name.is_empty() && !def.id.is_empty() => Err("Must provide service name with ID".to_owned()),
        TxnOp::Node(TxnVerb::Get(_))
        | TxnOp::NodeById { .. }
        | TxnOp::Service { .. }
        | TxnOp::Check { .. } => Ok(()),
    }
}

fn node_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Must provide node".to_owned());
    }
    Ok(())
}

/// Carries out one operation and appends its results.
fn step(state: &mut State, edit: &mut Edit, op: &TxnOp, results: &mut Vec<TxnResult>) -> Result<(), String> {
    let (discovery, coordinates) = (&mut state.discovery, &mut state.coordinates);
    match op {
        TxnOp::Kv(op) => return kv::step(&mut state.kv, edit, &state.sessions, op, results),
        TxnOp::Node(verb) => {
            let node = discovery.txn_node(coordinates, edit, verb)?;
            results.extend(node.map(TxnResult::Node));
        }
        TxnOp::NodeById { id, name } => results.push(TxnResult::Node(discovery.txn_node_by_id(*id, name)?)),
        TxnOp::Service { node, verb } => {
            let service = discovery.txn_service(edit, node, verb)?;
            results.extend(service.map(TxnResult::Service));
        }
        TxnOp::Check { node, verb } => {
            let check = discovery.txn_check(edit, node, verb)?;
            results.extend(check.map(TxnResult::Check));
        }
    }
    // What comes after must not see sessions whose ground is gone.
    state.end_lost_sessions(edit);
    Ok(())
}
