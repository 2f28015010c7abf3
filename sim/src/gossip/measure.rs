//! Experiments: how fast news spreads, what calm costs, and how often members that are well are taken for dead.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use lictor_gossip::{Config, Interner, Member, MemberEvent};
use lictor_machine::{Instant, NodeId, Rng};

use super::air::{Trouble, Weather};
use super::controls::Keeps;
use super::seat::seat_of;
use super::trace::Seen;
use super::truth::{Fate, Scene, Watch};
use super::world::{Identity, World};
use crate::oracles::{Check, Violation, ensure};

/// How a pool is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How many members.
    pub members: usize,
    /// How often what happens once is tried.
    pub samples: usize,
    /// Without what Lifeguard adds to SWIM.
    pub plain_swim: bool,
}

/// Without what Lifeguard adds, and we: no local health, no suspicion that lasts longer while nobody confirms it, no clock that stands
/// still while the member does.
pub fn plain_swim(config: &mut Config) {
    config.awareness_max = 0;
    config.suspicion_max_timeout_mult = 1;
    config.confirmers = 0;
    config.pause_tolerance = Duration::MAX;
    config.pause_tolerance = Duration::MAX;
}

/// The news that is waited for, and when each member had it.
#[derive(Debug, Default)]
pub struct Spread {
    awaited: Option<(usize, Seen)>,
    since: Instant,
    times: Vec<Option<Duration>>,
    missing: usize,
    false_deaths: u64,
    deaths_of_the_sound: BTreeMap<(NodeId, u64), u64>,
}

impl Spread {
    fn begin(&mut self, scene_members: usize, about: usize, what: Seen, now: Instant, observers: usize) {
        self.awaited = Some((about, what));
        self.since = now;
        self.times = vec![None; scene_members];
        self.missing = observers;
    }
}

impl Watch for Spread {
    fn saw(&mut self, scene: Scene<'_>, at: usize, event: &MemberEvent) -> Check {
        let about = scene.seat_of(event.member().id);
        let seen = Seen::of(event);
        if self.awaited == about.map(|about| (about, seen))
            && about != Some(at)
            && let Some(time @ None) = self.times.get_mut(at)
        {
            *time = Some(scene.now.since(self.since));
            self.missing = self.missing.saturating_sub(1);
        }
        if seen == Seen::Failed
            && let Some(about) = about
            && scene.members[about].fate == Fate::Running
        {
            self.false_deaths += 1;
            if scene.members[about].sound_since.is_some() {
                let member = event.member();
                *self
                    .deaths_of_the_sound
                    .entry((member.id, member.incarnation.0))
                    .or_default() += 1;
            }
        }
        Ok(())
    }
}

/// What theory says of the time until a crash is known, worded.
///
/// The first of n members that probe at random phases, each of them round-robin over a shuffled list, comes to the dead one after a time
/// that is exponential with the mean of one probe interval P (SWIM §3.1); its probe ends after P. Everybody who hears of the suspicion waits
/// for itself, so what follows is the suspicion's time S, at its minimum since others confirm it, and the spreading of one statement:
/// log(n) rounds of gossip, base one plus the members of a round. For 99 % of the crashes the first probe comes within ln(100) P.
pub fn crash_formula(members: usize) -> String {
    let identity = Identity {
        id: NodeId(1),
        name: "m0".to_owned(),
        address: super::seat::Place(0).address(),
        seed: 0,
    };
    let config = Config::lan(identity.id, identity.name, identity.address, identity.seed);
    let seconds = |duration: Duration| duration.as_secs_f64();
    let n = members as f64;
    let probe = seconds(config.probe_interval);
    let suspicion =
        (f64::from(config.suspicion_mult) * n.log10().max(1.0) * probe).max(seconds(config.suspicion_min));
    let spread = (n.ln() / (1.0 + config.gossip_nodes as f64).ln()).ceil() * seconds(config.gossip_interval);
    format!(
        "  theory: mean P + P + S + spread = {:.2} s; for 99 % of crashes ln(100) P + P + S + spread = {:.2} s  (P {probe} s, S {suspicion:.2} s, spread {spread:.2} s)",
        probe * 2.0 + suspicion + spread,
        probe * (100_f64.ln() + 1.0) + suspicion + spread
    )
}

