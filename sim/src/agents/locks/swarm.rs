//! From a seed to a run of processes that contend for locks: how many, what they are like, which faults, how often.

use core::fmt;
use core::time::Duration;

use lictor_catalog::Behavior;
use lictor_machine::Rng;

use super::contender::{GATE_NODE, Ground, Habits};
use crate::agents::pace::Pace;
use crate::gossip::air::Weather;
use crate::gossip::swarm::one_of;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An agent crashes, and comes back.
    Crash,
    /// All agents do, at once.
    PowerCut,
    /// An agent is frozen for a while.
    Freeze,
    /// A process is frozen for a while.
    Stall,
    /// A machine is, with the agent and all processes on it.
    Standstill,
    /// A process dies, and another comes.
    Kill,
    /// The agents fall into two groups for a while.
    Partition,
    /// Single directions are cut for a while.
    Cut,
    /// The leader stands still behind a partition, through the election of another, and goes on before it hears of that one.
    Seclude,
    /// Leadership goes to another server.
    Transfer,
    /// A check on which sessions depend becomes better or worse.
    Flip,
    /// Somebody passes by and ends a session, deletes a lock, or writes to one.
    PassBy,
    /// Somebody archives the whole state, or restores what they have archived.
    Restore,
}

impl Fault {
    /// Every kind but [`Self::Restore`].
    pub const USUAL: [Self; 12] = [
        Self::Crash,
        Self::PowerCut,
        Self::Freeze,
        Self::Stall,
        Self::Standstill,
        Self::Kill,
        Self::Partition,
        Self::Cut,
        Self::Seclude,
        Self::Transfer,
        Self::Flip,
        Self::PassBy,
    ];
}

/// A mistake that every agent makes.
#[cfg(feature = "sabotage")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// In what becomes of commands.
    Catalog(lictor_catalog::Sabotage),
    /// In what servers do.
    Node(lictor_node::Sabotage),
}

#[cfg(feature = "sabotage")]
impl Mistake {
    /// Has a state that was just made go wrong, if states do.
    pub(in crate::agents) fn spoil(mistake: Option<Self>, state: &mut lictor_catalog::State) {
        match mistake {
            Some(Self::Catalog(mistake)) => state.sabotage(Some(mistake)),
            Some(Self::Node(_)) | None => {}
        }
    }
}

/// Everything that a run depends on.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How many servers there are.
    pub servers: usize,
    /// How many client agents.
    pub clients: usize,
    /// How many locks.
    pub locks: u8,
    /// How many processes contend for them.
    pub contenders: usize,
    /// How many processes count.
    pub writers: usize,
    /// How many counters they have.
    pub counters: u8,
    /// The TTLs of sessions.
    pub ttls: Vec<Duration>,
    /// How long servers keep answers to changes under idempotency keys.
    pub receipt_ttl: Duration,
    /// How the network behaves while there are faults.
    pub weather: Weather,
    /// The kinds of fault that happen, each with the mean time between two of its kind.
    pub faults: Vec<(Fault, Duration)>,
    /// For how long, until everything has to calm down.
    pub faults_for: Duration,
    /// How long what breaks stays so, at most.
    pub broken_for: Duration,
    /// The mistake that every agent makes.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<Mistake>,
}

impl Options {
    /// The options of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x10c5_0000_0000_0000);
        let rng = &mut rng;
        let mut faults: Vec<_> = Fault::USUAL
            .into_iter()
            .filter_map(|fault| {
                let (on, mean) = (rng.chance(1, 2), one_of(rng, &[4, 8, 16]));
                on.then_some((fault, Duration::from_secs(mean)))
            })
            .collect();
        if rng.chance(1, 6) {
            faults.push((Fault::Restore, Duration::from_secs(6)));
        }
        let locks = one_of(rng, &[1, 1, 2]);
        let ttls = [1000, 1500, 3000].map(Duration::from_millis);
        Self {
            seed,
            servers: one_of(rng, &[3, 3, 3, 5]) as usize,
            clients: 1 + rng.below(2) as usize,
            locks: locks as u8,
            contenders: (locks * 2 + rng.below(3)) as usize,
            writers: 1 + rng.below(3) as usize,
            counters: 1 + rng.below(2) as u8,
            ttls: ttls.into(),
            receipt_ttl: Duration::from_secs(one_of(rng, &[10, 15, 600])),
            weather: Weather {
                delay_min: Duration::from_micros(50),
                delay_max: Duration::from_millis(one_of(rng, &[1, 5, 20])),
                late_permille: one_of(rng, &[0, 20]),
                loss_permille: one_of(rng, &[0, 0, 20]),
                duplicate_permille: one_of(rng, &[0, 10]),
                broken_calls_permille: one_of(rng, &[0, 20, 100]),
            },
            faults,
            faults_for: Duration::from_secs(one_of(rng, &[25, 50])),
            broken_for: Duration::from_secs(one_of(rng, &[2, 5, 12])),
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }

    /// How fast agents live.
    pub(super) const fn pace(&self) -> Pace {
        let mut pace = Pace::brisk();
        pace.receipt_ttl = self.receipt_ttl;
        pace
    }

    /// How long those who count ask for the same under a key: so that whatever they are still told of it, with all their patience and the
    /// pauses between two requests, they are told before the first answer is forgotten.
    pub(super) fn persistence(&self) -> Duration {
        let most = Duration::from_mins(1);
        self.receipt_ttl.saturating_sub(Duration::from_secs(7)).min(most)
    }

    /// What a process on this machine is like.
    pub(super) fn habits(&self, rng: &mut Rng, number: usize, machine: &str) -> Habits {
        let ttl = rng.pick(&self.ttls).copied().unwrap_or_default();
        let ground = *rng
            .pick(&[Ground::Nothing, Ground::Nothing, Ground::Alive, Ground::Gate])
            .unwrap_or(&Ground::Nothing);
        let lasts = ground != Ground::Nothing && rng.chance(1, 3);
        let delay = one_of(rng, &[0, 0, 700, 4000]);
        Habits {
            ttl: if lasts { Duration::ZERO } else { ttl },
            lock_delay: Duration::from_millis(delay),
            behavior: if rng.chance(2, 3) {
                Behavior::Release
            } else {
                Behavior::Delete
            },
            node: if ground == Ground::Gate {
                GATE_NODE.into()
            } else {
                machine.into()
            },
            ground,
            lock: (number % usize::from(self.locks.max(1))) as u8,
            by_txn: rng.chance(1, 2),
            fenced: rng.chance(2, 3),
            careful: rng.chance(1, 2),
            keyed: rng.chance(1, 2),
            persists: self.persistence().min(Duration::from_secs(15)),
        }
    }

    /// What has the simulator run these options again.
    pub(super) fn replay(&self) -> String {
        format!("--kind locks --seed {}", self.seed)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, {} servers, {} clients; {} contend for {} locks, {} count on {} counters",
            self.seed, self.servers, self.clients, self.contenders, self.locks, self.writers, self.counters
        )?;
        writeln!(
            f,
            "  answers are kept for {:?}; network: {:?}",
            self.receipt_ttl, self.weather
        )?;
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
