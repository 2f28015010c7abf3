//! Transactions on nodes, services and checks.

use super::discovery::{check, identified, node, of_node, on, rebuilt, register, rows, service};
use super::*;
use crate::{CheckDef, NodeDef, SERF_HEALTH, ServiceDef, Status, TxnError, TxnResult, TxnVerb};

fn on_node(verb: TxnVerb<NodeDef>) -> TxnOp {
    TxnOp::Node(verb)
}

fn on_service(node: &str, verb: TxnVerb<ServiceDef>) -> TxnOp {
    let node = node.into();
    TxnOp::Service { node, verb }
}

fn on_check(node: &str, verb: TxnVerb<CheckDef>) -> TxnOp {
    let node = node.into();
    TxnOp::Check { node, verb }
}

fn set<D>(def: D) -> TxnVerb<D> {
    TxnVerb::Set(Box::new(def))
}

fn cas<D>(def: D, index: u64) -> TxnVerb<D> {
    TxnVerb::Cas(Box::new(def), Index(index))
}

fn delete_cas<D>(name: &str, index: u64) -> TxnVerb<D> {
    TxnVerb::DeleteCas(name.into(), Index(index))
}

/// The results as `kind name@create/modify`, or the errors as `op: what`.
fn run(bench: &mut Bench, ops: Vec<TxnOp>) -> Result<Vec<String>, Vec<String>> {
    let before = bench.state.digest();
    let Outcome::Txn(answer) = bench.apply(Action::Txn(ops)) else {
        panic!("not the answer to a transaction")
    };
    if answer.is_err() {
        assert!(bench.changes.is_empty());
        let same = rebuilt(rows(&bench.state), bench.state.index().prev()).unwrap();
        assert_eq!(same.digest(), before, "something was changed");
    }
    let shown = |result: &TxnResult| match result {
        TxnResult::Kv { entry, .. } => format!("kv {:?}", entry.key),
        TxnResult::Node(node) => {
            format!(
                "node {}@{}/{}",
                node.def.name, node.create_index, node.modify_index
            )
        }
        TxnResult::Service(service) => format!(
            "service {}/{}@{}/{}",
            service.node, service.def.id, service.create_index, service.modify_index
        ),
        TxnResult::Check(check) => format!(
            "check {}/{} {} {}@{}/{}",
            check.node,
            check.def.id,
            check.def.status,
            check.service_name,
            check.create_index,
            check.modify_index
        ),
    };
    match answer {
        Ok(results) => Ok(results.iter().map(shown).collect()),
        Err(errors) => Err(errors
            .iter()
            .map(|TxnError { op, what }| format!("{op}: {what}"))
            .collect()),
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn nodes_services_and_checks_are_set_read_and_deleted_in_one() {
    let mut bench = Bench::new();
    let results = run(
        &mut bench,
        vec![
            on_node(set(identified(7, "N"))),
            on_service("n", set(service("", "web"))),
            on_check("n", set(check("c", "WEB", Status::Passing))),
            on_node(TxnVerb::Get("n".into())),
            TxnOp::NodeById {
                id: lictor_machine::NodeId(7),
                name: "".into(),
            },
            on_service("N", TxnVerb::Get("WEB".into())),
            on_check("N", TxnVerb::Get("C".into())),
            TxnOp::Kv(KvTxnOp::Set(pair("k", "v"))),
        ],
    );
    assert_eq!(
        results,
        Ok(texts(&[
            "node N@1/1",
            "service N/web@1/1",
            "check N/c passing web@1/1",
            "node N@1/1",
            "node N@1/1",
            "service N/web@1/1",
            "check N/c passing web@1/1",
            "kv b\"k\""
        ]))
    );
    // The same again changes nothing.
    let again = run(
        &mut bench,
        vec![
            on_node(set(identified(7, "N"))),
            on_check("n", set(check("c", "web", Status::Passing))),
        ],
    );
    assert_eq!(again.unwrap()[0], "node N@1/1");
    let results = run(
        &mut bench,
        vec![
            on_check("n", TxnVerb::Delete("c".into())),
            on_check("n", TxnVerb::Delete("c".into())),
            on_check("nope", TxnVerb::Delete("c".into())),
            on_service("n", TxnVerb::Delete("web".into())),
            on_service("nope", TxnVerb::Delete("web".into())),
            on_node(TxnVerb::Delete("n".into())),
            on_node(TxnVerb::Delete("n".into())),
        ],
    );
    assert_eq!(results, Ok(texts(&[])));
    assert!(bench.state.node("n").is_none());
}

#[test]
fn conditions_go_by_the_modify_index() {
    let mut bench = Bench::new();
    bench.set("x", "");
    register(&mut bench, of_node(node("n", "1")));
    register(
        &mut bench,
        on(
            "n",
            Some(service("s", "s")),
            vec![check("c", "", Status::Passing)],
        ),
    );
    let moved = || node("n", "2");
    let results = run(
        &mut bench,
        vec![
            on_node(cas(moved(), 2)),
            on_service(
                "n",
                cas(
                    ServiceDef {
                        port: 1,
                        ..service("s", "s")
                    },
                    3,
                ),
            ),
            on_check("n", cas(check("c", "", Status::Warning), 3)),
            on_node(cas(node("new", "1"), 0)),
            on_service("new", cas(service("s", "s"), 0)),
            on_check("new", cas(check("c", "", Status::Warning), 0)),
        ],
    );
    assert_eq!(
        results,
        Ok(texts(&[
            "node n@2/4",
            "service n/s@3/4",
            "check n/c warning @3/4",
            "node new@4/4",
            "service new/s@4/4",
            "check new/c warning @4/4"
        ]))
    );
    let stale = run(
        &mut bench,
        vec![
            on_node(cas(moved(), 0)),
            on_node(cas(moved(), 3)),
            on_node(cas(node("nope", "1"), 3)),
            on_service("n", cas(service("s", "s"), 0)),
            on_service("n", cas(service("", "nope"), 1)),
            on_check("n", cas(check("c", "", Status::Passing), 1)),
            on_check("n", cas(check("nope", "", Status::Passing), 1)),
            on_node(delete_cas("n", 1)),
            on_node(delete_cas("nope", 0)),
            on_service("n", delete_cas("s", 1)),
            on_service("nope", delete_cas("s", 1)),
            on_check("n", delete_cas("c", 1)),
            on_check("n", delete_cas("nope", 0)),
        ],
    );
    assert_eq!(
        stale,
        Err(texts(&[
            "0: failed to set node \"n\", index is stale",
            "1: failed to set node \"n\", index is stale",
            "2: failed to set node \"nope\", index is stale",
            "3: failed to set service \"s\" on node \"n\", index is stale",
            "4: failed to set service \"nope\" on node \"n\", index is stale",
            "5: failed to set check \"c\" on node \"n\", index is stale",
            "6: failed to set check \"nope\" on node \"n\", index is stale",
            "7: failed to delete node \"n\", index is stale",
            "8: failed to delete node \"nope\", index is stale",
            "9: failed to delete service \"s\" on node \"n\", index is stale",
            "10: failed to delete service \"s\" on node \"nope\", index is stale",
            "11: failed to delete check \"c\" on node \"n\", index is stale",
            "12: failed to delete check \"nope\" on node \"n\", index is stale",
        ]))
    );
    let gone = run(
        &mut bench,
        vec![
            on_check("n", delete_cas("c", 4)),
            on_service("n", delete_cas("s", 4)),
            on_node(delete_cas("n", 4)),
        ],
    );
    assert_eq!(gone, Ok(texts(&[])));
    assert!(bench.state.node("n").is_none());
}

#[test]
fn what_does_not_exist_and_what_makes_no_sense() {
    let mut bench = Bench::new();
    register(&mut bench, of_node(node("n", "1")));
    let errors = run(
        &mut bench,
        vec![
            on_node(TxnVerb::Get("nope".into())),
            TxnOp::NodeById {
                id: lictor_machine::NodeId(9),
                name: "n9".into(),
            },
            on_service("n", TxnVerb::Get("nope".into())),
            on_service("nope", TxnVerb::Get("".into())),
            on_check("n", TxnVerb::Get("nope".into())),
            on_service("nope", set(service("s", "s"))),
            on_service("n", set(service("", ""))),
            on_check("nope", set(check("c", "", Status::Passing))),
            on_check("n", set(check("", "", Status::Passing))),
            on_check("n", set(check("c", "nope", Status::Passing))),
            on_node(set(node("a\0b", "1"))),
        ],
    );
    assert_eq!(
        errors,
        Err(texts(&[
            "0: node \"nope\" doesn't exist",
            "1: node \"n9\" doesn't exist",
            "2: service \"nope\" on node \"n\" doesn't exist",
            "3: service \"\" on node \"nope\" doesn't exist",
            "4: check \"nope\" on node \"n\" doesn't exist",
            "5: Missing node registration",
            "6: failed inserting service: object missing primary index",
            "7: Missing node registration",
            "8: failed inserting check: object missing primary index",
            "9: Missing service registration",
            "10: invalid registration: the node's name has a zero byte in it",
        ]))
    );
    let early = run(
        &mut bench,
        vec![
            on_node(set(node("", "1"))),
            on_node(TxnVerb::Delete("".into())),
            on_service("n", set(service("id", ""))),
            on_node(TxnVerb::Get("nope".into())),
            TxnOp::Kv(KvTxnOp::Set(pair("", ""))),
        ],
    );
    assert_eq!(
        early,
        Err(texts(&[
            "0: Must provide node",
            "1: Must provide node",
            "2: Must provide service name with ID",
            "4: Must provide key",
        ]))
    );
}

#[test]
fn a_name_is_kept_by_who_is_well() {
    let mut bench = Bench::new();
    register(&mut bench, of_node(identified(1, "n")));
    register(
        &mut bench,
        on("n", None, vec![check(SERF_HEALTH, "", Status::Passing)]),
    );
    let taken = run(&mut bench, vec![on_node(set(identified(2, "n")))]);
    let what = taken.unwrap_err().remove(0);
    assert!(what.starts_with("0: Error while renaming Node ID: "), "{what}");
    // Who comes with its id under another name is renamed, and what ran under the old one is gone.
    let renamed = run(&mut bench, vec![on_node(set(identified(1, "m")))]);
    assert_eq!(renamed, Ok(texts(&["node m@1/4"])));
    assert!(bench.state.node("n").is_none());
}

#[test]
fn reading_needs_no_command() {
    let mut bench = Bench::new();
    register(&mut bench, of_node(identified(1, "n")));
    let reads = [
        on_node(TxnVerb::Get("n".into())),
        TxnOp::NodeById {
            id: lictor_machine::NodeId(1),
            name: "".into(),
        },
    ];
    assert!(reads.iter().all(TxnOp::is_read_only));
    assert_eq!(bench.state.txn_read(&reads).map(|results| results.len()), Ok(2));
    for write in [
        on_node(set(node("n", "1"))),
        on_node(cas(node("n", "1"), 0)),
        on_service("n", TxnVerb::Delete("s".into())),
        on_check("n", delete_cas("s", 0)),
    ] {
        assert!(!write.is_read_only());
        assert!(bench.state.txn_read(&[write]).is_err());
    }
}
