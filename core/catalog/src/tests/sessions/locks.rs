//! The locks of sessions: what becomes of them at the end, delays, fences.

use super::*;

#[test]
fn what_a_session_locked_is_free_or_gone_when_it_ends() {
    let mut bench = bench();
    let stays = made(&mut bench, def(1));
    let goes = made(
        &mut bench,
        SessionDef {
            behavior: Behavior::Delete,
            ..def(2)
        },
    );
    let flagged = KvPair {
        flags: 7,
        ..pair("l/1", "v")
    };
    assert_eq!(bench.kv(KvWrite::Lock(flagged, session(&stays))), DONE);
    for (key, by) in [("l/2", &stays), ("l/3", &goes), ("l/4", &stays), ("l/5", &goes)] {
        assert_eq!(bench.lock(key, "v", by), DONE);
    }
    assert_eq!(bench.unlock("l/4", "v", &stays), DONE);
    bench.delete("l/5");
    bench.set("l/5", "plain");
    let before = bench.lock_of("l/4");
    end(&mut bench, &[1, 2]);
    let index = bench.state.index().0;
    assert_eq!(bench.lock_of("l/1"), (None, 1, index));
    assert_eq!(
        (
            &bench.get("l/1").unwrap().value[..],
            bench.get("l/1").unwrap().flags
        ),
        (&b"v"[..], 7)
    );
    assert_eq!(bench.lock_of("l/2"), (None, 1, index));
    assert_eq!(bench.get("l/3"), None);
    assert_eq!(bench.index_of("l/3"), index, "it left a tombstone");
    // These were no longer theirs.
    assert_eq!(bench.lock_of("l/4"), before);
    assert_eq!(&bench.get("l/5").unwrap().value[..], b"plain");
    // No lock delay: others may have them at once.
    let other = made(&mut bench, def(3));
    assert_eq!(bench.lock("l/1", "v", &other), DONE);
    assert_eq!(bench.lock_of("l/1").1, 2);
    assert_eq!(
        bench.lock("l/2", "v", &stays),
        refused(&format!("invalid session \"{stays}\""))
    );
}

#[test]
fn a_lock_is_found_by_its_session_in_any_spelling() {
    let mut bench = bench();
    let id = 0xabcd_ef01_u128 << 96;
    let upper = made(&mut bench, def(id)).to_uppercase();
    assert_eq!(bench.lock("l", "v", &upper), DONE);
    end(&mut bench, &[id]);
    assert_eq!(bench.lock_of("l").0, None);
}

#[test]
fn a_lock_delay_keeps_a_key_from_all_until_the_leader_says_so() {
    let mut bench = bench();
    let delayed = |id| SessionDef {
        lock_delay_nanos: seconds(15),
        ..def(id)
    };
    let first = made(&mut bench, delayed(1));
    let second = made(&mut bench, def(2));
    for key in ["a", "b"] {
        assert_eq!(bench.lock(key, "v", &first), DONE);
    }
    // Who gives a lock back leaves no delay.
    assert_eq!(bench.unlock("b", "v", &first), DONE);
    end(&mut bench, &[1]);
    let since = bench.state.index();
    let delay = LockDelay {
        since,
        delay: Duration::from_secs(15),
    };
    assert_eq!(
        bench.state.lock_delays().collect::<Vec<_>>(),
        [(&bytes("a"), delay)]
    );
    assert_eq!(bench.lock("b", "w", &second), DONE);
    assert_eq!(bench.lock("a", "w", &second), NOT_DONE);
    assert!(bench.changes.is_empty());
    // The delay comes first, whatever the session.
    assert_eq!(bench.lock("a", "w", "x"), NOT_DONE);
    let ops = vec![
        KvTxnOp::Lock(pair("a", "w"), session(&second)),
        KvTxnOp::Get(bytes("nope")),
        KvTxnOp::Set(pair("", "")),
    ];
    let Outcome::Txn(Err(errors)) = bench.txn(ops) else {
        panic!("it was locked")
    };
    let errors: Vec<_> = errors.iter().map(|error| (error.op, &*error.what)).collect();
    assert_eq!(
        errors,
        [
            (0, "failed to lock key \"a\" due to lock delay"),
            (2, "Must provide key"),
        ]
    );
    // All else is as ever.
    bench.set("a", "plain");
    bench.delete("a");
    assert_eq!(bench.lock("a", "w", &second), NOT_DONE);
    // An end of another delay than this one is none.
    let ended = |bench: &mut Bench, since| {
        assert_eq!(
            bench.apply(Action::EndLockDelays(vec![(bytes("a"), since)])),
            DONE
        );
    };
    ended(&mut bench, since.next());
    assert!(bench.changes.is_empty());
    assert_eq!(bench.state.lock_delay(&bytes("a")), Some(delay));
    ended(&mut bench, since);
    assert_eq!(bench.state.lock_delay(&bytes("a")), None);
    assert_eq!(bench.lock("a", "w", &second), DONE);
}

#[test]
fn a_deleted_key_is_kept_from_others_too() {
    let mut bench = bench();
    let gone = made(
        &mut bench,
        SessionDef {
            behavior: Behavior::Delete,
            lock_delay_nanos: seconds(100),
            ..def(1)
        },
    );
    let other = made(&mut bench, def(2));
    bench.lock("a", "v", &gone);
    remove(&mut bench, "nope", Removal::Node);
    end(&mut bench, &[1]);
    assert_eq!(bench.get("a"), None);
    assert_eq!(bench.lock("a", "v", &other), NOT_DONE);
    let delay = bench.state.lock_delay(&bytes("a")).unwrap();
    assert_eq!(delay.delay, MAX_LOCK_DELAY);
}

