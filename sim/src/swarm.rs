//! From a seed to a run: which faults, how often, and machines with limits so small that a short run meets all of them.
//!
//! Swarm testing (Groce et al., 2012): each run has some kinds of fault and not others, so that frequent ones do not hide what
//! rare ones would show.

use core::fmt;
use core::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use core::time::Duration;

use lictor_machine::{NodeId, Rng};
use lictor_raft::Config;

use crate::host::Setup;
use crate::network::Weather;

/// The kinds of fault that the simulator can bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A server loses power, and what it had not synced.
    Crash,
    /// All of them do, at once.
    PowerCut,
    /// A server is frozen for a while.
    Pause,
    /// The servers fall into two groups that cannot reach each other.
    Partition,
    /// Some directions of some links are blocked.
    OneWay,
    /// A disk becomes slow for a while.
    SlowDisk,
    /// A disk is full for a while.
    FullDisk,
    /// A disk fails a write.
    FailDisk,
    /// A server's clock changes its rate, within the bound.
    ClockRate,
    /// A server's wall clock is set.
    WallClock,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Crash,
        Self::PowerCut,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::SlowDisk,
        Self::FullDisk,
        Self::FailDisk,
        Self::ClockRate,
        Self::WallClock,
    ];
}

/// Everything that a run depends on. The same options give the same run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How the machines are set up.
    pub setup: Setup,
    /// How the network misbehaves while there are faults.
    pub weather: Weather,
    /// The kinds of fault that happen, each with the mean time between two of its kind.
    pub faults: Vec<(Fault, Duration)>,
    /// Whether they happen from the very beginning, before there is a cluster.
    pub early: bool,
    /// How long faults happen.
    pub faults_for: Duration,
    /// How long a write takes on a healthy disk, at least and at most.
    pub disk_latency: (Duration, Duration),
    /// Inputs out of a thousand after which the machine gets another before its effects are looked at.
    pub batch_permille: u64,
    /// How many clients there are.
    pub clients: usize,
    /// The mean time between an answer and a client's next request.
    pub think: Duration,
    /// How long a client waits for an answer.
    pub patience: Duration,
    /// How many keys they use.
    pub keys: u8,
    /// Whether clients also ask for other members, where servers let them.
    pub changes: bool,
    /// How much faster clocks really run than they may, in thousandths. For showing that it matters.
    pub excess_drift_permille: u32,
}

impl Options {
    /// The options of a seed.
    pub fn of_seed(seed: u64, servers: usize) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed_0000_0000_0000);
        let rng = &mut rng;
        let election = Duration::from_millis(one_of(rng, &[150, 300, 500, 1000]));
        let raft = raft(rng, election);
        let delay_max = (election / one_of(rng, &[4, 10, 50, 200]) as u32).max(Duration::from_millis(1));
        let weather = Weather {
            delay_min: Duration::from_micros(50),
            delay_max,
            loss_permille: sometimes(rng, &[5, 20, 100]),
            duplicate_permille: sometimes(rng, &[5, 50]),
            reorder_permille: sometimes(rng, &[5, 50, 500]),
            report_permille: one_of(rng, &[0, 500, 1000]),
        };
        let setup = Setup {
            servers: (1..=servers as u128).map(NodeId).collect(),
            expect: servers,
            spares: 0,
            raft,
            store_every: one_of(rng, &[1, 5, 20, 100]),
            trailing: one_of(rng, &[0, 1, 10, 50]),
            chunk_bytes: one_of(rng, &[50, 200, 4000]) as usize,
        };
        let faults = Fault::ALL
            .into_iter()
            .filter_map(|fault| {
                let (on, mean) = (rng.chance(2, 5), one_of(rng, &[3, 6, 12]) as u32);
                on.then_some((fault, election * mean))
            })
            .collect();
        let mut options = Self {
            seed,
            setup,
            weather,
            faults,
            early: rng.chance(1, 4),
            faults_for: election * one_of(rng, &[20, 40, 80]) as u32,
            disk_latency: *rng
                .pick(&[
                    (Duration::from_micros(50), Duration::from_micros(500)),
                    (Duration::from_micros(50), Duration::from_millis(20)),
                ])
                .expect("the list is not empty"),
            batch_permille: sometimes(rng, &[100, 500]),
            clients: one_of(rng, &[2, 4, 7]) as usize,
            think: election / one_of(rng, &[4, 10, 20]) as u32,
            patience: election * one_of(rng, &[3, 8]) as u32,
            keys: one_of(rng, &[1, 3, 8]) as u8,
            changes: false,
            excess_drift_permille: 0,
        };
        options.changes = rng.chance(1, 2);
        if options.changes {
            options.setup.spares = rng.below(servers as u64 / 2 + 1) as usize;
        }
        options
    }

    /// Whether a kind of fault happens.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.iter().any(|(kind, _)| *kind == fault)
    }
}

