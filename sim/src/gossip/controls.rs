//! What a script, or a schedule of faults, does to the members of a world.

use core::time::Duration;

use bytes::Bytes;
use lictor_gossip::{Config, Gossip, Incarnation, Input, Memory, QueryParams, Tags};
use lictor_machine::{Instant, NodeId, Token};

use super::air::{Trouble, Weather};
use super::seat::{Place, Seat};
use super::trace::Record;
use super::truth::{Fate, Scene, Truth, Watch};
use super::world::{Identity, World};
use crate::clock::LocalClock;
use crate::oracles::{Check, Violation};

/// Clocks run up to this many thousandths too fast.
const DRIFT_PERMILLE: u64 = 5;

/// The places below are those that seats begin with.
const FIRST_FRESH_PLACE: u32 = 20_000;

/// What a member that is started has of its earlier life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// What it remembered last.
    All,
    /// What it remembered before that: the latest was not yet on disk.
    Older,
    /// Only its id and name.
    Nothing,
}

impl<W: Watch> World<'_, W> {
    /// A member more, under a name, who is to join whoever sits in `seeds`. It is not started. Returns the number of its seat; its id
    /// is that number plus one.
    pub fn add(&mut self, name: impl Into<String>, server: bool, seeds: Vec<usize>) -> usize {
        let at = self.seats.len();
        let mut tags = Tags::new();
        if server {
            tags.insert(
                lictor_gossip::ROLE_TAG.to_owned(),
                lictor_gossip::SERVER_ROLE.to_owned(),
            );
        }
        self.seats.push(Seat::new(Place(at as u32), server, tags, seeds));
        self.truth.push(Truth {
            id: NodeId(at as u128 + 1),
            name: name.into(),
            fate: Fate::Unborn,
            since: self.now,
            life: 0,
            incarnation: Incarnation::default(),
            left_at: None,
            forced: false,
            sound_since: None,
        });
        self.air.add();
        self.wakes_max += 4;
        at
    }

    /// Starts a member that is not up.
    pub fn start(&mut self, at: usize, keeps: Keeps) -> Check {
        if self.truth[at].fate.is_up() {
            return Ok(());
        }
        let memory = match keeps {
            Keeps::All => self.seats[at].memory[0].clone(),
            Keeps::Older => self.seats[at].memory[1].clone(),
            Keeps::Nothing => {
                self.seats[at].memory = [None, None];
                None
            }
        };
        let has_left = memory.as_ref().is_some_and(|memory| memory.left);
        let memory = memory.unwrap_or_default();
        if core::mem::take(&mut self.seats[at].moves) {
            self.tally.moves += 1;
            self.seats[at].place = self.fresh_place();
        }
        let drift = self.rng.below(DRIFT_PERMILLE + 1) as u32;
        let seed = self.rng.next_u64();
        let config = self.config_of(at, seed);
        let seat = &mut self.seats[at];
        let truth = &mut self.truth[at];
        seat.packet_bytes = config.packet_bytes;
        // Clocks begin anywhere, so that no machine can take an early one for none.
        let origin = Instant::from_nanos(self.now.as_nanos() - self.rng.below(self.now.as_nanos()));
        seat.clock = LocalClock::start(origin, drift);
        let now = seat.clock.now(self.now);
        let machine = Gossip::start(config, memory, now).map_err(|error| Violation {
            property: "starts with what it remembers",
            detail: format!("m{at}: {error}"),
        })?;
        truth.life += 1;
        (truth.fate, truth.since) = (Fate::Running, self.now);
        truth.incarnation = truth.incarnation.max(machine.me().incarnation);
        let (life, incarnation) = (truth.life, machine.me().incarnation);
        seat.machine = Some(machine);
        self.hold(at);
        self.tally.starts += 1;
        self.tally.wiped += u64::from(keeps == Keeps::Nothing && life > 1);
        self.did(at, "starts at incarnation", incarnation.0);
        self.refresh_soundness(at);
        let scene = Scene {
            now: self.now,
            members: &self.truth,
        };
        self.watch.started(scene, at)?;
        self.turn(at)?;
        if has_left || !self.seats[at].seeds.is_empty() {
            self.join_seeds(at)?;
        }
        Ok(())
    }

    /// The settings of a member.
    pub(super) fn config_of(&self, at: usize, seed: u64) -> Config {
        let (seat, truth) = (&self.seats[at], &self.truth[at]);
        let mut config = (self.settings)(Identity {
            id: truth.id,
            name: truth.name.clone(),
            address: seat.place.address(),
            seed,
        });
        config.server = seat.server;
        config.tags = seat.tags.clone();
        config
    }

    /// Whether a member's certificate is a server's.
    pub fn is_server(&self, at: usize) -> bool {
        self.seats[at].server
    }

    /// Has a member be somewhere else when it is started next.
    pub fn move_away(&mut self, at: usize) {
        self.did(at, "will move", 0);
        self.seats[at].moves = true;
    }

    /// Stops a member without a word.
    pub fn crash(&mut self, at: usize) {
        if self.truth[at].fate.is_up() {
            self.tally.crashes += 1;
            self.did(at, "crashes", 0);
            self.end(at, Fate::Crashed);
        }
    }

    /// Stops all of them at once.
    pub fn power_cut(&mut self) {
        self.tally.power_cuts += 1;
        self.record(Record::Phase("power cut"));
        for at in self.up() {
            self.crash(at);
        }
    }

    /// Notes that a member takes the place of one that is lost.
    pub const fn count_replacement(&mut self) {
        self.tally.replaced += 1;
    }

    /// Has a member leave in good order. It is gone when it has told the others, or given up telling.
    pub fn leave(&mut self, at: usize) -> Check {
        if self.truth[at].fate != Fate::Running || self.seats[at].frozen {
            return Ok(());
        }
        self.did(at, "leaves", 0);
        let truth = &mut self.truth[at];
        truth.fate = Fate::Leaving;
        self.input(at, Input::Leave)
    }

    /// Has a member make others take somebody for left. Returns the request's token.
    pub fn force_leave(&mut self, at: usize, whom: usize, prune: bool) -> Result<Option<Token>, Violation> {
        self.truth[whom].forced = true;
        self.tally.forced += u64::from(!prune);
        self.tally.pruned += u64::from(prune);
        let name = self.truth[whom].name.clone();
        self.did(at, if prune { "prunes" } else { "forces to leave" }, whom as u64);
        self.request(at, |token| Input::ForceLeave { token, name, prune })
    }

    /// Changes what a member says of itself.
    pub fn retag(&mut self, at: usize, key: &str, value: &str) -> Check {
        if !self.truth[at].fate.is_up() {
            return Ok(());
        }
        self.tally.retagged += 1;
        self.seats[at].tags.insert(key.to_owned(), value.to_owned());
        let tags = self.seats[at].tags.clone();
        self.input(at, Input::SetTags(tags))
    }

    /// What a member says of itself, or will when it is started.
    pub fn tags(&self, at: usize) -> &Tags {
        &self.seats[at].tags
    }

    /// Where a member is, or will be when it is started.
    pub fn address(&self, at: usize) -> std::net::SocketAddr {
        self.seats[at].place.address()
    }

    /// Has a member tell everybody something. Returns the request's token, if it was taken.
    pub fn fire(&mut self, at: usize, name: &str, payload: Bytes) -> Result<Option<Token>, Violation> {
        self.tally.user_events += 1;
        let name = name.to_owned();
        self.request(at, |token| Input::UserEvent {
            token,
            name,
            payload,
            coalesce: false,
        })
    }

    /// Has a member ask everybody something.
    pub fn query(&mut self, at: usize, params: QueryParams) -> Result<Option<Token>, Violation> {
        self.tally.queries += 1;
        self.request(at, |token| Input::Query { token, params })
    }

    /// Freezes a member: nothing runs there, while its clock goes on and its packets wait.
    pub fn freeze(&mut self, at: usize, duration: Duration) {
        if !self.truth[at].fate.is_up() || self.seats[at].frozen {
            return;
        }
        self.tally.freezes += 1;
        self.did(at, "is frozen, for ms", duration.as_millis() as u64);
        let seat = &mut self.seats[at];
        seat.frozen = true;
        seat.wake_at = Instant::MAX;
        self.truth[at].sound_since = None;
        self.resume_later(at, duration);
    }

    /// Something is wrong with a member, whatever else is known of it: it is not to be counted among the well.
    pub fn mark_unsound(&mut self, at: usize) {
        self.seats[at].unsound = true;
        self.refresh_soundness(at);
    }

    /// Whether a member is frozen.
    pub fn is_frozen(&self, at: usize) -> bool {
        self.seats[at].frozen
    }

    /// Has everything take up to this much longer at a member.
    pub fn slow_down(&mut self, at: usize, by: Duration) {
        self.tally.slowed += u64::from(by > Duration::ZERO);
        self.did(at, "is slow, by ms", by.as_millis() as u64);
        self.seats[at].slow = by;
        self.refresh_soundness(at);
    }

    /// Sets what is wrong with a member's network.
    pub fn set_trouble(&mut self, at: usize, trouble: Trouble) {
        self.tally.lossy += u64::from(trouble.loss_permille > 0);
        self.tally.one_plane += u64::from(trouble.no_datagrams || trouble.no_streams);
        self.did(at, "has trouble", trouble.loss_permille);
        self.air.set_trouble(at, trouble);
        self.refresh_soundness(at);
    }

    /// Puts members into groups that cannot reach each other; who is not named stays in group 0.
    pub fn partition(&mut self, groups: &[(usize, u32)]) {
        self.tally.partitions += 1;
        for (at, group) in groups {
            self.did(*at, "is in group", u64::from(*group));
            self.air.set_group(*at, *group);
        }
        self.refresh_all();
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.tally.cuts += 1;
        self.did(from, "is cut off from", to as u64);
        self.air.cut(from, to);
    }

    /// Mends partitions and cuts.
    pub fn heal_partitions(&mut self) {
        self.record(Record::Phase("partitions heal"));
        self.air.heal_partitions();
        self.refresh_all();
    }

    /// Changes the weather.
    pub fn set_weather(&mut self, weather: Weather) {
        self.air.set_weather(weather);
    }

    /// Takes the streams from everybody.
    pub const fn without_streams(&mut self) {
        self.air.without_streams();
    }

    /// Mends everything; who is frozen goes on when its time comes.
    pub fn calm(&mut self) {
        self.record(Record::Phase("calm"));
        self.air.heal();
        self.air.set_weather(Weather::calm());
        for seat in &mut self.seats {
            seat.slow = Duration::ZERO;
        }
        self.refresh_all();
    }

    /// All members that are up.
    pub fn up(&self) -> Vec<usize> {
        (0..self.truth.len())
            .filter(|at| self.truth[*at].fate.is_up())
            .collect()
    }

    /// Gives a member an input that it has no reason to refuse.
    pub fn input(&mut self, at: usize, input: Input) -> Check {
        self.ask(at, input)?.map_err(|reject| Violation {
            property: "takes requests",
            detail: format!("m{at}: {reject}"),
        })
    }

    fn request(&mut self, at: usize, input: impl FnOnce(Token) -> Input) -> Result<Option<Token>, Violation> {
        if !self.truth[at].fate.is_up() || self.seats[at].frozen {
            return Ok(None);
        }
        self.next_token += 1;
        let token = Token(self.next_token);
        let scene = Scene {
            now: self.now,
            members: &self.truth,
        };
        self.watch.asked(scene, at, token);
        self.input(at, input(token))?;
        Ok(Some(token))
    }

    /// What a member remembers.
    pub fn memory(&self, at: usize) -> Option<&Memory> {
        self.seats[at].memory[0].as_ref()
    }

    fn fresh_place(&mut self) -> Place {
        self.next_place += 1;
        Place(FIRST_FRESH_PLACE + self.next_place)
    }

    fn hold(&mut self, at: usize) {
        let place = self.seats[at].place.0 as usize;
        if self.holders.len() <= place {
            self.holders.resize(place + 1, None);
        }
        self.holders[place] = Some(at as u32);
    }

    fn refresh_all(&mut self) {
        for at in 0..self.seats.len() {
            self.refresh_soundness(at);
        }
    }

    /// Notes since when nothing is wrong with a member.
    pub(super) fn refresh_soundness(&mut self, at: usize) {
        let sound = self.truth[at].fate.is_up()
            && !self.seats[at].frozen
            && !self.seats[at].unsound
            && self.seats[at].slow.is_zero()
            && self.air.trouble(at) == Trouble::default()
            && !self.air.is_parted();
        let since = &mut self.truth[at].sound_since;
        *since = if sound { since.or(Some(self.now)) } else { None };
    }
}