/// Shares equal records of members, as long as somebody holds them.
pub(crate) fn interner() -> Interner {
    let held: Mutex<Vec<Vec<Weak<Member>>>> = Mutex::default();
    Interner(Arc::new(move |member: Member| {
        let Some(seat) = seat_of(member.id) else {
            return Arc::new(member);
        };
        let mut held = held.lock().expect("nobody panics while interning");
        if held.len() <= seat {
            held.resize_with(seat + 1, Vec::new);
        }
        let records = &mut held[seat];
        // The latest are asked for most.
        let mut known = records.iter().rev().filter_map(Weak::upgrade);
        if let Some(found) = known.find(|record| **record == member) {
            return found;
        }
        records.retain(|record| record.strong_count() > 0);
        let member = Arc::new(member);
        records.push(Arc::downgrade(&member));
        member
    }))
}

/// A pool in which everybody knows everybody, and which has come to rest.
pub fn pool(plan: Plan, tune: fn(&mut Config)) -> Result<World<'static, Spread>, Violation> {
    let interner = interner();
    let plain = plan.plain_swim;
    let settings = move |identity: Identity| {
        let mut config = Config::lan(identity.id, identity.name, identity.address, identity.seed);
        config.interner = Some(interner.clone());
        tune(&mut config);
        if plain {
            plain_swim(&mut config);
        }
        config
    };
    let mut world = World::new(plan.seed, Weather::calm(), Box::new(settings), Spread::default());
    for at in 0..plan.members {
        world.add(format!("m{at}"), at < 3, Vec::new());
    }
    world.start_acquainted()?;
    for at in 0..plan.members {
        let size = world.machine(at).map_or(0, lictor_gossip::Gossip::size);
        ensure("introductions are complete", size == plan.members, || {
            format!("m{at} knows {size} members of {}", plan.members)
        })?;
    }
    // What was learnt at the beginning is passed on for a while.
    world.run_for(Duration::from_secs(30))?;
    Ok(world)
}

/// Times, in order.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time below which this many of a thousand are.
    pub fn permille(&self, permille: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        let at = (self.0.len() * permille).div_ceil(1000).clamp(1, last + 1) - 1;
        self.0.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |permille| self.permille(permille).as_secs_f64();
        write!(
            f,
            "p50 {:.2} s, p99 {:.2} s, max {:.2} s",
            seconds(500),
            seconds(990),
            seconds(1000)
        )
    }
}

/// How long something took until half of all members knew, nearly all, all: each over all samples.
#[derive(Clone, Debug)]
pub struct Known {
    /// Until half of them knew.
    pub half: Times,
    /// Until 99 % of them knew.
    pub nearly_all: Times,
    /// Until all of them knew.
    pub all: Times,
    /// Of each member, over all samples.
    pub each: Times,
}

impl Known {
    fn of(samples: Vec<Times>) -> Self {
        let at = |permille| Times::of(samples.iter().map(|times| times.permille(permille)).collect());
        Self {
            half: at(500),
            nearly_all: at(990),
            all: at(1000),
            each: Times::of(samples.iter().flat_map(|times| times.0.iter().copied()).collect()),
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  known to   50 %: {}", self.half)?;
        writeln!(f, "  known to   99 %: {}", self.nearly_all)?;
        writeln!(f, "  known to  100 %: {}", self.all)?;
        write!(f, "  each member:     {}", self.each)
    }
}

/// Waits until everybody has the news.
fn spread(world: &mut World<'_, Spread>, limit: Duration) -> Result<Times, Violation> {
    let end = world.now() + limit;
    while world.watch().missing > 0 && world.now() < end {
        world.run_for(Duration::from_millis(100))?;
    }
    let spread = world.watch();
    ensure("news reaches everybody", spread.missing == 0, || {
        format!(
            "{} members have not heard of {:?} in {limit:?}",
            spread.missing, spread.awaited
        )
    })?;
    Ok(Times::of(spread.times.iter().flatten().copied().collect()))
}

/// Crashes members, one at a time.
pub fn crashes(world: &mut World<'_, Spread>, plan: Plan) -> Result<Known, Violation> {
    let mut rng = Rng::new(plan.seed ^ 0xc7a5);
    let mut samples = Vec::new();
    for _ in 0..plan.samples {
        let up = world.up();
        let Some(at) = rng.pick(&up).copied() else { break };
        let now = world.now();
        let seats = world.scene().members.len();
        world
            .watch_mut()
            .begin(seats, at, Seen::Failed, now, up.len() - 1);
        world.crash(at);
        samples.push(spread(world, Duration::from_mins(2))?);
        world.run_for(rng.between(Duration::from_secs(2), Duration::from_secs(3)))?;
    }
    Ok(Known::of(samples))
}

/// Has new members join, one at a time, each by way of one that is there.
pub fn joins(world: &mut World<'_, Spread>, plan: Plan) -> Result<Known, Violation> {
    let mut rng = Rng::new(plan.seed ^ 0x1014);
    let mut samples = Vec::new();
    for _ in 0..plan.samples {
        let up = world.up();
        let Some(seed) = rng.pick(&up).copied() else { break };
        let new = world.scene().members.len();
        world.add(format!("m{new}"), false, vec![seed]);
        let now = world.now();
        world.watch_mut().begin(new + 1, new, Seen::Joined, now, up.len());
        world.start(new, Keeps::Nothing)?;
        samples.push(spread(world, Duration::from_mins(2))?);
        world.run_for(rng.between(Duration::from_secs(2), Duration::from_secs(3)))?;
    }
    Ok(Known::of(samples))
}

/// What one member sends in a second of calm.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Datagrams.
    pub datagrams: f64,
    /// Their bytes.
    pub datagram_bytes: f64,
    /// Calls.
    pub calls: f64,
    /// Bytes of their requests and replies.
    pub call_bytes: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  per member and second: {:.2} datagrams of together {:.0} B, {:.3} calls of together {:.0} B",
            self.datagrams, self.datagram_bytes, self.calls, self.call_bytes
        )
    }
}

