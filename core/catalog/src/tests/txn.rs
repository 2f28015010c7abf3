//! Transactions.

use super::*;
use crate::{TxnError, TxnResult};

/// What a transaction said: its results as (key, value if it belongs to the answer, modify index).
fn results(outcome: Outcome) -> Vec<(String, Option<String>, u64)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    match outcome {
        Outcome::Txn(Ok(results)) => results
            .iter()
            .map(|result| {
                let TxnResult::Kv { entry, value } = result else {
                    panic!("not an entry: {result:?}")
                };
                (
                    text(&entry.key),
                    value.then(|| text(&entry.value)),
                    entry.modify_index.0,
                )
            })
            .collect(),
        Outcome::Done(_)
        | Outcome::Refused(_)
        | Outcome::Session(_)
        | Outcome::Prepared(_)
        | Outcome::Txn(Err(_)) => {
            panic!("not results: {outcome:?}")
        }
    }
}

fn errors(outcome: Outcome) -> Vec<(u64, String)> {
    match outcome {
        Outcome::Txn(Err(errors)) => errors
            .into_iter()
            .map(|TxnError { op, what }| (op, what))
            .collect(),
        Outcome::Done(_)
        | Outcome::Refused(_)
        | Outcome::Session(_)
        | Outcome::Prepared(_)
        | Outcome::Txn(Ok(_)) => {
            panic!("not errors: {outcome:?}")
        }
    }
}

fn row(key: &str, value: Option<&str>, index: u64) -> (String, Option<String>, u64) {
    (key.to_owned(), value.map(str::to_owned), index)
}

fn failure(op: u64, what: &str) -> (u64, String) {
    (op, what.to_owned())
}

#[test]
fn later_operations_see_earlier_ones_and_all_share_one_index() {
    let mut bench = Bench::new();
    bench.set("t/0", "0");
    let outcome = bench.txn(vec![
        KvTxnOp::Set(pair("t/1", "abc")),
        KvTxnOp::Get(bytes("t/1")),
        KvTxnOp::Cas(pair("t/1", "def"), Index(2)),
        KvTxnOp::CheckIndex(bytes("t/0"), Index(1)),
        KvTxnOp::Delete(bytes("t/0")),
        KvTxnOp::CheckNotExists(bytes("t/0")),
        KvTxnOp::Set(pair("t/2", "")),
        KvTxnOp::GetTree(bytes("t/")),
        KvTxnOp::GetTree(bytes("none")),
        KvTxnOp::GetOrEmpty(bytes("t/0")),
        KvTxnOp::GetOrEmpty(bytes("t/1")),
        KvTxnOp::DeleteTree(bytes("none")),
        KvTxnOp::DeleteCas(bytes("none"), Index(9)),
    ]);
    let expected = [
        row("t/1", None, 2),
        row("t/1", Some("abc"), 2),
        row("t/1", None, 2),
        row("t/0", None, 1),
        row("t/2", None, 2),
        row("t/1", Some("def"), 2),
        row("t/2", Some(""), 2),
        row("t/0", Some(""), 0),
        row("t/1", Some("def"), 2),
    ];
    assert_eq!(results(outcome), expected);
    assert_eq!(bench.keys("", ""), ["t/1", "t/2"]);
    assert_eq!((bench.index_of("t/"), bench.index_of("")), (2, 2));
}

#[test]
fn an_operation_that_changes_nothing_answers_with_the_old_index() {
    let mut bench = Bench::new();
    bench.set("a", "1");
    assert_eq!(
        results(bench.txn(vec![KvTxnOp::Set(pair("a", "1"))])),
        [row("a", None, 1)]
    );
    assert!(bench.changes.is_empty());
    assert_eq!(results(bench.txn(Vec::new())), []);
}

