//! Scripted conversations, each named after the bug that it would show: where the bug was found first is said in the test's comment, by
//! the section of the paper or by the project and issue.

mod elections;
mod founding;
mod membership;
mod reads;
mod replication;
mod storage;

use core::time::Duration;

use lictor_sim::stage::Stage;

/// The election timeout of every stage.
const ELECTION: Duration = Duration::from_secs(1);

/// A cluster with server 1 as its leader.
fn cluster(servers: u8) -> Stage {
    Stage::with_leader(Stage::setup(servers))
}

/// As [`cluster`], and no server keeps anything in its log that it has applied.
fn compacting_cluster(servers: u8) -> Stage {
    let mut setup = Stage::setup(servers);
    setup.store_every = 1;
    Stage::with_leader(setup)
}
