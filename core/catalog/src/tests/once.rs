//! Changes under idempotency keys.

use super::discovery::{node, of_node, rebuilt, register, rows};
use super::*;
use crate::{IdempotencyKey, MAX_RECEIPT_BYTES, Once, SessionDef};

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::of(&[text.as_bytes()])
}

fn once(text: &str, action: &Action) -> Action {
    Action::Once(Box::new(Once::new(key(text), action).unwrap()))
}

fn create(text: &str, index: u64) -> Action {
    Action::Kv(KvWrite::Cas(pair(text, "v"), Index(index)))
}

#[test]
fn the_same_change_again_has_the_first_answer_and_no_effect() {
    let mut bench = Bench::new();
    let change = once("k", &create("a", 0));
    assert_eq!(bench.apply(change.clone()), DONE);
    bench.delete("a");
    for _ in 0..3 {
        assert_eq!(bench.apply(change.clone()), DONE);
        assert!(bench.changes.is_empty());
        assert_eq!(bench.get("a"), None);
    }
    // Another key is another change; a refusal is an answer too.
    assert_eq!(bench.apply(once("k2", &create("a", 9))), NOT_DONE);
    bench.set("a", "v");
    assert_eq!(bench.apply(once("k2", &create("a", 9))), NOT_DONE);
    let nonsense = once("k3", &Action::Kv(KvWrite::Lock(pair("l", "v"), session(GHOST))));
    let answer = bench.apply(nonsense.clone());
    assert_eq!(answer, refused(&format!("invalid session \"{GHOST}\"")));
    assert_eq!(bench.apply(nonsense), answer);
}

#[test]
fn another_change_under_the_same_key_is_refused() {
    let mut bench = Bench::new();
    bench.apply(once("k", &create("a", 0)));
    let other = bench.apply(once("k", &create("b", 0)));
    let why = "the idempotency key was used for another request before: each needs its own";
    assert_eq!(other, refused(why));
    assert_eq!(bench.get("b"), None);
}

#[test]
fn a_transaction_has_its_results_again() {
    let mut bench = Bench::new();
    let ops = vec![
        TxnOp::Kv(KvTxnOp::Set(pair("a", "1"))),
        TxnOp::Kv(KvTxnOp::Get(bytes("a"))),
    ];
    let change = once("k", &Action::Txn(ops));
    let first = bench.apply(change.clone());
    assert!(matches!(&first, Outcome::Txn(Ok(results)) if results.len() == 2));
    bench.set("a", "2");
    assert_eq!(bench.apply(change), first);
    let failing = once("k2", &Action::Txn(vec![TxnOp::Kv(KvTxnOp::Get(bytes("nope")))]));
    let first = bench.apply(failing.clone());
    assert!(matches!(&first, Outcome::Txn(Err(_))));
    bench.set("nope", "1");
    assert_eq!(bench.apply(failing), first);
}

#[test]
fn a_session_is_made_once_whatever_name_was_drawn() {
    let mut bench = Bench::new();
    register(&mut bench, of_node(node("n", "1.1.1.1")));
    let named = |id| {
        let def = SessionDef {
            id: SessionId(id),
            node: "n".into(),
            ..SessionDef::default()
        };
        once("k", &Action::CreateSession(Box::new(def)))
    };
    assert_eq!(bench.apply(named(1)), Outcome::Session(SessionId(1)));
    assert_eq!(bench.apply(named(2)), Outcome::Session(SessionId(1)));
    assert_eq!(bench.state.sessions().count(), 1);
}

#[test]
fn answers_outlive_a_restart_and_are_forgotten_by_age() {
    let mut bench = Bench::new();
    bench.apply(once("old", &create("a", 0)));
    let through = bench.state.index();
    bench.set("x", "1");
    bench.apply(once("new", &create("b", 0)));
    let digest = bench.state.digest();
    bench.state = rebuilt(rows(&bench.state), bench.state.index()).unwrap();
    assert_eq!(bench.state.digest(), digest);
    bench.delete_tree("");
    assert_eq!(bench.apply(once("old", &create("a", 0))), DONE);
    assert_eq!(bench.get("a"), None, "it was not done again");
    assert!(!bench.state.has_receipts_through(through.prev()));
    assert!(bench.state.has_receipts_through(through));
    assert_eq!(bench.apply(Action::ForgetReceipts(through)), DONE);
    assert!(!bench.state.has_receipts_through(through));
    assert!(bench.state.has_receipts_through(bench.state.index()));
    assert_eq!(bench.apply(once("old", &create("a", 0))), DONE);
    assert!(bench.get("a").is_some(), "the key is as good as new");
    assert_eq!(bench.apply(once("new", &create("b", 0))), DONE);
    assert_eq!(bench.get("b"), None);
    bench.apply(Action::ForgetReceipts(bench.state.index()));
    assert!(
        rows(&bench.state)
            .iter()
            .all(|row| row.table != crate::Table::Receipts)
    );
}

#[test]
fn an_answer_that_is_too_large_to_keep_is_refused_and_nothing_is_done() {
    let mut bench = Bench::new();
    bench.set("large", &"x".repeat(MAX_RECEIPT_BYTES));
    let ops = [KvTxnOp::Set(pair("a", "1")), KvTxnOp::Get(bytes("large"))];
    let before = bench.state.digest();
    let outcome = bench.apply(once("k", &Action::Txn(ops.map(TxnOp::Kv).into())));
    assert!(matches!(&outcome, Outcome::Refused(why) if why.starts_with("the answer is too large")));
    assert!(bench.changes.is_empty());
    assert_eq!(bench.get("a"), None);
    assert_eq!(
        rebuilt(rows(&bench.state), bench.state.index().prev())
            .unwrap()
            .digest(),
        before
    );
}

#[test]
fn what_is_no_change_of_a_client_takes_no_key() {
    let action = Action::ReapTombstones(Index(1));
    assert_eq!(Once::new(key("k"), &action), None);
    let nested = once("k", &create("a", 0));
    assert_eq!(Once::new(key("k"), &nested), None);
    // Nor does a command that somebody else has put together.
    let inner = postcard::to_allocvec(&nested).unwrap();
    for inner in [inner, b"\xff\xff".to_vec(), Vec::new()] {
        let forged = postcard::to_allocvec(&(7_u128, 7_u64, Bytes::from(inner))).unwrap();
        let forged: Once = postcard::from_bytes(&forged).unwrap();
        assert!(forged.action().is_err());
        let mut bench = Bench::new();
        assert!(matches!(
            bench.apply(Action::Once(Box::new(forged))),
            Outcome::Refused(_)
        ));
        assert!(bench.changes.is_empty());
    }
}

#[test]
fn keys_are_told_apart() {
    let of = |texts: &[&str]| {
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        IdempotencyKey::of(&texts)
    };
    assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
    assert_ne!(of(&["a", "b"]), of(&["ab", ""]));
    assert_ne!(of(&["a"]), of(&["a", ""]));
    // For ever the same: what was kept before an upgrade is found after it.
    assert_eq!(
        of(&["key", ""]).0,
        187_861_042_431_036_514_191_950_786_427_701_617_525
    );
}
