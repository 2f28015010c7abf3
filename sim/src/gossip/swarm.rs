//! From a seed to a run: which faults, how often, and how the members are set.
//!
//! Swarm testing (Groce et al., 2012): each run has some kinds of fault and not others, so that frequent ones do not hide what rare ones
//! would show.

use core::fmt;
use core::time::Duration;

use lictor_gossip::Config;
use lictor_machine::{NodeId, Rng};

use super::air::Weather;
use super::world::Identity;

/// What may happen to the members of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A member crashes, and is started again after a while, perhaps elsewhere, perhaps without memory.
    Crash,
    /// All of them crash at once.
    PowerCut,
    /// A member is frozen for a while.
    Freeze,
    /// A member becomes slow for a while.
    Slow,
    /// A member loses packets for a while.
    Lossy,
    /// A member has no datagrams, or no streams, for a while.
    OnePlane,
    /// The members fall into groups for a while.
    Partition,
    /// Single directions are cut for a while.
    Cut,
    /// A member leaves in good order, and perhaps comes back.
    Leave,
    /// A member is lost for ever, and a new one takes its name.
    Replace,
    /// A member that is gone, or seems so, is made to leave, or pruned.
    Force,
    /// A new member.
    Newcomer,
    /// A member says other things of itself.
    Retag,
    /// Somebody tells everybody something.
    Event,
    /// Somebody asks everybody something.
    Query,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Crash,
        Self::PowerCut,
        Self::Freeze,
        Self::Slow,
        Self::Lossy,
        Self::OnePlane,
        Self::Partition,
        Self::Cut,
        Self::Leave,
        Self::Replace,
        Self::Force,
        Self::Newcomer,
        Self::Retag,
        Self::Event,
        Self::Query,
    ];
}

/// How members are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// [`Config::local`].
    Local,
    /// [`Config::lan`].
    Lan,
}

/// Everything that a run depends on. The same options give the same run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How many members there are at the beginning.
    pub members: usize,
    /// How they are set.
    pub preset: Preset,
    /// The longest datagram.
    pub packet_bytes: usize,
    /// How the network behaves while there are faults.
    pub weather: Weather,
    /// The kinds of fault that happen, each with the mean time between two of its kind.
    pub faults: Vec<(Fault, Duration)>,
    /// Whether they happen from the very beginning, before the members know each other.
    pub early: bool,
    /// How long faults happen.
    pub faults_for: Duration,
    /// How long what breaks stays broken, at most.
    pub broken_for: Duration,
    /// The mistake that every member makes.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<lictor_gossip::Sabotage>,
}

impl Options {
    /// The options of a seed, for a pool of so many members; without a number the seed says how many.
    pub fn of_seed(seed: u64, members: Option<usize>) -> Self {
        let mut rng = Rng::new(seed ^ 0x6055_1900_0000_0000);
        let rng = &mut rng;
        let drawn = if rng.chance(1, 5) {
            rng.below(36) + 25
        } else {
            rng.below(20) + 5
        };
        let weather = Weather {
            delay_min: Duration::from_micros(50),
            delay_max: Duration::from_millis(one_of(rng, &[1, 1, 5, 20])),
            late_permille: sometimes(rng, &[10, 100]),
            loss_permille: sometimes(rng, &[5, 20, 80]),
            duplicate_permille: sometimes(rng, &[5, 100]),
            broken_calls_permille: sometimes(rng, &[20, 200]),
        };
        let faults = Fault::ALL
            .into_iter()
            .filter_map(|fault| {
                let (on, mean) = (rng.chance(2, 5), one_of(rng, &[2, 5, 15, 40]));
                on.then_some((fault, Duration::from_secs(mean)))
            })
            .collect();
        Self {
            seed,
            members: members.unwrap_or(drawn as usize),
            preset: if rng.chance(1, 2) {
                Preset::Local
            } else {
                Preset::Lan
            },
            packet_bytes: one_of(rng, &[1150, 1150, 1400]) as usize,
            weather,
            faults,
            early: rng.chance(1, 4),
            faults_for: Duration::from_secs(one_of(rng, &[20, 60, 120])),
            broken_for: Duration::from_secs(one_of(rng, &[2, 10, 60])),
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }

    /// Whether a kind of fault happens.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.iter().any(|(kind, _)| *kind == fault)
    }

    /// The settings of a member.
    pub fn config(&self, identity: Identity) -> Config {
        let Identity {
            id,
            name,
            address,
            seed,
        } = identity;
        let mut config = match self.preset {
            Preset::Local => Config::local(id, name, address, seed),
            Preset::Lan => Config::lan(id, name, address, seed),
        };
        config.packet_bytes = self.packet_bytes;
        #[cfg(feature = "sabotage")]
        {
            config.sabotage = self.sabotage;
        }
        config
    }

    /// The settings that all members share, as those of nobody in particular.
    pub fn common(&self) -> Config {
        self.config(Identity {
            id: NodeId(1),
            name: "m0".to_owned(),
            address: super::seat::Place(0).address(),
            seed: 0,
        })
    }
}

pub(crate) fn one_of(rng: &mut Rng, choices: &[u64]) -> u64 {
    *rng.pick(choices).expect("there is a choice")
}

/// Zero for about half of the seeds.
fn sometimes(rng: &mut Rng, choices: &[u64]) -> u64 {
    let (on, choice) = (rng.chance(1, 2), one_of(rng, choices));
    if on { choice } else { 0 }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let early = if self.early {
            ", from the very beginning"
        } else {
            ""
        };
        writeln!(
            f,
            "seed {}, {} members, {:?}",
            self.seed, self.members, self.preset
        )?;
        writeln!(f, "  datagrams of up to {} B", self.packet_bytes)?;
        writeln!(f, "  network: {:?}", self.weather)?;
        writeln!(f, "  what breaks stays so for up to {:?}", self.broken_for)?;
        write!(f, "  faults for {:?}{early}:", self.faults_for)?;
        for (fault, mean) in &self.faults {
            write!(f, " {fault:?} every {mean:?};")?;
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
            let options = Options::of_seed(seed, None);
            options.common().check().unwrap();
            assert!((5..=60).contains(&options.members));
            assert_eq!(options.to_string(), Options::of_seed(seed, None).to_string());
        }
        for fault in Fault::ALL {
            let with = (0..500)
                .filter(|seed| Options::of_seed(*seed, None).has(fault))
                .count();
            assert!((100..300).contains(&with), "{fault:?} in {with} of 500 seeds");
        }
    }
}
