//! The state store's clauses.

use bytes::Bytes;
use lictor_catalog::{Row, Table};
use lictor_raft::LogId;

use super::{Bed, all_rows, row, snapshot_at};
use crate::store::{Breach, StateBatch, StateMark, StateStore, StoreError};

/// A new store is empty and stands at the beginning.
pub fn an_empty_state_has_no_rows<B: Bed>(bed: &mut B) {
    let (_log, mut state) = bed.open().unwrap();
    assert_eq!(all_rows(&mut state), []);
    assert_eq!(state.mark(), Ok(StateMark::default()));
}

/// By table, then by key, bytewise; any bytes are a key, and none are.
pub fn rows_come_back_in_order<B: Bed>(bed: &mut B) {
    let (log, mut state) = bed.open().unwrap();
    let ordered = [
        row(Table::Kv, "", "empty key"),
        row(Table::Kv, vec![0], ""),
        row(Table::Kv, vec![0, 0], "2"),
        row(Table::Kv, "a", "3"),
        row(Table::Kv, "a/b", "4"),
        row(Table::Kv, vec![0xff, 0xff], "5"),
        row(Table::KvTombstones, "a", "6"),
        row(Table::Meta, "a", "7"),
    ];
    let mut shuffled = ordered.to_vec();
    shuffled.reverse();
    shuffled.swap(1, 5);
    write(&mut state, 1, &shuffled).unwrap();
    assert_eq!(all_rows(&mut state), ordered);
    drop((log, state));
    let (_log, mut state) = bed.open().unwrap();
    assert_eq!(all_rows(&mut state), ordered);
}

/// A key may be longer than what a storage engine likes, and share all of its beginning with others.
pub fn long_keys_are_rows_like_others<B: Bed>(bed: &mut B) {
    let (_log, mut state) = bed.open().unwrap();
    let key = |length: usize, last: u8| {
        let mut key = vec![b'k'; length];
        key.push(last);
        Bytes::from(key)
    };
    let mut rows: Vec<_> = [10, 400, 478, 479, 480, 481, 482, 511, 512, 600, 5000]
        .iter()
        .flat_map(|&length| [b'a', b'm', b'z'].map(|last| row(Table::Kv, key(length, last), "first")))
        .collect();
    write(&mut state, 1, &rows).unwrap();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(all_rows(&mut state), rows);

    let changed: Vec<_> = rows
        .iter()
        .map(|row| Row {
            value: Some("second".into()),
            ..row.clone()
        })
        .collect();
    write(&mut state, 2, &changed).unwrap();
    assert_eq!(all_rows(&mut state), changed);

    let (removed, kept): (Vec<_>, Vec<_>) = changed.into_iter().partition(|row| row.key.ends_with(b"m"));
    let removed: Vec<_> = removed
        .into_iter()
        .map(|row| Row { value: None, ..row })
        .collect();
    write(&mut state, 3, &removed).unwrap();
    assert_eq!(all_rows(&mut state), kept);
}

/// Within a batch and from batch to batch; a removed row is gone, and removing what is not there is nothing.
pub fn the_last_row_of_a_key_wins<B: Bed>(bed: &mut B) {
    let (_log, mut state) = bed.open().unwrap();
    let gone = |key: &'static str| Row {
        table: Table::Kv,
        key: key.into(),
        value: None,
    };
    let rows = [
        row(Table::Kv, "a", "1"),
        gone("b"),
        row(Table::Kv, "b", "1"),
        row(Table::Kv, "c", "1"),
        gone("c"),
    ];
    write(&mut state, 1, &rows).unwrap();
    assert_eq!(
        all_rows(&mut state),
        [row(Table::Kv, "a", "1"), row(Table::Kv, "b", "1")]
    );
    write(
        &mut state,
        2,
        &[
            row(Table::Kv, "a", "2"),
            row(Table::Kv, "a", "3"),
            gone("b"),
            gone("never"),
        ],
    )
    .unwrap();
    assert_eq!(all_rows(&mut state), [row(Table::Kv, "a", "3")]);
}

