//! From a seed to a run of agents: how many, which faults, how often.

use core::fmt;
use core::time::Duration;

use lictor_machine::Rng;

use super::pace::Pace;
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
    /// A client that has left comes back.
    Return,
    /// A new client.
    Newcomer,
    /// A client crashes, and comes back with an empty disk.
    LoseDisk,
    /// A client crashes, and comes back under another name.
    Rename,
    /// A client crashes for good, and another machine takes its name.
    Reimage,
    /// A client crashes for good.
    Bury,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Crash,
        Self::Move,
        Self::PowerCut,
        Self::Freeze,
        Self::Partition,
        Self::Cut,
        Self::Replace,
        Self::Leave,
        Self::Return,
        Self::Newcomer,
        Self::LoseDisk,
        Self::Rename,
        Self::Reimage,
        Self::Bury,
    ];
}

/// What people and programs do to what runs on agents, and to the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A service is registered with an agent, or registered otherwise.
    Register,
    /// Something that was registered is removed.
    Deregister,
    /// A check of a node is registered.
    RegisterCheck,
    /// A node's maintenance mode begins or ends.
    Maintain,
    /// The files of an agent are changed, and read at once or at its next start.
    Files,
    /// A process is better, worse, or hangs from now on.
    Ail,
    /// The disk of an agent is full for a while.
    FillDisk,
    /// Somebody writes to the catalog on a node of their own.
    Foreign,
    /// Somebody writes to the catalog on an agent's node.
    Interfere,
    /// Somebody removes every node from the catalog.
    Wipe,
    /// Somebody archives the whole state, or restores what they have archived.
    Restore,
}

impl Deed {
    /// Every kind but [`Self::Restore`].
    pub const USUAL: [Self; 10] = [
        Self::Register,
        Self::Deregister,
        Self::RegisterCheck,
        Self::Maintain,
        Self::Files,
        Self::Ail,
        Self::FillDisk,
        Self::Foreign,
        Self::Interfere,
        Self::Wipe,
    ];
}

