//! What a run did: the traffic, and how often things happened, so that a band which tested nothing fails.

use core::fmt;

/// A table of counters with names.
macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of a run.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)*
            /// The longest datagram, in bytes.
            pub largest_datagram: usize,
        }

        impl Tally {
            /// Adds those of another run.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                self.largest_datagram = self.largest_datagram.max(other.largest_datagram);
            }

            /// Each with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

tally! {
    /// Events of the simulation.
    events,
    /// Datagrams sent.
    datagrams,
    /// Their bytes.
    datagram_bytes,
    /// Datagrams lost.
    lost,
    /// Datagrams that arrive twice.
    duplicates,
    /// Calls made.
    calls,
    /// Bytes of requests and replies.
    call_bytes,
    /// Arrivals for which a frozen member had no room.
    overflows,
    /// Changes of somebody's view.
    transitions,
    /// Starts of members.
    starts,
    /// Starts without memory of the earlier life.
    wiped,
    /// Starts at another address.
    moves,
    /// Joins that worked.
    joins,
    /// Members that left in good order.
    leaves,
    /// Members that crashed.
    crashes,
    /// Times that all crashed at once.
    power_cuts,
    /// Members frozen.
    freezes,
    /// Members made slow.
    slowed,
    /// Partitions into groups.
    partitions,
    /// Single directions cut.
    cuts,
    /// Members that lose packets.
    lossy,
    /// Members without datagrams, or without streams.
    one_plane,
    /// New members under the name of one that is gone.
    replaced,
    /// Members forced to have left.
    forced,
    /// Members pruned.
    pruned,
    /// Changes of tags.
    retagged,
    /// User events fired.
    user_events,
    /// Deliveries of them.
    delivered,
    /// Queries asked.
    queries,
    /// Answers to them.
    responses,
    /// Contradictions by members that were taken for dead or suspect.
    refutations,
    /// Members found to answer on streams only.
    degraded,
    /// Conflicts of names.
    conflicts,
    /// Things refused, as far as they were said.
    refused,
    /// Deaths seen of members that live.
    false_deaths,
}

impl Tally {
    /// What never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        let never = self.named().into_iter().filter(|(_, count)| *count == 0);
        never.map(|(name, _)| name).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, count)) in self.named().into_iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{name} {count}")?;
        }
        write!(f, ", largest_datagram {}", self.largest_datagram)
    }
}
