//! Asks and answers as bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use lictor_catalog::{Execute, Found, KvEntry, KvTxnOp, MAX_TXN_OPS, Outcome, Target, TxnOp, TxnResult};
use lictor_http::{Failure, ReadOptions, Reading, ServerRef, WriteOptions};
use lictor_machine::Index;

use super::{execute, get, set};
use crate::network::Purpose;
use crate::rpc::wire::{self, DecodeError, Question};

#[test]
fn asks_and_answers_survive_the_way() {
    let ops = vec![TxnOp::Kv(KvTxnOp::GetTree("a".into())); 64];
    for question in [
        Question::Ping,
        get("k"),
        set(),
        Question::ReadTxn {
            ops,
            options: ReadOptions::default(),
        },
        Question::Leader,
        Question::RemoveRaftServer {
            server: ServerRef::Address("a:1".into()),
            options: WriteOptions::default(),
        },
        Question::ExecuteQuery {
            execute: Box::new(execute("geo")),
            options: ReadOptions::default(),
        },
        Question::ExecuteQuery {
            execute: Box::new(Execute {
                target: Target::Ready(Arc::default()),
                ..execute("")
            }),
            options: ReadOptions::default(),
        },
    ] {
        let bytes = wire::encode_ask(Vec::new(), "dc1", &question);
        let ask = wire::decode_ask(&bytes).unwrap();
        assert_eq!((ask.datacenter.as_str(), &ask.question), ("dc1", &question));
        assert!(question.bytes() + 64 >= bytes.len(), "{question:?}");
        for length in 0..bytes.len() {
            assert!(wire::decode_ask(&bytes[..length]).is_err());
        }
        let mut more = bytes;
        more.push(0);
        assert_eq!(wire::decode_ask(&more), Err(DecodeError::Trailing(1)));
        more[0] = 9;
        assert_eq!(wire::decode_ask(&more), Err(DecodeError::Version(9)));
    }
    assert_eq!(wire::decode_ask(&[]), Err(DecodeError::Empty));
    let failed = wire::encode_answer(&Err::<Outcome, _>(Failure::NoLeader), 0);
    assert_eq!(wire::failure_in(&failed), Some(Failure::NoLeader));
    assert_eq!(
        wire::decode_answer::<Outcome>(&failed),
        Ok(Err(Failure::NoLeader))
    );
    let done = wire::encode_answer(&Ok(Outcome::Done(true)), 0);
    assert_eq!(wire::failure_in(&done), None);
    assert_eq!(wire::decode_answer(&done), Ok(Ok(Outcome::Done(true))));
}

/// The bytes of an ask are fixed: agents of different builds exchange them.
#[test]
fn an_ask_has_these_bytes() {
    let ask = wire::encode_ask(Purpose::Agent.begin(), "dc1", &get("k"));
    assert_eq!(ask, b"\x02\x01\x03dc1\x01\x00\x01k\x00\x00\x00\x00\x00\x00");
    let ping = wire::encode_ask(Purpose::Agent.begin(), "", &Question::Ping);
    assert_eq!(ping, b"\x02\x01\x00\x00");
    assert_eq!(wire::encode_answer(&Ok(()), 0), b"\x01\x00");
}

/// A number of operations that is a lie must not cost memory.
#[test]
fn a_transaction_of_too_many_operations_is_refused() {
    let ops = vec![TxnOp::Kv(KvTxnOp::Get("k".into())); MAX_TXN_OPS + 1];
    let options = ReadOptions::default();
    let bytes = wire::encode_ask(Vec::new(), "dc1", &Question::ReadTxn { ops, options });
    assert!(matches!(wire::decode_ask(&bytes), Err(DecodeError::Malformed(_))));
}

#[test]
fn no_bytes_make_the_decoders_panic() {
    let mut rng = lictor_machine::Rng::new(11);
    let samples: BTreeMap<usize, Vec<u8>> = [get("k"), set(), Question::Peers]
        .iter()
        .map(|question| wire::encode_ask(Vec::new(), "dc1", question))
        .enumerate()
        .collect();
    for _ in 0..20_000 {
        let mut bytes = samples[&(rng.below(3) as usize)].clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next_u64() as u8;
        }
        let _ = wire::decode_ask(&bytes);
        let _ = wire::decode_answer::<Reading<Found>>(&bytes);
        let _ = wire::failure_in(&bytes);
    }
}

/// Room is asked for by this before a long answer is encoded.
#[test]
fn the_outcome_of_a_transaction_is_as_long_as_is_said() {
    let entry = KvEntry {
        key: "key".into(),
        value: vec![7; 10_000].into(),
        flags: 0,
        holder: None,
        lock_index: 0,
        create_index: Index(1),
        modify_index: Index(1),
    };
    let result = TxnResult::Kv {
        entry: Arc::new(entry),
        value: true,
    };
    let outcome: Result<Outcome, Failure> = Ok(Outcome::Txn(Ok(vec![result; 5])));
    let said = wire::outcome_bytes(&outcome);
    let long = wire::encode_answer(&outcome, said).len();
    assert!(
        (50_000..=said).contains(&long) && said < 51_000,
        "{long} of {said}"
    );
    assert_eq!(wire::outcome_bytes(&Ok(Outcome::Done(true))), 0);
}