/// Small limits, so that windows fill, tails end and logs are compacted within seconds.
fn raft(rng: &mut Rng, election: Duration) -> Config {
    let mut config = Config::lan(NodeId(0), 0);
    config.election_timeout = election;
    config.heartbeat_interval = election / one_of(rng, &[2, 4, 8]) as u32;
    config.disk_stall = election * one_of(rng, &[1, 4]) as u32;
    config.max_clock_drift_permille = one_of(rng, &[10, 50, 200]) as u32;
    config.append_bytes_max = bytes(one_of(rng, &[100, 1000, 100_000]));
    config.window_messages = NonZeroU32::MIN.saturating_add(one_of(rng, &[0, 1, 15]) as u32);
    config.window_bytes = bytes(one_of(rng, &[300, 3000, 1_000_000]));
    config.tail_bytes = one_of(rng, &[0, 300, 3000, 1_000_000]) as usize;
    config.uncommitted_bytes_max = bytes(one_of(rng, &[1000, 10_000, 1_000_000]));
    config.reads_waiting_max = bytes(one_of(rng, &[2, 1000]));
    config.apply_bytes_max = bytes(one_of(rng, &[100, 1000, 1_000_000]));
    config.pinned_entries_max = NonZeroU64::MIN.saturating_add(one_of(rng, &[0, 10, 1000]));
    config
}

fn bytes(count: u64) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(count as usize - 1)
}

fn one_of(rng: &mut Rng, choices: &[u64]) -> u64 {
    *rng.pick(choices).expect("there is a choice")
}

/// Zero for about half of the seeds.
fn sometimes(rng: &mut Rng, choices: &[u64]) -> u64 {
    let (on, choice) = (rng.chance(1, 2), one_of(rng, choices));
    if on { choice } else { 0 }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup {
            servers,
            expect: _,
            spares,
            raft,
            store_every,
            trailing,
            chunk_bytes,
        } = &self.setup;
        writeln!(f, "seed {}, {} servers", self.seed, servers.len())?;
        writeln!(
            f,
            "  raft: election timeout {:?}, heartbeat {:?}, disk stall {:?}, drift bound {} permille",
            raft.election_timeout, raft.heartbeat_interval, raft.disk_stall, raft.max_clock_drift_permille
        )?;
        writeln!(
            f,
            "        append {} B, window {} messages and {} B, tail {} B, uncommitted {} B, apply {} B, reads {}, pinned {}",
            raft.append_bytes_max,
            raft.window_messages,
            raft.window_bytes,
            raft.tail_bytes,
            raft.uncommitted_bytes_max,
            raft.apply_bytes_max,
            raft.reads_waiting_max,
            raft.pinned_entries_max
        )?;
        writeln!(
            f,
            "  rows stored every {store_every} entries, {trailing} entries kept behind them, chunks of {chunk_bytes} B"
        )?;
        writeln!(f, "  network: {:?}", self.weather)?;
        writeln!(
            f,
            "  disks: {:?} to {:?}; batching {} permille",
            self.disk_latency.0, self.disk_latency.1, self.batch_permille
        )?;
        writeln!(
            f,
            "  clients: {} on {} keys, thinking {:?}, waiting {:?}",
            self.clients, self.keys, self.think, self.patience
        )?;
        if self.changes {
            writeln!(f, "  members change; {spares} of the servers come later")?;
        }
        let early = if self.early {
            ", from the very beginning"
        } else {
            ""
        };
        write!(f, "  faults for {:?}{early}:", self.faults_for)?;
        for (fault, mean) in &self.faults {
            write!(f, " {fault:?} every {mean:?};")?;
        }
        if self.excess_drift_permille > 0 {
            write!(
                f,
                " clocks {} permille beyond their bound",
                self.excess_drift_permille
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_gives_valid_and_the_same_options_and_seeds_differ() {
        for seed in 0..500 {
            let options = Options::of_seed(seed, 5);
            options.setup.raft.check().unwrap();
            assert!(options.patience > options.setup.raft.election_timeout);
            assert_eq!(options.to_string(), Options::of_seed(seed, 5).to_string());
        }
        for fault in Fault::ALL {
            let with = (0..500)
                .filter(|seed| Options::of_seed(*seed, 3).has(fault))
                .count();
            assert!((100..300).contains(&with), "{fault:?} in {with} of 500 seeds");
        }
    }
}
