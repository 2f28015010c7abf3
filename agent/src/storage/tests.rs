//! The threads of the stores, over disks in memory.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else is reported fails the test"
)]

use std::collections::VecDeque;

use futures_lite::future::block_on;
use lictor_node::store::{DiskFault, MemoryDisk};
use lictor_raft::{Entry, Payload, Sync, WriteId};
use lictor_runtime::{Receiver, channel};

use super::*;
use crate::handle::Posted;

struct Bench {
    disk: MemoryDisk,
    storage: Storage,
    reports: Receiver<Posted>,
    seen: VecDeque<Input>,
    // Keeps the channel open.
    _handle: Handle,
}

impl Bench {
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let (mut log, state) = disk.open().unwrap();
        assert_eq!(log.load(0).unwrap().raft.boot, 1);
        let (inbox, completions, reports) = channel(8);
        let handle = Handle::new(inbox, completions);
        let times = DiskTimes::new(&lictor_metrics::Registry::new());
        let storage = Storage::start(Box::new(log), Box::new(state), &handle, times).unwrap();
        Self {
            disk,
            storage,
            reports,
            seen: VecDeque::new(),
            _handle: handle,
        }
    }

    fn next(&mut self) -> Input {
        while self.seen.is_empty() {
            let mut taken = Vec::new();
            block_on(self.reports.take(&mut taken, 16));
            self.seen
                .extend(taken.into_iter().map(|posted| match posted.input {
                    lictor_node::agent::Input::Server(input) => input,
                    other => panic!("{other:?}"),
                }));
        }
        self.seen.pop_front().unwrap()
    }

    fn write(&self, seq: u64) {
        let mut batch = WriteBatch::new(WriteId { boot: 1, seq });
        batch.sync = Sync::Required;
        batch.append = vec![Entry {
            id: LogId::new(1, seq),
            payload: Payload::Noop,
        }];
        self.storage.persist(Box::new(batch));
    }

    fn await_write(&mut self, seq: u64) {
        loop {
            match self.next() {
                Input::Persisted { through } if through.seq >= seq => return,
                Input::Persisted { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn writes_are_reported_in_order_and_can_be_read_back() {
    let mut bench = Bench::new();
    (1..=50).for_each(|seq| bench.write(seq));
    bench.await_write(50);
    let what = Fetch::Entries {
        first: Index(10),
        last: Index(20),
        max_bytes: usize::MAX,
    };
    bench.storage.fetch(FetchId(7), what);
    match bench.next() {
        Input::Fetched {
            id: FetchId(7),
            data: Fetched::Entries(entries),
        } => assert_eq!(entries.len(), 11),
        other => panic!("{other:?}"),
    }
    bench.storage.close();
}

#[test]
fn while_there_is_no_space_there_is_a_complaint() {
    let (jobs, space) = (Queue::<LogJob>::new(), Space::default());
    let full = || StoreError::Full {
        path: "/data/raft".into(),
        detail: "quota".into(),
    };
    let mut complaints = Vec::new();
    let done = until_not_full(&jobs, &space, || {
        complaints.push(space.complaint());
        if complaints.len() < 3 { Err(full()) } else { Ok(7) }
    });
    assert_eq!(done, Ok(7));
    let said = Some(full().to_string());
    assert_eq!(complaints, [None, said.clone(), said.clone()]);
    assert_eq!(space.complaint(), None, "there is space again");

    // An agent that stops waits for nothing.
    jobs.close();
    assert_eq!(
        until_not_full(&jobs, &space, || Err::<(), _>(full())),
        Err(full())
    );
}

#[test]
fn a_full_disk_is_waited_for() {
    let mut bench = Bench::new();
    bench.disk.fail_next_log_write(DiskFault::Full);
    bench.write(1);
    bench.await_write(1);
    assert_eq!(bench.storage.space().complaint(), None, "there is space again");
    bench.storage.close();
}

#[test]
fn a_broken_disk_is_reported_once_and_for_all() {
    let mut bench = Bench::new();
    bench.disk.fail_next_log_write(DiskFault::Io);
    bench.write(1);
    assert!(matches!(bench.next(), Input::PersistFailed { id, .. } if id.seq == 1));
    bench.storage.close();
}

#[test]
fn notes_and_rows_are_reported() {
    let mut bench = Bench::new();
    bench.storage.save_notes(Notes::default());
    assert!(matches!(bench.next(), Input::NotesSaved));
    bench.write(1);
    bench.await_write(1);
    bench.storage.store(StateBatch {
        applied: LogId::new(1, 1),
        rows: Vec::new(),
    });
    assert!(matches!(bench.next(), Input::StateStored { applied: Index(1) }));
    bench.storage.close();
}
#[test]
fn a_disk_that_hangs_does_not_keep_the_agent_from_ending() {
    let (release, held) = mpsc::channel::<()>();
    let (running, ended) = mpsc::channel();
    let hung = named("hung", &running, move || {
        // Until the other end is dropped.
        let _ = held.recv();
    });
    drop(running);
    let mut storage = Storage {
        log: Queue::new(),
        state: Queue::new(),
        reads: Queue::new(),
        space: Space::default(),
        threads: vec![hung.unwrap()],
        ended,
    };
    assert!(!storage.close_within(Duration::from_millis(10)));
    assert_eq!(storage.threads.len(), 1);
    drop(release);
    assert!(storage.close_within(Duration::from_mins(1)));
    assert!(storage.threads.is_empty());
}
