//! Processes that end badly: killed while they write, or out of space on a real file system. Each test runs itself again as a child.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{all_entries, all_rows, append, compact, entries, open_default, row, state_batch};
use lictor_machine::Index;
use lictor_node::store::{LogStore, StateStore, StoreError};
use lictor_raft::{HardState, Sync, Term, WriteBatch};
use lictor_storage_lmdb::Stores;

/// Set in a child: the directory that it works in.
const CHILD: &str = "LICTOR_STORAGE_TEST_CHILD";
const KEPT: u64 = 50;

fn child() -> Option<PathBuf> {
    env::var_os(CHILD).map(PathBuf::from)
}

/// Everything that a store reported as durable is there after its process was killed, and nothing is there by halves.
#[test]
fn what_was_reported_survives_a_kill() {
    if let Some(dir) = child() {
        write_until_killed(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut reported = 0;
    for round in 1..=6 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "what_was_reported_survives_a_kill", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut reports = 0;
        // After the kill the pipe still holds what had been reported before it.
        for line in lines.map_while(Result::ok) {
            if let Some(index) = line.strip_prefix("durable ").and_then(|index| index.parse().ok()) {
                reported = index;
                reports += 1;
            }
            if reports == 20 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(
            reports >= 20 * round,
            "the child ended by itself after {reports} reports"
        );

        let Stores { mut log, mut state } = open_default(dir.path());
        let boot = log.load(usize::MAX).unwrap().raft;
        let last = boot.last_index.0;
        assert!(last >= reported, "{reported} was reported, {last} is there");
        assert_eq!(last % 3, 0, "a batch of three was torn");
        assert_eq!(
            boot.hard_state.term,
            Term(last / 3),
            "hard state and entries of one batch"
        );
        assert_eq!(boot.tail, entries(boot.base.last.index.0 + 1..=last, 300));
        let applied = state.mark().unwrap().applied.index.0;
        assert!(
            applied + 3 >= reported,
            "{reported} was reported, rows go to {applied}"
        );
        let expected = row("applied", applied.to_string());
        assert_eq!(all_rows(&mut state), [expected]);
        assert_eq!(boot.boot, 2 * round as u64);
    }
}

/// Three entries a batch, with a hard state that tells their number; now and then a compaction; rows behind.
fn write_until_killed(dir: &Path) -> ! {
    let Stores { mut log, mut state } = open_default(dir);
    let mut last = log.load(0).unwrap().raft.last_index.0;
    loop {
        let hard_state = HardState {
            term: Term(last / 3 + 1),
            vote: None,
            commit: Index(last),
        };
        let batch = WriteBatch {
            hard_state: Some(hard_state),
            ..append(last + 1..=last + 3, 300)
        };
        let lazy = WriteBatch {
            sync: Sync::Lazy,
            ..compact((last + 3).saturating_sub(KEPT).max(1))
        };
        let batches = if last > KEPT {
            vec![batch, lazy]
        } else {
            vec![batch]
        };
        log.write(&batches).unwrap();
        last += 3;
        state
            .write(&state_batch(last, vec![row("applied", last.to_string())]))
            .unwrap();
        report(&format!("durable {last}"));
    }
}

/// Tells the parent, at once.
fn report(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// A file system that takes no more, met through the limit on the size of a process's files: the write is refused, nothing of
/// it is there, reads go on, and the same write succeeds once there is room.
#[test]
fn a_full_disk_refuses_writes_and_heals() {
    if let Some(dir) = child() {
        fill_up_and_heal(&dir);
        return;
    }
    // At the end of a page and within one: LMDB tells the two apart badly.
    for blocks in [6200, 6201] {
        let dir = tempfile::tempdir().unwrap();
        // The signal that comes with the limit would end the child; only a shell can have it ignored.
        let script = format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" \"$@\"");
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "a_full_disk_refuses_writes_and_heals", "--nocapture"])
            .env(CHILD, dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("healed"), "the child did nothing: {said}");
    }
}

fn fill_up_and_heal(dir: &Path) {
    let Stores { mut log, mut state } = open_default(dir);
    // In the middle of a commit, and when the file is to be extended for the next one.
    let full = log.write(&[append(1..=4000, 1000)]);
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    let mut last = 0;
    let full = loop {
        assert!(last < 100_000, "the limit is not in force");
        match log.write(&[append(last + 1..=last + 7, 1000)]) {
            Ok(()) => last += 7,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Full { .. }), "{full}");
    for _ in 0..3 {
        let again = log.write(&[append(last + 1..=last + 7, 1000)]);
        assert!(matches!(again, Err(StoreError::Full { .. })), "{again:?}");
    }
    assert_eq!(all_entries(&log, 1), entries(1..=last, 1000));
    let large = state_batch(1, vec![row("large", vec![7; 4 << 20])]);
    let full = state.write(&large);
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    state.write(&state_batch(1, vec![row("small", "value")])).unwrap();

    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    let lifted = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, lifted).unwrap();
    log.write(&[append(last + 1..=last + 7, 1000)]).unwrap();
    state.write(&large).unwrap();
    drop((log, state));

    let Stores { mut log, mut state } = open_default(dir);
    assert_eq!(
        log.load(usize::MAX).unwrap().raft.tail,
        entries(1..=last + 7, 1000)
    );
    assert_eq!(all_rows(&mut state).len(), 2);
    report("healed");
}
