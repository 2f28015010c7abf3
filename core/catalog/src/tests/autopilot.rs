//! The settings of autopilot.

use std::time::Duration;

use super::*;
use crate::{Autopilot, AutopilotConfig, Interest, MAX_AUTOPILOT_TAG_BYTES, Table, Touch, Touched, Watches};

fn config(max_trailing_logs: u64) -> AutopilotConfig {
    AutopilotConfig {
        max_trailing_logs,
        ..AutopilotConfig::default()
    }
}

fn set(config: AutopilotConfig, cas: Option<u64>) -> Action {
    Action::SetAutopilot {
        config,
        cas: cas.map(Index),
    }
}

fn found(bench: &Bench) -> Autopilot {
    match bench.state.query(&Query::Autopilot) {
        (index, Found::Autopilot(found)) => {
            assert_eq!(index, found.modify_index);
            Autopilot::clone(&found)
        }
        (_, other) => panic!("not the settings: {other:?}"),
    }
}

#[test]
fn there_are_defaults_while_nobody_has_set_any() {
    let bench = Bench::new();
    let expected = AutopilotConfig {
        cleanup_dead_servers: true,
        last_contact_threshold: Duration::from_millis(200),
        max_trailing_logs: 250,
        min_quorum: 0,
        server_stabilization_time: Duration::from_secs(10),
        redundancy_zone_tag: String::new(),
        disable_upgrade_migration: false,
        upgrade_version_tag: String::new(),
    };
    let defaults = Autopilot {
        config: expected,
        create_index: Index::ZERO,
        modify_index: Index::ZERO,
    };
    assert_eq!(found(&bench), defaults);
}

#[test]
fn they_are_set_as_a_whole_and_keep_their_first_index() {
    let mut bench = Bench::new();
    bench.set("a", "1");
    assert_eq!(bench.apply(set(config(1), None)), DONE);
    assert_eq!(bench.apply(set(config(2), None)), DONE);
    let expected = Autopilot {
        config: config(2),
        create_index: Index(2),
        modify_index: Index(3),
    };
    assert_eq!(found(&bench), expected);
    assert_eq!(bench.changes.touched, Touched::These(vec![Touch::Autopilot]));
    let tables: Vec<_> = bench.changes.rows.iter().map(|row| row.table).collect();
    assert_eq!(tables, [Table::Settings]);
    assert_eq!(
        bench.index_of(""),
        1,
        "the key-value store has nothing to do with it"
    );
}

#[test]
fn what_changes_nothing_touches_nobody() {
    let mut bench = Bench::new();
    bench.apply(set(AutopilotConfig::default(), None));
    assert_eq!(
        found(&bench).modify_index,
        Index(1),
        "to set the defaults is to set something"
    );
    assert_eq!(bench.apply(set(AutopilotConfig::default(), None)), DONE);
    assert!(bench.changes.is_empty());
    assert_eq!(found(&bench).modify_index, Index(1));
}

#[test]
fn a_condition_names_the_modify_index() {
    let mut bench = Bench::new();
    assert_eq!(bench.apply(set(config(1), Some(7))), NOT_DONE);
    assert_eq!(bench.apply(set(config(1), Some(0))), DONE, "nobody has set any");
    assert_eq!(bench.apply(set(config(2), Some(0))), NOT_DONE);
    assert_eq!(bench.apply(set(config(2), Some(1))), NOT_DONE);
    assert_eq!(found(&bench).config, config(1));
    assert_eq!(bench.apply(set(config(2), Some(2))), DONE);
    assert_eq!(found(&bench).config, config(2));
}

#[test]
fn tags_have_a_bound() {
    let mut bench = Bench::new();
    let tagged = |length: usize| AutopilotConfig {
        upgrade_version_tag: "x".repeat(length),
        ..AutopilotConfig::default()
    };
    assert_eq!(bench.apply(set(tagged(MAX_AUTOPILOT_TAG_BYTES), None)), DONE);
    assert_eq!(
        bench.apply(set(tagged(MAX_AUTOPILOT_TAG_BYTES + 1), None)),
        refused("UpgradeVersionTag has 129 bytes, and may have 128")
    );
    assert!(bench.changes.is_empty());
}

#[test]
fn only_those_who_wait_for_them_wake() {
    let mut bench = Bench::new();
    let mut watches = Watches::new(10);
    for (interest, name) in [
        (Interest::Autopilot, "settings"),
        (Interest::KvTable, "table"),
        (Interest::Coordinates, "coordinates"),
    ] {
        watches.subscribe(interest, name).unwrap();
    }
    bench.apply(set(config(1), None));
    let mut woken = Vec::new();
    watches.take_touched(&bench.changes.touched, &mut woken);
    assert_eq!(woken, ["settings"]);
}