#[test]
fn every_failure_is_reported_and_nothing_is_kept() {
    let mut bench = Bench::new();
    bench.set("a", "1");
    bench.lock("held", "1", ALICE);
    let digest = bench.state.export();
    let outcome = bench.txn(vec![
        KvTxnOp::Set(pair("b", "1")),
        KvTxnOp::Cas(pair("a", "2"), Index(9)),
        KvTxnOp::Lock(pair("held", "1"), session(BOB)),
        KvTxnOp::Lock(pair("x", "1"), session("")),
        KvTxnOp::Lock(pair("x", "1"), session(GHOST)),
        KvTxnOp::Lock(pair("x", "1"), session("a\"b")),
        KvTxnOp::Unlock(pair("a", "1"), session(ALICE)),
        KvTxnOp::Unlock(pair("a", "1"), session("")),
        KvTxnOp::Get(bytes("q\"\n\u{e9}")),
        KvTxnOp::CheckIndex(bytes("a"), Index(7)),
        KvTxnOp::CheckIndex(bytes("none"), Index(0)),
        KvTxnOp::CheckSession(bytes("a"), session(GHOST)),
        KvTxnOp::CheckSession(bytes("held"), session("x\"y")),
        KvTxnOp::CheckSession(bytes("none"), session("")),
        KvTxnOp::CheckNotExists(bytes("b")),
        KvTxnOp::DeleteCas(bytes("a"), Index(3)),
        KvTxnOp::DeleteTree(bytes("")),
        KvTxnOp::GetTree(bytes("none")),
    ]);
    let expected = [
        failure(1, "failed to set key \"a\", index is stale"),
        failure(2, "failed to lock key \"held\", lock is already held"),
        failure(3, "missing session"),
        failure(4, &format!("invalid session \"{GHOST}\"")),
        failure(
            5,
            "failed session lookup: index error: UUID must be 36 characters",
        ),
        failure(
            6,
            "failed to unlock key \"a\", lock isn't held, or is held by another session",
        ),
        failure(7, "missing session"),
        failure(8, "key \"q\\\"\\n\u{e9}\" doesn't exist"),
        failure(9, "failed index check for key \"a\", current modify index 1 != 7"),
        failure(10, "failed to check index, key \"none\" doesn't exist"),
        failure(
            11,
            &format!("failed session check for key \"a\", current session \"\" != \"{GHOST}\""),
        ),
        failure(
            12,
            &format!("failed session check for key \"held\", current session \"{ALICE}\" != \"x\\\"y\""),
        ),
        failure(13, "failed to check session, key \"none\" doesn't exist"),
        failure(14, "key \"b\" exists"),
        failure(15, "failed to delete key \"a\", index is stale"),
    ];
    assert_eq!(errors(outcome), expected);
    assert!(bench.changes.is_empty());
    let rows = |export: &crate::Export| export.chunk(&crate::Cursor::start(), usize::MAX).0;
    assert_eq!(rows(&bench.state.export()), rows(&digest));
}

#[test]
fn nonsense_is_reported_before_anything_runs() {
    let mut bench = Bench::new();
    let outcome = bench.txn(vec![
        KvTxnOp::Get(bytes("")),
        KvTxnOp::Get(bytes("none")),
        KvTxnOp::GetTree(bytes("")),
        KvTxnOp::DeleteTree(bytes("")),
        KvTxnOp::Set(pair("", "1")),
    ]);
    let expected = [0, 2, 4].map(|op| failure(op, "Must provide key"));
    assert_eq!(errors(outcome), expected);
}

#[test]
fn locks_in_transactions_follow_the_rules_of_locks() {
    let mut bench = Bench::new();
    let outcome = bench.txn(vec![
        KvTxnOp::Lock(pair("l", "1"), session(ALICE)),
        KvTxnOp::CheckSession(bytes("l"), session(ALICE)),
        KvTxnOp::Lock(pair("l", "2"), session(ALICE)),
        KvTxnOp::Unlock(pair("l", "3"), session(ALICE)),
        KvTxnOp::CheckSession(bytes("l"), session("")),
        KvTxnOp::Lock(pair("l", "4"), session(BOB)),
    ]);
    assert_eq!(results(outcome).len(), 6);
    assert_eq!(bench.lock_of("l"), (Some(BOB.to_owned()), 2, 1));
}

#[test]
fn reading_needs_no_command() {
    let mut bench = Bench::new();
    bench.set("a", "1");
    let read = |ops: Vec<KvTxnOp>| {
        let ops: Vec<_> = ops.into_iter().map(TxnOp::Kv).collect();
        (
            ops.iter().all(TxnOp::is_read_only),
            Outcome::Txn(bench.state.txn_read(&ops)),
        )
    };
    let (read_only, outcome) = read(vec![
        KvTxnOp::Get(bytes("a")),
        KvTxnOp::GetOrEmpty(bytes("b")),
        KvTxnOp::GetTree(bytes("a")),
        KvTxnOp::CheckIndex(bytes("a"), Index(1)),
        KvTxnOp::CheckSession(bytes("a"), session("")),
        KvTxnOp::CheckNotExists(bytes("b")),
    ]);
    assert!(read_only);
    let expected = [
        row("a", Some("1"), 1),
        row("b", Some(""), 0),
        row("a", Some("1"), 1),
        row("a", None, 1),
        row("a", None, 1),
    ];
    assert_eq!(results(outcome), expected);
    assert_eq!(
        errors(read(vec![KvTxnOp::Get(bytes("b"))]).1),
        [failure(0, "key \"b\" doesn't exist")]
    );
    for write in [
        KvTxnOp::Set(pair("a", "2")),
        KvTxnOp::Cas(pair("a", "2"), Index(1)),
        KvTxnOp::Lock(pair("a", "2"), session(ALICE)),
        KvTxnOp::Unlock(pair("a", "2"), session(ALICE)),
        KvTxnOp::Delete(bytes("a")),
        KvTxnOp::DeleteTree(bytes("a")),
        KvTxnOp::DeleteCas(bytes("a"), Index(1)),
    ] {
        let (read_only, outcome) = read(vec![KvTxnOp::Get(bytes("a")), write]);
        assert!(!read_only);
        let what = "it writes, and this transaction may only read: propose it as a command";
        assert_eq!(errors(outcome), [failure(1, what)]);
    }
    assert_eq!(&bench.get("a").unwrap().value[..], b"1");
}
