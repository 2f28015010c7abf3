//! What each write does to an entry.

use super::*;

#[test]
fn set_creates_then_updates() {
    let mut bench = Bench::new();
    bench.set("a", "1");
    let flagged = KvPair {
        flags: u64::MAX,
        ..pair("a", "2")
    };
    assert_eq!(bench.kv(KvWrite::Set(flagged)), DONE);
    let entry = bench.get("a").unwrap();
    assert_eq!((entry.create_index, entry.modify_index), (Index(1), Index(2)));
    assert_eq!((&entry.value[..], entry.flags), (&b"2"[..], u64::MAX));
    bench.set("a", "2");
    assert_eq!(bench.get("a").unwrap().flags, 0);
}

#[test]
fn a_write_that_changes_nothing_moves_no_index_and_touches_nothing() {
    let mut bench = Bench::new();
    bench.set("a", "1");
    assert_eq!(bench.lock("l", "1", ALICE), DONE);
    for write in [
        KvWrite::Set(pair("a", "1")),
        KvWrite::Cas(pair("a", "1"), Index(1)),
        KvWrite::Cas(pair("a", "2"), Index(7)),
        KvWrite::Lock(pair("l", "1"), session(ALICE)),
        KvWrite::Lock(pair("l", "9"), session(BOB)),
        KvWrite::Unlock(pair("a", "9"), session(ALICE)),
        KvWrite::Delete(bytes("none")),
        KvWrite::DeleteCas(bytes("none"), Index(3)),
        KvWrite::DeleteCas(bytes("a"), Index(3)),
        KvWrite::DeleteTree(bytes("none")),
    ] {
        let before = bench.state.index();
        bench.kv(write.clone());
        assert_eq!(bench.changes, Changes::default(), "{write:?}");
        assert!(bench.changes.is_empty());
        assert_eq!(
            bench.state.index(),
            before.next(),
            "the entry of the log was used up all the same"
        );
    }
    assert_eq!(bench.index_of(""), 2);
    assert_eq!(bench.get("a").unwrap().modify_index, Index(1));
    // Flags count as a change.
    bench.kv(KvWrite::Set(KvPair {
        flags: 1,
        ..pair("a", "1")
    }));
    assert_eq!(bench.index_of("a"), bench.state.index().0);
}

#[test]
fn cas_compares_the_modify_index() {
    let mut bench = Bench::new();
    let mut cas = |value: &str, index: u64| bench.kv(KvWrite::Cas(pair("a", value), Index(index)));
    assert_eq!(cas("1", 5), NOT_DONE);
    assert_eq!(cas("1", 0), DONE); // index 2
    assert_eq!(cas("2", 0), NOT_DONE);
    assert_eq!(cas("2", 1), NOT_DONE);
    assert_eq!(cas("2", 2), DONE);
    assert_eq!(cas("3", 2), NOT_DONE);
    assert_eq!(&bench.get("a").unwrap().value[..], b"2");
}

#[test]
fn delete_cas_is_true_for_what_does_not_exist() {
    let mut bench = Bench::new();
    bench.set("a", "1");
    let mut delete = |key: &str, index: u64| bench.kv(KvWrite::DeleteCas(bytes(key), Index(index)));
    assert_eq!(delete("none", 0), DONE);
    assert_eq!(delete("none", 3), DONE);
    assert_eq!(delete("a", 0), NOT_DONE);
    assert_eq!(delete("a", 2), NOT_DONE);
    assert_eq!(delete("a", 1), DONE);
    assert_eq!(bench.get("a"), None);
}

#[test]
fn a_deleted_key_is_created_anew() {
    let mut bench = Bench::new();
    bench.set("a", "1");
    bench.delete("a");
    bench.set("a", "1");
    assert_eq!(bench.get("a").unwrap().create_index, Index(3));
}

