//! How fast the log takes entries of 256 bytes, durably, for groups of several sizes. Measures the disk above all: set
//! `TMPDIR` to the one that is meant.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lictor_node::store::LogStore as _;
use lictor_raft::{Entry, LogId, Payload, SnapshotMeta, Sync, WriteBatch, WriteId};
use lictor_storage_lmdb::{LmdbLog, Options, Stores, open};

const ENTRY_BYTES: usize = 256;
/// The log is kept at about this many entries, as a server's is.
const RETAINED: u64 = 10_000;

/// Makes consecutive batches.
struct Writer {
    log: LmdbLog,
    next: u64,
    compacted: u64,
    payload: bytes::Bytes,
}

impl Writer {
    fn batch(&mut self, entries: u64) -> WriteBatch {
        let first = self.next;
        self.next += entries;
        let append = (first..self.next)
            .map(|index| Entry {
                id: LogId::new(1, index),
                payload: Payload::Command(self.payload.clone()),
            })
            .collect();
        let mut batch = WriteBatch {
            sync: Sync::Required,
            append,
            ..WriteBatch::new(WriteId::default())
        };
        let due = self.next.saturating_sub(RETAINED);
        if due > self.compacted + RETAINED / 10 {
            self.compacted = due;
            batch.compact_to = Some(SnapshotMeta {
                last: LogId::new(1, due),
                ..SnapshotMeta::default()
            });
        }
        batch
    }
}

fn group_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log write, entries of 256 B per commit");
    for entries in [1, 16, 128] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let Stores { log, .. } = open(dir.path(), &Options::default()).expect("an empty directory opens");
        let mut writer = Writer {
            log,
            next: 1,
            compacted: 0,
            payload: vec![7; ENTRY_BYTES].into(),
        };
        group.throughput(Throughput::Elements(entries));
        group.bench_function(BenchmarkId::from_parameter(entries), |bencher| {
            let writer = std::cell::RefCell::new(&mut writer);
            bencher.iter_batched(
                || writer.borrow_mut().batch(entries),
                |batch| {
                    writer
                        .borrow_mut()
                        .log
                        .write(&[batch])
                        .expect("the disk takes it");
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, group_commit);
criterion_main!(benches);
