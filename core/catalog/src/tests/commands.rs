//! Commands as bytes.

use std::time::Duration;

use lictor_machine::NodeId;

use super::*;
use crate::{
    AutopilotConfig, Behavior, CatalogChange, CheckDef, CheckDefinition, ConnectDef, Coordinate, DecodeError,
    Deregistration, IdempotencyKey, MAX_TXN_OPS, NodeCoordinate, NodeDef, Once, Registration, Removal,
    RunOut, ServiceAddress, ServiceCheck, ServiceDef, SessionDef, Status, TxnVerb, Weights,
};

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// One command of each kind, and the bytes that it has had since it exists.
fn golden() -> Vec<(Action, &'static str)> {
    let kv = Action::Kv;
    let txn = |op| Action::Txn(vec![TxnOp::Kv(op)]);
    let some = || KvPair {
        key: bytes("k"),
        value: bytes("val"),
        flags: 300,
    };
    let by = || session("s");
    vec![
        (kv(KvWrite::Set(some())), "01ac020000016b0376616cac02"),
        (kv(KvWrite::Cas(some(), Index(9))), "01ac020001016b0376616cac0209"),
        (kv(KvWrite::Lock(some(), by())), "01ac020002016b0376616cac020173"),
        (
            kv(KvWrite::Unlock(some(), by())),
            "01ac020003016b0376616cac020173",
        ),
        (kv(KvWrite::Delete(bytes("k"))), "01ac020004016b"),
        (kv(KvWrite::DeleteCas(bytes("k"), Index(9))), "01ac020005016b09"),
        (kv(KvWrite::DeleteTree(bytes("k"))), "01ac020006016b"),
        (txn(KvTxnOp::Set(some())), "01ac0201010000016b0376616cac02"),
        (
            txn(KvTxnOp::Cas(some(), Index(9))),
            "01ac0201010001016b0376616cac0209",
        ),
        (
            txn(KvTxnOp::Lock(some(), by())),
            "01ac0201010002016b0376616cac020173",
        ),
        (
            txn(KvTxnOp::Unlock(some(), by())),
            "01ac0201010003016b0376616cac020173",
        ),
        (txn(KvTxnOp::Get(bytes("k"))), "01ac0201010004016b"),
        (txn(KvTxnOp::GetOrEmpty(bytes("k"))), "01ac0201010005016b"),
        (txn(KvTxnOp::GetTree(bytes("k"))), "01ac0201010006016b"),
        (
            txn(KvTxnOp::CheckIndex(bytes("k"), Index(9))),
            "01ac0201010007016b09",
        ),
        (
            txn(KvTxnOp::CheckSession(bytes("k"), by())),
            "01ac0201010008016b0173",
        ),
        (txn(KvTxnOp::CheckNotExists(bytes("k"))), "01ac0201010009016b"),
        (txn(KvTxnOp::Delete(bytes("k"))), "01ac020101000a016b"),
        (txn(KvTxnOp::DeleteTree(bytes("k"))), "01ac020101000b016b"),
        (
            txn(KvTxnOp::DeleteCas(bytes("k"), Index(9))),
            "01ac020101000c016b09",
        ),
        (Action::ReapTombstones(Index(300)), "01ac0202ac02"),
        (
            Action::SetAutopilot {
                config: AutopilotConfig {
                    redundancy_zone_tag: "z".to_owned(),
                    upgrade_version_tag: "v".to_owned(),
                    ..AutopilotConfig::default()
                },
                cas: Some(Index(9)),
            },
            "01ac020301008084af5ffa01000a00017a0001760109",
        ),
        (
            Action::Coordinates(vec![NodeCoordinate {
                node: "n".to_owned(),
                segment: "s".to_owned(),
                coordinate: Coordinate::new([0.0; 8], 1.5, -1.0, 2.0).unwrap(),
            }]),
            concat!(
                "01ac020401016e0173",
                "0000000000000000000000000000000000000000000000000000000000000000",
                "0000000000000000000000000000000000000000000000000000000000000000",
                "000000000000f83f000000000000f0bf0000000000000040"
            ),
        ),
        (Action::ForgetCoordinates(vec!["n".to_owned()]), "01ac020501016e"),
        (
            Action::Register(Box::new(registration())),
            concat!(
                "01ac020601ac02016e016101036c616e016c01016b01760101016901730d636f6e6e6563742d70726f787902",
                "017401750161ac0201036c616e016c0801016b01760a020101000164027b7d010163014301014e016f016904",
                "687474700101750347455401620101680101760101740a000200901c00"
            ),
        ),
        (removal(Removal::Node), "01ac0207016e00"),
        (removal(Removal::Service("i".into())), "01ac0207016e010169"),
        (removal(Removal::Check("c".into())), "01ac0207016e020163"),
        (
            Action::RegisterMany(vec![
                CatalogChange::Register(Box::new(Registration {
                    node: NodeDef {
                        name: "n".into(),
                        ..NodeDef::default()
                    },
                    skip_node_update: true,
                    ..Registration::default()
                })),
                CatalogChange::Deregister(Deregistration {
                    node: "n".into(),
                    what: Removal::Node,
                }),
            ]),
            "01ac0208020000016e00000001000001016e00",
        ),
        (
            txn(KvTxnOp::CheckFence(bytes("k"), 300)),
            "01ac020101000d016bac02",
        ),
        (
            Action::Txn(vec![
                TxnOp::Node(TxnVerb::Delete("n".into())),
                TxnOp::NodeById {
                    id: NodeId(300),
                    name: "n".into(),
                },
                TxnOp::Service {
                    node: "n".into(),
                    verb: TxnVerb::Get("i".into()),
                },
                TxnOp::Check {
                    node: "n".into(),
                    verb: TxnVerb::DeleteCas("c".into(), Index(300)),
                },
                TxnOp::Node(TxnVerb::Set(Box::default())),
                TxnOp::Node(TxnVerb::Cas(Box::default(), Index(300))),
            ]),
            "01ac0201060103016e02ac02016e03016e00016904016e040163ac020101000000000001020000000000ac02",
        ),
        (
            Action::CreateSession(Box::new(session_def())),
            "01ac0209ac020173016ed704010a00033130730101016301010177017a010164",
        ),
        (Action::EndSessions(vec![SessionId(300)]), "01ac020a01ac02"),
        (
            Action::EndLockDelays(vec![(bytes("k"), Index(300))]),
            "01ac020b01016bac02",
        ),
        (
            Action::Once(Box::new(
                Once::new(IdempotencyKey(300), &Action::Kv(KvWrite::Delete(bytes("k")))).unwrap(),
            )),
            "01ac020cac02f5b4d1ab8ceb80fea101040004016b",
        ),
        (Action::ForgetReceipts(Index(300)), "01ac020dac02"),
        (
            run_out(RunOut::Sessions(vec![SessionId(300)])),
            "01ac0212090001ac02",
        ),
        (
            run_out(RunOut::LockDelays(vec![(bytes("k"), Index(300))])),
            "01ac0212090101016bac02",
        ),
        (run_out(RunOut::Receipts(Index(300))), "01ac02120902ac02"),
    ]
}