/// Everything that a run depends on.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where all randomness comes from.
    pub seed: u64,
    /// For how many days, if it is about days.
    pub days: u32,
    /// How many servers found the cluster.
    pub servers: usize,
    /// How many clients there are at the beginning.
    pub clients: usize,
    /// How the network behaves while there are faults.
    pub weather: Weather,
    /// How fast everything goes.
    pub pace: Pace,
    /// The kinds of fault that happen, each with the mean time between two of its kind.
    pub faults: Vec<(Fault, Duration)>,
    /// What is done beside, likewise.
    pub deeds: Vec<(Deed, Duration)>,
    /// The mean time between two requests of clients.
    pub ask_interval: Duration,
    /// Whether they write keys. Not where archives are restored: whoever looks on knows no other history of keys than the log.
    pub keys: bool,
    /// For how long, until everything has to calm down and agree.
    pub faults_for: Duration,
    /// How often that is.
    pub spells: u32,
    /// How long what breaks stays so, at most.
    pub broken_for: Duration,
    /// The most agents that there ever are.
    pub seats_max: usize,
    /// The mistake that every agent makes with what runs on it.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<lictor_local::Sabotage>,
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
        let mut deeds: Vec<_> = Deed::USUAL
            .into_iter()
            .filter_map(|deed| {
                let (on, mean) = (rng.chance(3, 5), one_of(rng, &[1, 3, 10]));
                on.then_some((deed, Duration::from_secs(mean)))
            })
            .collect();
        let restores = rng.chance(1, 6);
        if restores {
            deeds.push((Deed::Restore, Duration::from_secs(8)));
        }
        Self {
            seed,
            days: 0,
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
            pace: Pace::brisk(),
            faults,
            deeds,
            ask_interval: Duration::from_millis(40),
            keys: !restores,
            faults_for: Duration::from_secs(one_of(rng, &[40, 90])),
            spells: 1,
            broken_for: Duration::from_secs(one_of(rng, &[3, 15])),
            seats_max: 30,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }

    /// The options of a seed for so many days of churn, in spells of a week at most.
    ///
    /// Everything that may happen does, each kind a few times a day or a few times a week. Gossip and consensus are thirty times as slow
    /// as in a data center (see [`Pace::slow`]), so that most of the work is in what happens, not in waiting for it.
    pub fn churn(seed: u64, days: u32) -> Self {
        let mut rng = Rng::new(seed ^ 0xc842_0000_0000_0000);
        let rng = &mut rng;
        let hours = |hours| Duration::from_hours(hours);
        let faults = vec![
            (Fault::Crash, hours(one_of(rng, &[1, 2, 4]))),
            (Fault::Move, hours(one_of(rng, &[8, 16]))),
            (Fault::PowerCut, hours(one_of(rng, &[48, 120]))),
            (Fault::Freeze, hours(one_of(rng, &[4, 16]))),
            (Fault::Partition, hours(one_of(rng, &[8, 24]))),
            (Fault::Cut, hours(one_of(rng, &[8, 24]))),
            (Fault::Replace, hours(96)),
            (Fault::Leave, hours(one_of(rng, &[12, 24]))),
            (Fault::Return, hours(12)),
            (Fault::Newcomer, hours(30)),
            (Fault::LoseDisk, hours(one_of(rng, &[12, 24]))),
            (Fault::Rename, hours(one_of(rng, &[24, 48]))),
            (Fault::Reimage, hours(one_of(rng, &[24, 48]))),
            (Fault::Bury, hours(72)),
        ];
        let mut deeds = vec![
            (Deed::Register, hours(1)),
            (Deed::Deregister, hours(2)),
            (Deed::RegisterCheck, hours(4)),
            (Deed::Maintain, hours(8)),
            (Deed::Files, hours(8)),
            (Deed::Ail, hours(1)),
            (Deed::FillDisk, hours(6)),
            (Deed::Foreign, hours(2)),
            (Deed::Interfere, hours(one_of(rng, &[1, 3]))),
            (Deed::Wipe, hours(one_of(rng, &[48, 120]))),
        ];
        let restores = rng.chance(1, 2);
        if restores {
            deeds.push((Deed::Restore, hours(24)));
        }
        let spells = days.div_ceil(7).max(1);
        Self {
            seed,
            days,
            servers: 3,
            clients: 8,
            weather: Weather {
                delay_min: Duration::from_micros(50),
                delay_max: Duration::from_millis(one_of(rng, &[1, 50])),
                late_permille: one_of(rng, &[0, 20]),
                loss_permille: one_of(rng, &[0, 5, 20]),
                duplicate_permille: one_of(rng, &[0, 10]),
                broken_calls_permille: one_of(rng, &[0, 20, 100]),
            },
            pace: Pace::slow(),
            faults,
            deeds,
            ask_interval: Duration::from_mins(5),
            keys: !restores,
            faults_for: Duration::from_hours(24) * days / spells,
            spells,
            broken_for: Duration::from_mins(one_of(rng, &[10, 40, 120])),
            seats_max: 60,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }
}

impl Options {
    /// What has the simulator run these options again.
    pub(super) fn replay(&self) -> String {
        let Self { seed, days, .. } = self;
        match days {
            0 => format!("--kind agent --seed {seed}"),
            _ => format!("--kind churn --days {days} --seed {seed}"),
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
            "  faults for {} times {:?}, each for up to {:?}:",
            self.spells, self.faults_for, self.broken_for
        )?;
        for (fault, mean) in &self.faults {
            write!(f, " {fault:?} every {mean:?};")?;
        }
        write!(f, "\n  beside:")?;
        for (deed, mean) in &self.deeds {
            write!(f, " {deed:?} every {mean:?};")?;
        }
        Ok(())
    }
}