#[test]
fn delete_tree_takes_a_plain_prefix() {
    let mut bench = Bench::new();
    for key in ["web", "web/", "web/a", "webx", "we", "x"] {
        bench.set(key, "");
    }
    bench.delete_tree("web");
    assert_eq!(bench.keys("", ""), ["we", "x"]);
    bench.delete_tree("");
    assert_eq!(bench.keys("", ""), [""; 0]);
}

#[test]
fn a_key_is_needed_but_for_a_tree() {
    let mut bench = Bench::new();
    for write in [
        KvWrite::Set(pair("", "1")),
        KvWrite::Cas(pair("", "1"), Index(0)),
        KvWrite::Lock(pair("", "1"), session(ALICE)),
        KvWrite::Unlock(pair("", "1"), session(ALICE)),
        KvWrite::Delete(bytes("")),
        KvWrite::DeleteCas(bytes(""), Index(0)),
    ] {
        assert_eq!(bench.kv(write), refused("Must provide key"));
    }
    assert_eq!(bench.kv(KvWrite::DeleteTree(bytes(""))), DONE);
}

#[test]
fn a_lock_is_taken_kept_refused_and_given_back() {
    let mut bench = Bench::new();
    let alice = Some(ALICE.to_owned());
    assert_eq!(bench.lock("l", "1", ALICE), DONE);
    assert_eq!(bench.lock_of("l"), (alice.clone(), 1, 1));
    // Its holder may take it again and again, and changes the value with it.
    assert_eq!(bench.lock("l", "1", ALICE), DONE);
    assert_eq!(bench.lock_of("l"), (alice.clone(), 1, 1));
    assert_eq!(bench.lock("l", "2", ALICE), DONE);
    assert_eq!(bench.lock_of("l"), (alice.clone(), 1, 3));
    // Nobody else may, neither take nor give.
    assert_eq!(bench.lock("l", "3", BOB), NOT_DONE);
    assert_eq!(bench.unlock("l", "3", BOB), NOT_DONE);
    assert_eq!(bench.unlock("none", "3", ALICE), NOT_DONE);
    assert_eq!(bench.lock_of("l"), (alice, 1, 3));
    assert_eq!(&bench.get("l").unwrap().value[..], b"2");
    // Given back, with a new value.
    assert_eq!(bench.unlock("l", "4", ALICE), DONE);
    assert_eq!(bench.lock_of("l"), (None, 1, 7));
    assert_eq!(&bench.get("l").unwrap().value[..], b"4");
    assert_eq!(bench.unlock("l", "4", ALICE), NOT_DONE);
    // The next holder counts on.
    assert_eq!(bench.lock("l", "5", BOB), DONE);
    assert_eq!(bench.lock_of("l"), (Some(BOB.to_owned()), 2, 9));
    assert_eq!(bench.get("l").unwrap().create_index, Index(1));
}

#[test]
fn a_plain_set_or_cas_keeps_the_session_and_resets_the_lock_index() {
    let mut bench = Bench::new();
    let alice = Some(ALICE.to_owned());
    bench.lock("l", "1", ALICE);
    bench.set("l", "1");
    assert_eq!(bench.lock_of("l"), (alice.clone(), 0, 2));
    bench.set("l", "1");
    assert_eq!(bench.lock_of("l"), (alice.clone(), 0, 2));
    assert_eq!(bench.kv(KvWrite::Cas(pair("l", "2"), Index(2))), DONE);
    assert_eq!(bench.lock_of("l"), (alice.clone(), 0, 4));
    assert_eq!(bench.lock("l", "2", ALICE), DONE);
    assert_eq!(bench.lock_of("l"), (alice, 0, 4));
    assert_eq!(bench.unlock("l", "2", ALICE), DONE);
    assert_eq!(bench.lock("l", "2", BOB), DONE);
    assert_eq!(bench.lock_of("l"), (Some(BOB.to_owned()), 1, 7));
    // Also when nobody holds the lock.
    bench.unlock("l", "2", BOB);
    bench.set("l", "2");
    assert_eq!(bench.lock_of("l"), (None, 0, 9));
}