/// With something in every field.
fn session_def() -> SessionDef {
    SessionDef {
        id: SessionId(300),
        name: "s".into(),
        node: "n".into(),
        lock_delay_nanos: -300,
        behavior: Behavior::Delete,
        ttl: Duration::from_secs(10),
        ttl_text: "10s".into(),
        node_checks: Some(vec!["c".into()]),
        service_checks: Some(vec![ServiceCheck {
            id: "w".into(),
            namespace: "z".into(),
        }]),
        checks: vec!["d".into()],
    }
}

fn run_out(what: RunOut) -> Action {
    let era = Index(9);
    Action::RunOut { era, what }
}

fn removal(what: Removal) -> Action {
    Action::Deregister(Deregistration {
        node: "n".into(),
        what,
    })
}

/// With something in every field.
pub(super) fn registration() -> Registration {
    let lan = ServiceAddress {
        address: "l".into(),
        port: 8,
    };
    Registration {
        node: NodeDef {
            id: Some(NodeId(300)),
            name: "n".into(),
            address: "a".into(),
            tagged_addresses: [("lan", "l".into())].into_iter().collect(),
            meta: [("k", "v".into())].into_iter().collect(),
        },
        skip_node_update: true,
        service: Some(ServiceDef {
            id: "i".into(),
            name: "s".into(),
            kind: ServiceDef::CONNECT_PROXY.into(),
            tags: ["t".into(), "u".into()].into(),
            address: "a".into(),
            port: 300,
            tagged_addresses: [("lan", lan)].into_iter().collect(),
            meta: [("k", "v".into())].into_iter().collect(),
            weights: Weights {
                passing: 10,
                warning: 2,
            },
            enable_tag_override: true,
            connect: Some(Arc::new(ConnectDef {
                native: false,
                destination: "d".into(),
                proxy: "{}".into(),
            })),
        }),
        checks: vec![CheckDef {
            id: "c".into(),
            name: "C".into(),
            status: Status::Warning,
            notes: "N".into(),
            output: "o".into(),
            service_id: "i".into(),
            kind: "http".into(),
            definition: Some(Arc::new(CheckDefinition {
                http: "u".into(),
                method: "GET".into(),
                body: "b".into(),
                header: [("h", ["v".into()].into())].into_iter().collect(),
                tls_skip_verify: true,
                tcp: "t".into(),
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(2),
                deregister_after: Duration::from_hours(1),
            })),
        }],
    }
}