#[test]
fn a_transaction_sees_sessions_end_within_it() {
    let mut bench = bench();
    let held = made(
        &mut bench,
        SessionDef {
            node_checks: Some(vec!["c".into()]),
            ..def(1)
        },
    );
    bench.lock("a", "v", &held);
    let critical = TxnOp::Check {
        node: "n".into(),
        verb: crate::TxnVerb::Set(Box::new(check("c", "", Status::Critical))),
    };
    let lock = TxnOp::Kv(KvTxnOp::Lock(pair("b", "v"), session(&held)));
    let Outcome::Txn(Err(errors)) = bench.apply(Action::Txn(vec![critical.clone(), lock])) else {
        panic!("a dead session has locked something")
    };
    assert_eq!(errors[0].what, format!("invalid session \"{held}\""));
    assert_eq!(living(&bench), [1], "nothing happened");
    let free = TxnOp::Kv(KvTxnOp::CheckSession(bytes("a"), session("")));
    let Outcome::Txn(Ok(_)) = bench.apply(Action::Txn(vec![critical, free])) else {
        panic!("the lock is not free")
    };
    assert!(living(&bench).is_empty());
}

#[test]
fn fences_rise_over_all_keys_releases_and_deletions() {
    let mut bench = bench();
    let (one, two) = (made(&mut bench, def(1)), made(&mut bench, def(2)));
    let fence = |bench: &Bench, key: &str| bench.get(key).unwrap().fence();
    let last = Cell::new(0);
    let taken = |bench: &mut Bench, key: &str, by: &str| {
        assert_eq!(bench.lock(key, "v", by), DONE);
        let now = fence(bench, key);
        assert!(now > last.get(), "{now} after {}", last.get());
        assert!(now >= bench.state.index().0);
        last.set(now);
    };
    taken(&mut bench, "a", &one);
    // Its holder keeps it, whatever is written.
    let mine = fence(&bench, "a");
    bench.lock("a", "w", &one);
    bench.set("a", "x");
    assert_eq!(fence(&bench, "a"), mine);
    bench.unlock("a", "v", &one);
    assert_eq!(fence(&bench, "a"), 0);
    taken(&mut bench, "a", &two);
    bench.delete("a");
    taken(&mut bench, "a", &one);
    taken(&mut bench, "b", &one);
    end(&mut bench, &[1]);
    assert_eq!(fence(&bench, "a"), 0);
    taken(&mut bench, "a", &two);
    // Twice in one command.
    let ops = vec![
        KvTxnOp::Delete(bytes("a")),
        KvTxnOp::Lock(pair("a", "v"), session(&two)),
        KvTxnOp::Unlock(pair("a", "v"), session(&two)),
        KvTxnOp::Lock(pair("a", "v"), session(&two)),
    ];
    let Outcome::Txn(Ok(results)) = bench.txn(ops) else {
        panic!("not locked")
    };
    let fences: Vec<u64> = results
        .iter()
        .map(|result| {
            let crate::TxnResult::Kv { entry, .. } = result else {
                panic!("not an entry: {result:?}")
            };
            entry.fence()
        })
        .collect();
    assert!(
        fences[0] > last.get() && fences[1] == 0 && fences[2] > fences[0],
        "{fences:?}"
    );
    last.set(fences[2]);
    bench.unlock("a", "v", &two);
    taken(&mut bench, "a", &two);
}

#[test]
fn a_write_with_an_old_fence_is_refused() {
    let mut bench = bench();
    let (one, two) = (made(&mut bench, def(1)), made(&mut bench, def(2)));
    bench.lock("l", "v", &one);
    let old = bench.get("l").unwrap().fence();
    let guarded = |bench: &mut Bench, fence| {
        let ops = vec![
            KvTxnOp::CheckFence(bytes("l"), fence),
            KvTxnOp::Set(pair("data", "1")),
        ];
        let Outcome::Txn(answer) = bench.txn(ops) else {
            panic!("not the answer to a transaction")
        };
        answer.map(drop).map_err(|errors| errors[0].what.clone())
    };
    let stale = |found: u64, given: u64| {
        Err(format!(
            "failed fence check for key \"l\", current fence {found} != {given}"
        ))
    };
    assert_eq!(guarded(&mut bench, old), Ok(()));
    assert_eq!(guarded(&mut bench, old + 1), stale(old, old + 1));
    end(&mut bench, &[1]);
    // Nobody holds it: whoever thinks so is wrong, also one who never had a fence.
    assert_eq!(guarded(&mut bench, old), stale(0, old));
    assert_eq!(guarded(&mut bench, 0), stale(0, 0));
    bench.lock("l", "v", &two);
    let new = bench.get("l").unwrap().fence();
    assert_eq!(guarded(&mut bench, old), stale(new, old));
    assert_eq!(guarded(&mut bench, new), Ok(()));
    bench.delete("l");
    assert_eq!(
        guarded(&mut bench, new),
        Err("failed to check fence, key \"l\" doesn't exist".to_owned())
    );
}

#[test]
fn many_locks_of_one_session_end_together() {
    let mut bench = bench();
    let held = made(
        &mut bench,
        SessionDef {
            lock_delay_nanos: seconds(1),
            ..def(1)
        },
    );
    for number in 0..500 {
        bench.lock(&format!("k/{number}"), "v", &held);
    }
    bench.delete_tree("k/1");
    end(&mut bench, &[1]);
    let left = bench.keys("k/", "").len();
    assert_eq!(bench.state.lock_delays().count(), left);
    let locked = |row: &&Row| row.table == Table::LockDelays;
    assert_eq!(bench.changes.rows.iter().filter(locked).count(), left);
    bench.delete_tree("");
    assert_eq!(bench.state.kv.locks.held_by(SessionId(1)), Vec::<Key>::new());
}