#[test]
fn a_lock_does_not_protect_against_deletion() {
    let mut bench = Bench::new();
    bench.lock("l", "1", ALICE);
    bench.delete("l");
    assert_eq!(bench.get("l"), None);
    assert_eq!(bench.lock("l", "1", BOB), DONE);
    assert_eq!(bench.lock_of("l"), (Some(BOB.to_owned()), 1, 3));
}

#[test]
fn a_lock_needs_a_living_session_and_an_unlock_only_the_holder() {
    let mut bench = Bench::new();
    let malformed = refused("failed session lookup: index error: UUID must be 36 characters");
    assert_eq!(bench.lock("l", "1", ""), refused("missing session"));
    assert_eq!(bench.lock("l", "1", "x"), malformed);
    assert_eq!(
        bench.lock("l", "1", GHOST),
        refused(&format!("invalid session \"{GHOST}\""))
    );
    assert_eq!(bench.get("l"), None);
    assert_eq!(bench.unlock("l", "1", ""), refused("missing session"));
    assert_eq!(bench.unlock("l", "1", "x"), NOT_DONE);
    assert_eq!(bench.unlock("l", "1", GHOST), NOT_DONE);
    // The session is checked before the lock is looked at.
    bench.lock("l", "1", ALICE);
    assert_eq!(bench.lock("l", "1", "x"), malformed);
}

#[test]
fn a_holder_is_known_by_the_spelling_it_locked_with() {
    let mut bench = Bench::new();
    let upper = ALICE.to_uppercase();
    assert_eq!(bench.lock("l", "1", &upper), DONE);
    assert_eq!(bench.lock_of("l").0, Some(upper.clone()));
    assert_eq!(bench.lock("l", "1", ALICE), NOT_DONE);
    assert_eq!(bench.unlock("l", "1", ALICE), NOT_DONE);
    assert_eq!(bench.unlock("l", "1", &upper), DONE);
}

#[test]
fn keys_are_cut_behind_the_first_separator_after_the_prefix() {
    let mut bench = Bench::new();
    for key in ["web/", "web/a", "web/b", "web/c/d", "web/c/e", "webx"] {
        bench.set(key, "");
    }
    assert_eq!(bench.keys("web/", "/"), ["web/", "web/a", "web/b", "web/c/"]);
    assert_eq!(bench.keys("web", "/"), ["web/", "webx"]);
    assert_eq!(bench.keys("web/", "c"), ["web/", "web/a", "web/b", "web/c"]);
    assert_eq!(bench.keys("web/", "c/"), ["web/", "web/a", "web/b", "web/c/"]);
    assert_eq!(bench.keys("", "/"), ["web/", "webx"]);
    assert_eq!(bench.keys("", "/c"), ["web/", "web/a", "web/b", "web/c", "webx"]);
    assert_eq!(
        bench.keys("", "x"),
        ["web/", "web/a", "web/b", "web/c/d", "web/c/e", "webx"]
    );
    assert_eq!(bench.keys("none", "/"), [""; 0]);
}

#[test]
fn entries_are_listed_in_byte_order() {
    let mut state = State::new();
    let keys: [&[u8]; 5] = [b"a", b"a\x00", b"a/", b"a\xff", b"b"];
    for (index, key) in (1..).zip([3, 0, 4, 2, 1].map(|at| keys[at])) {
        let pair = KvPair {
            key: Key::from_static(key),
            value: Bytes::new(),
            flags: 0,
        };
        apply(&mut state, index, Action::Kv(KvWrite::Set(pair)));
    }
    let (_, found) = state.query(&Query::KvList(Key::new()));
    let Found::Entries(entries) = found else {
        panic!("not entries: {found:?}")
    };
    assert_eq!(
        entries.iter().map(|entry| &entry.key[..]).collect::<Vec<_>>(),
        keys
    );
}