#[test]
fn the_format_stands_still() {
    for (action, expected) in golden() {
        let command = Command {
            stamp: UnixMillis(300),
            action,
        };
        assert_eq!(hex(&command.encode()), expected, "{command:?}");
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
}

#[test]
fn what_is_not_a_command_is_refused() {
    let malformed = |bytes: &[u8]| matches!(Command::decode(bytes), Err(DecodeError::Malformed { len, .. }) if len == bytes.len());
    assert_eq!(Command::decode(b""), Err(DecodeError::Empty));
    assert_eq!(
        Command::decode(b"\x02anything"),
        Err(DecodeError::NewerFormat { found: 2 })
    );
    assert!(malformed(b"\x00anything"));
    for (action, _) in golden() {
        let encoded = command(action).encode();
        assert!(malformed(&[&encoded[..], b"\x00"].concat()));
        for cut in 1..encoded.len() {
            assert!(malformed(&encoded[..cut]));
        }
    }
    let unknown = [&[1, 0, 99][..], &[0; 20]].concat();
    assert!(malformed(&unknown));
}

#[test]
fn a_claimed_length_is_not_believed() {
    // A transaction of 2^63 operations, and a key of as many bytes, in a dozen bytes.
    let huge = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    for start in [&[1_u8, 0, 1][..], &[1, 0, 0, 4], &[1, 0, 1, 1, 0, 4]] {
        let bytes = [start, &huge].concat();
        assert!(matches!(
            Command::decode(&bytes),
            Err(DecodeError::Malformed { .. })
        ));
    }
}

#[test]
fn a_transaction_in_the_log_has_a_bound() {
    let of = |count: usize| {
        let ops = vec![TxnOp::Kv(KvTxnOp::Delete(bytes("k"))); count];
        command(Action::Txn(ops)).encode()
    };
    assert!(Command::decode(&of(MAX_TXN_OPS)).is_ok());
    let error = Command::decode(&of(MAX_TXN_OPS + 1)).unwrap_err();
    assert!(matches!(error, DecodeError::Malformed { .. }));
}
