//! What a run, and a band of runs, did: so that a band which tested nothing fails.

use core::fmt;

/// A table of counters with names.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// How often things happened.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Adds those of another run.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Each with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counters! {
    /// Events of the simulation.
    events,
    /// Starts of servers.
    starts,
    /// Leaders elected.
    elections,
    /// Servers that lost power.
    crashes,
    /// Times that all of them did.
    power_cuts,
    /// Writes that crashes took.
    lost_writes,
    /// Servers frozen.
    pauses,
    /// Partitions into two groups.
    partitions,
    /// Partitions of single directions.
    one_way_partitions,
    /// Packets lost.
    drops,
    /// Packets duplicated.
    duplicates,
    /// Disks that became slow.
    slow_disks,
    /// Disks that became full.
    full_disks,
    /// Writes that failed.
    failed_writes,
    /// Leaders that noticed their disk hanging.
    disk_stalls,
    /// Leaders that noticed having lost their quorum.
    quorums_lost,
    /// Conflicting tails removed.
    truncations,
    /// Compactions of a log.
    compactions,
    /// Reads of entries that were no longer in memory.
    fetches,
    /// Snapshots installed in a log.
    snapshots_installed,
    /// Snapshots that took the place of a state.
    snapshots,
    /// Requests of clients.
    requests,
    /// Writes acknowledged.
    writes,
    /// Reads answered.
    reads,
    /// Transfers of leadership.
    transfers,
    /// Changes of members that were made.
    reconfigurations,
    /// Servers that learned that they are no members any more.
    removals,
    /// Requests refused.
    refusals,
    /// Answers that left the outcome open.
    unknown,
    /// Requests that clients gave up waiting for.
    timeouts,
}

impl Counters {
    /// What never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        self.named()
            .into_iter()
            .filter(|(_, count)| *count == 0)
            .map(|(name, _)| name)
            .collect()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, count)) in self.named().into_iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{name} {count}")?;
        }
        Ok(())
    }
}

/// What a run that held every property did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its counters.
    pub counters: Counters,
    /// The digest of its trace.
    pub hash: u64,
    /// The length of its trace.
    pub records: u64,
    /// Histories of keys of which it could not be decided whether they are linearizable.
    pub undecided: u64,
}

/// A run that did not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its options, worded.
    pub options: String,
    /// What did not hold.
    pub violation: crate::oracles::Violation,
    /// What led to it.
    pub tail: Vec<String>,
    /// The command that replays it.
    pub replay: String,
    /// The digest of its trace.
    pub hash: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\n{}\n", self.options)?;
        writeln!(f, "VIOLATED {}\n", self.violation)?;
        write!(f, "replay: {}", self.replay)
    }
}
