//! The storage contract's clauses, on LMDB: with the default options, and with a map so small that it must grow all the time.

use lictor_node::store::StoreError;
use lictor_node::store::conformance::Bed;
use lictor_storage_lmdb::{LmdbLog, LmdbState, Options, Stores};

struct Directory {
    dir: tempfile::TempDir,
    options: Options,
}

impl Bed for Directory {
    type Log = LmdbLog;
    type State = LmdbState;

    fn open(&mut self) -> Result<(LmdbLog, LmdbState), StoreError> {
        let Stores { log, state } = lictor_storage_lmdb::open(self.dir.path(), &self.options)?;
        Ok((log, state))
    }

    /// What a process had not committed died with its stores; what the disk does is tested by killing a process, in `crash.rs`.
    fn cut_power(&mut self) {}
}

fn directory(options: Options) -> Directory {
    Directory {
        dir: tempfile::tempdir().expect("a temporary directory"),
        options,
    }
}

mod default_options {
    use super::*;

    lictor_node::store_conformance!(directory(Options::default()));
}

mod smallest_options {
    use super::*;

    lictor_node::store_conformance!(directory(Options {
        log_map_bytes: 0,
        state_map_bytes: 0,
        trim_slice: 7,
        ..Options::default()
    }));
}
