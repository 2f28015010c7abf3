//! From a seed to a run of agents: how many, which faults, how often.

use core::fmt;
use core::time::Duration;

use lictor_machine::Rng;

use crate::gossip::air::Weather;
use crate::gossip::swarm::one_of;

/// What may happen to agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// One crashes, and comes back.
    Crash,
    /// One crashes, and comes back elsewhere.
    Move,
    /// All crash, and come back, perhaps all of them elsewhere.
    PowerCut,
    /// One is frozen for a while.
    Freeze,
    /// They fall into two groups for a while.
    Partition,
    /// Single directions are cut for a while.
    Cut,
    /// A server is replaced by a new one: it leaves, or dies for good.
    Replace,
    /// A client leaves.
    Leave,
    /// A new client.
    Newcomer,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Crash,
        Self::Move,
        Self::PowerCut,
        Self::Freeze,
        Self::Partition,
        Self::Cut,
        Self::Replace,
        Self::Leave,
        Self::Newcomer,
    ];
}

/// Everything that a run depends on.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How many servers found the cluster.
    pub servers: usize,
    /// How many clients there are at the beginning.
    pub clients: usize,
    /// How the network behaves while there are faults.
    pub weather: Weather,
    /// The kinds of fault that happen, each with the mean time between two of its kind.
    pub faults: Vec<(Fault, Duration)>,
    /// For how long.
    pub faults_for: Duration,
    /// How long what breaks stays so, at most.
    pub broken_for: Duration,
}

impl Options {
    /// The options of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0xa6e7_0000_0000_0000);
        let rng = &mut rng;
        let faults = Fault::ALL
            .into_iter()
            .filter_map(|fault| {
                let (on, mean) = (rng.chance(2, 5), one_of(rng, &[8, 20, 40]));
                on.then_some((fault, Duration::from_secs(mean)))
            })
            .collect();
        Self {
            seed,
            servers: one_of(rng, &[3, 3, 5]) as usize,
            clients: rng.below(5) as usize,
            weather: Weather {
                delay_min: Duration::from_micros(50),
                delay_max: Duration::from_millis(one_of(rng, &[1, 5])),
                late_permille: one_of(rng, &[0, 20]),
                loss_permille: one_of(rng, &[0, 0, 20]),
                duplicate_permille: one_of(rng, &[0, 10]),
                broken_calls_permille: one_of(rng, &[0, 20]),
            },
            faults,
            faults_for: Duration::from_secs(one_of(rng, &[40, 90])),
            broken_for: Duration::from_secs(one_of(rng, &[3, 15])),
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, {} servers, {} clients",
            self.seed, self.servers, self.clients
        )?;
        writeln!(f, "  network: {:?}", self.weather)?;
        write!(
            f,
            "  faults for {:?}, each for up to {:?}:",
            self.faults_for, self.broken_for
        )?;
        for (fault, mean) in &self.faults {
            write!(f, " {fault:?} every {mean:?};")?;
        }
        Ok(())
    }
}
