//! The indexes of answers, and the tombstones behind them.

use super::*;
use crate::ApplyError;

#[test]
fn an_empty_store_has_index_zero() {
    let bench = Bench::new();
    assert_eq!(
        (bench.index_of_key("a"), bench.index_of("a"), bench.index_of("")),
        (0, 0, 0)
    );
}

#[test]
fn each_query_has_the_index_of_what_it_reads() {
    let mut bench = Bench::new();
    bench.set("a/1", "");
    bench.set("a/2", "");
    bench.set("b", "");
    assert_eq!(bench.index_of_key("a/1"), 1);
    assert_eq!(bench.index_of_key("none"), 3);
    assert_eq!(bench.index_of("a/"), 2);
    assert_eq!(bench.index_of("none"), 3);
    assert_eq!(bench.index_of(""), 3);
}

#[test]
fn a_deletion_moves_the_prefix_and_keeps_it_there() {
    let mut bench = Bench::new();
    bench.set("a/1", "");
    bench.set("a/2", "");
    bench.set("e/1", "");
    bench.delete("a/2");
    bench.delete_tree("e/");
    bench.set("z", "");
    assert_eq!(bench.index_of("a/"), 4);
    assert_eq!(bench.index_of("a"), 4);
    assert_eq!(bench.index_of("a/1"), 1);
    assert_eq!(bench.index_of("a/2"), 4);
    assert_eq!(bench.index_of("e/"), 5);
    assert_eq!(bench.index_of(""), 6);
    assert_eq!(bench.index_of_key("a/2"), 6);
}

#[test]
fn reaping_forgets_tombstones_up_to_an_index() {
    let mut bench = Bench::new();
    bench.set("a/1", "");
    bench.set("a/2", "");
    bench.set("e/1", "");
    bench.delete("a/2");
    bench.delete("e/1");
    bench.set("z", "");
    assert!(!bench.state.has_tombstones_through(Index(3)));
    assert!(bench.state.has_tombstones_through(Index(4)));
    assert_eq!(bench.apply(Action::ReapTombstones(Index(4))), DONE);
    assert!(!bench.state.has_tombstones_through(Index(4)));
    assert!(bench.state.has_tombstones_through(Index(5)));
    assert_eq!(bench.index_of("a/"), 1);
    assert_eq!(bench.index_of("e/"), 5);
    assert!(
        bench.changes.touched.is_empty(),
        "no entry changed, so nobody is woken"
    );
    assert_eq!(bench.changes.rows.len(), 1);
    bench.apply(Action::ReapTombstones(Index(5)));
    assert_eq!(bench.index_of("e/"), 6);
    assert_eq!(bench.index_of(""), 6);
    bench.apply(Action::ReapTombstones(Index(5)));
    assert!(bench.changes.is_empty());
}

#[test]
fn an_emptied_prefix_does_not_fall_back_to_an_older_tombstone() {
    let mut bench = Bench::new();
    bench.set("t/a/1", "");
    bench.set("t/a/2", "");
    bench.delete("t/a/1");
    bench.set("t/a/2", "2");
    assert_eq!(bench.index_of("t/a/"), 4);
    bench.delete_tree("t/");
    assert_eq!(bench.index_of("t/"), 5);
    assert_eq!(bench.index_of("t/a/"), 5);
    bench.set("z", "");
    assert_eq!(bench.index_of("t/"), 5);
    assert_eq!(bench.index_of("t/a/"), 6);
}

#[test]
fn wiping_everything_needs_no_tombstone() {
    let mut bench = Bench::new();
    bench.set("a/1", "");
    bench.set("a/2", "");
    bench.delete("a/1");
    bench.delete_tree("");
    for prefix in ["", "a/", "a/1", "none"] {
        assert_eq!(bench.index_of(prefix), 4);
    }
    assert_eq!(bench.state.kv.graveyard.len(), 0);
}

#[test]
fn a_command_is_never_applied_twice() {
    let mut bench = Bench::new();
    bench.set("a", "1");
    bench.set("a", "2");
    let (before, digest) = (bench.state.clone(), bench.state.digest());
    let mut changes = Changes::default();
    for index in [0, 1, 2] {
        let error = bench.state.apply(
            Index(index),
            &command(Action::Kv(KvWrite::Set(pair("a", "3")))),
            &mut changes,
        );
        assert_eq!(
            error,
            Err(ApplyError::NotNewer {
                index: Index(index),
                applied: Index(2)
            })
        );
        assert_eq!(
            bench.state.advance(Index(index)),
            Err(ApplyError::NotNewer {
                index: Index(index),
                applied: Index(2)
            })
        );
    }
    assert!(changes.is_empty());
    assert_eq!(
        (bench.state.index(), bench.state.digest()),
        (before.index(), digest)
    );
    // Gaps are fine: not every entry of the log is a command.
    bench.state.advance(Index(7)).unwrap();
    bench.set("a", "3");
    assert_eq!(bench.index_of_key("a"), 8);
}

#[test]
fn clones_stay_as_they_are_and_print_no_values() {
    fn shared<T: Send + Sync + Clone + std::fmt::Debug>(value: &T) -> T {
        value.clone()
    }
    let mut bench = Bench::new();
    bench.set("a", "secret");
    let clone = shared(&bench.state);
    let digest = clone.digest();
    bench.set("a", "2");
    bench.delete_tree("");
    assert_eq!(clone.digest(), digest);
    assert_ne!(bench.state.digest(), digest);
    assert_eq!(
        format!("{clone:?}"),
        "State { applied: 1, kv_index: 1, keys: 1, tombstones: 0, coordinates: 0, nodes: 0, sessions: 0, prepared_queries: 0, .. }"
    );
}
