//! A deterministic simulator of whole Lictor clusters, with oracles and scenarios.
//!
//! A run is made of a [seed](swarm): the seed expands into options, which say which faults happen and how small every limit is; the
//! [world] brings clients, machines, [disks](disk), [links](network) and [clocks](clock) together in one virtual time; the [oracles] look
//! at every write, message, turn and answer; and at the end the [histories](linearizability) of the clients are checked.
//! Nothing in a run depends on the machine it runs on, so a failure is one number.
//!
//! # Reading a failure
//!
//! A failure shows the latest records, the options, and the property that does not hold. The last record is the one that led to the
//! violation. `n1 -> n2` is sent, `n1 => n2` received, `n1 -x n2` lost; `writes #1/7` is the seventh write of the first start of that server,
//! and `durable through #1/7` its report; `[42]` names a client's request. Read backwards: which server broke the property, which message or
//! write told it to, and when did it learn the wrong thing? `--seed S --trace` prints the whole run.
//!
//! # Adding
//!
//! - a fault: see `world/faults.rs`;
//! - an oracle: see [`oracles`];
//! - a scenario, once a seed has shown a bug: a script on a [`stage::Stage`], in `tests/scenarios`, named after the bug;
//! - a deliberate mistake that the oracles must see: `tests/sabotage.rs`.

#![forbid(unsafe_code)]

pub mod agents;
pub mod clock;
pub mod disk;
pub mod gossip;
pub mod host;
pub mod linearizability;
pub mod network;
pub mod node_host;
pub mod oracles;
pub mod queue;
pub mod raft_host;
pub mod report;
pub mod run;
pub mod stage;
pub mod swarm;
pub mod trace;
pub mod workload;
pub mod world;