/// Lets nothing happen for a while.
pub fn calm(world: &mut World<'_, Spread>, duration: Duration) -> Result<Cost, Violation> {
    let before = world.tally().clone();
    world.run_for(duration)?;
    let after = world.tally();
    let member_seconds = world.up().len() as f64 * duration.as_secs_f64();
    let rate = |after: u64, before: u64| (after - before) as f64 / member_seconds;
    Ok(Cost {
        datagrams: rate(after.datagrams, before.datagrams),
        datagram_bytes: rate(after.datagram_bytes, before.datagram_bytes),
        calls: rate(after.calls, before.calls),
        call_bytes: rate(after.call_bytes, before.call_bytes),
    })
}

/// What became of members that were well, beside others that were not.
#[derive(Clone, Copy, Debug)]
pub struct FalseDeaths {
    /// How often a member with which nothing was wrong was taken for dead, by anybody: once for each incarnation that was.
    pub deaths: u64,
    /// How many views that changed.
    pub views: u64,
    /// Deaths, in any view, of members that ran, also of those that were unwell.
    pub all_views: u64,
    /// Contradictions.
    pub refutations: u64,
}

impl fmt::Display for FalseDeaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  false deaths of healthy members: {} (in {} views); deaths of running members in any view: {}; refutations: {}",
            self.deaths, self.views, self.all_views, self.refutations
        )
    }
}

/// One member in a hundred loses half its packets, or is frozen for 5 s again and again, each half of them; for `duration`.
pub fn unwell(
    world: &mut World<'_, Spread>,
    plan: Plan,
    duration: Duration,
) -> Result<FalseDeaths, Violation> {
    const FROZEN: Duration = Duration::from_secs(5);
    if plan.plain_swim {
        // SWIM knows datagrams only.
        world.without_streams();
    }
    let mut rng = Rng::new(plan.seed ^ 0x5107);
    let mut members = world.up();
    rng.shuffle(&mut members);
    members.truncate(plan.members.div_ceil(100).max(2));
    let (lossy, freezing) = members.split_at(members.len() / 2);
    for at in lossy {
        let trouble = Trouble {
            loss_permille: 500,
            ..Trouble::default()
        };
        world.set_trouble(*at, trouble);
    }
    for at in freezing {
        world.mark_unsound(*at);
    }
    let before = world.tally().refutations;
    let watch = world.watch_mut();
    watch.false_deaths = 0;
    watch.deaths_of_the_sound.clear();
    let end = world.now() + duration;
    // Awake for as long as frozen, on average.
    let mut due: BTreeMap<Instant, usize> = freezing
        .iter()
        .map(|at| (world.now() + rng.between(Duration::ZERO, FROZEN * 2), *at))
        .collect();
    while let Some((when, at)) = due.pop_first() {
        if when >= end {
            break;
        }
        world.run_until(when)?;
        world.freeze(at, FROZEN);
        due.insert(when + FROZEN + rng.between(Duration::ZERO, FROZEN * 2), at);
    }
    world.run_until(end)?;
    let watch = world.watch();
    Ok(FalseDeaths {
        deaths: watch.deaths_of_the_sound.len() as u64,
        views: watch.deaths_of_the_sound.values().sum(),
        all_views: watch.false_deaths,
        refutations: world.tally().refutations - before,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = Times::of((1..=200).rev().map(Duration::from_secs).collect());
        assert_eq!(times.permille(500), Duration::from_secs(100));
        assert_eq!(times.permille(990), Duration::from_secs(198));
        assert_eq!(times.permille(1000), Duration::from_secs(200));
        assert_eq!(Times::default().permille(500), Duration::ZERO);
    }
}