/// Rows and mark, together.
pub fn state_survives_a_power_cut<B: Bed>(bed: &mut B) {
    for index in 1..=3 {
        let (log, mut state) = bed.open().unwrap();
        assert_eq!(state.mark().unwrap().applied.index.0, index - 1);
        write(&mut state, index, &[row(Table::Meta, vec![index as u8], "x")]).unwrap();
        drop((log, state));
        bed.cut_power();
    }
    let (_log, mut state) = bed.open().unwrap();
    assert_eq!(
        all_rows(&mut state),
        [1, 2, 3].map(|key| row(Table::Meta, vec![key], "x"))
    );
}

/// Going back is refused; staying is not.
pub fn the_state_never_goes_back<B: Bed>(bed: &mut B) {
    let (_log, mut state) = bed.open().unwrap();
    write(&mut state, 5, &[row(Table::Kv, "a", "5")]).unwrap();
    write(&mut state, 5, &[]).unwrap();
    let breach = Breach::StateGoesBack {
        from: LogId::new(1, 5),
        to: LogId::new(1, 4),
    };
    match write(&mut state, 4, &[row(Table::Kv, "a", "4")]) {
        Err(StoreError::Contract { breach: found, .. }) => assert_eq!(found, breach),
        other => panic!("going back was answered by {other:?}"),
    }
    assert_eq!(all_rows(&mut state), [row(Table::Kv, "a", "5")]);
    assert!(
        matches!(write(&mut state, 6, &[]), Err(StoreError::Io { .. })),
        "failure is final"
    );
}

/// Nothing of the old rows is left, also when the new ones come in many parts or are none.
pub fn replace_leaves_only_the_new_rows<B: Bed>(bed: &mut B) {
    let (log, mut state) = bed.open().unwrap();
    write(
        &mut state,
        5,
        &[row(Table::Kv, "old", "1"), row(Table::Meta, "old", "1")],
    )
    .unwrap();
    let part = |part: u64| (part < 100).then(|| vec![row(Table::Kv, vec![part as u8], "new")]);
    state
        .replace(&snapshot_at(2, 9), &mut |number| Ok(part(number)))
        .unwrap();
    drop((log, state));
    bed.cut_power();
    let (_log, mut state) = bed.open().unwrap();
    let expected: Vec<_> = (0..100).filter_map(part).flatten().collect();
    assert_eq!(all_rows(&mut state), expected);
    assert_eq!(state.mark().unwrap().applied, LogId::new(2, 9));
    state.replace(&snapshot_at(2, 10), &mut |_| Ok(None)).unwrap();
    assert_eq!(all_rows(&mut state), []);
    assert_eq!(state.mark().unwrap().applied, LogId::new(2, 10));
}

/// The source's error comes back, the old rows stay, and the store goes on.
pub fn a_failed_replacement_leaves_the_old_rows<B: Bed>(bed: &mut B) {
    let (_log, mut state) = bed.open().unwrap();
    let old = [row(Table::Kv, "old", "1")];
    write(&mut state, 5, &old).unwrap();
    let error = StoreError::Damaged {
        path: "a chunk".into(),
        detail: "torn".into(),
    };
    let result = state.replace(&snapshot_at(2, 9), &mut |number| {
        if number < 3 {
            Ok(Some(vec![row(Table::Kv, "new", "1")]))
        } else {
            Err(error.clone())
        }
    });
    assert_eq!(result, Err(error));
    assert_eq!(all_rows(&mut state), old);
    assert_eq!(state.mark().unwrap().applied, LogId::new(1, 5));
    write(&mut state, 6, &[]).unwrap();
}

/// The callback's error comes back, and the store goes on.
pub fn an_error_of_the_callback_ends_a_load<B: Bed>(bed: &mut B) {
    let (_log, mut state) = bed.open().unwrap();
    write(
        &mut state,
        1,
        &[row(Table::Kv, "a", "1"), row(Table::Kv, "b", "1")],
    )
    .unwrap();
    let error = StoreError::Io {
        path: "the caller".into(),
        detail: "enough".into(),
    };
    let mut seen = 0;
    let result = state.load(&mut |_| {
        seen += 1;
        Err(error.clone())
    });
    assert_eq!((result, seen), (Err(error), 1));
    write(&mut state, 2, &[]).unwrap();
}

fn write(state: &mut impl StateStore, index: u64, rows: &[Row]) -> Result<(), StoreError> {
    state.write(&StateBatch {
        applied: LogId::new(1, index),
        rows: rows.to_vec(),
    })
}
