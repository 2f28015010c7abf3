//! What must be true of every run of a pool, whatever happens in it.
//!
//! Every transition of every member's view is held against the truth as it happens; the rest is looked at when a turn ends, and in calm.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_gossip::{Effect, Gossip, Incarnation, LamportTime, MemberEvent, MemberState, UserEvent};
use lictor_machine::{Instant, NodeId, Token};

use super::seat::seat_of;
use super::trace::Seen;
use super::truth::{Fate, Scene, Truth, Watch};
use crate::oracles::{Check, ensure};

/// Turns between two looks at a whole machine.
const LOOK_EVERY: u64 = 61;

/// What the machines of a run must stay below.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How often any statement is sent, at most.
    pub transmissions: u32,
    /// How many statements wait to be passed on, at most.
    pub broadcasts: usize,
    /// How many members are remembered not to come back, at most.
    pub tombstones: usize,
}

/// What an oracle counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Deaths seen of members that ran.
    pub false_deaths: u64,
    /// Of those, members with which nothing was wrong, seen by members with which nothing was wrong.
    pub deaths_of_the_sound: u64,
    /// User events delivered.
    pub delivered: u64,
    /// Of those, delivered after one with a higher time.
    pub out_of_order: u64,
    /// Answers to queries.
    pub responses: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Oracles {
    bounds: Bounds,
    /// By observer, then by subject: what the events say.
    views: Vec<BTreeMap<usize, View>>,
    /// Requests without an answer, and who owes it since when.
    open: BTreeMap<Token, (usize, Instant)>,
    /// Who has answered each query.
    responders: BTreeSet<(Token, NodeId)>,
    fired: BTreeMap<Bytes, (NodeId, Instant)>,
    heard: Vec<Heard>,
    turns: u64,
    counts: Counts,
    /// Everybody's view has been the truth; nothing must change any more.
    settled: bool,
}

#[derive(Clone, Copy, Debug)]
struct View {
    /// `None`: it was forgotten.
    state: Option<MemberState>,
    incarnation: Incarnation,
    /// The highest incarnation at which it was known to be gone.
    gone_at: Option<Incarnation>,
}

#[derive(Debug, Default)]
struct Heard {
    since: Instant,
    events: BTreeSet<(LamportTime, NodeId, Bytes)>,
    latest: LamportTime,
}

impl Oracles {
    /// Oracles for a run.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            views: Vec::new(),
            open: BTreeMap::new(),
            responders: BTreeSet::new(),
            fired: BTreeMap::new(),
            heard: Vec::new(),
            turns: 0,
            counts: Counts::default(),
            settled: false,
        }
    }

    /// What was counted.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Somebody is about to tell everybody something. Contents must differ in a run.
    pub fn will_fire(&mut self, origin: NodeId, payload: Bytes, now: Instant) {
        self.fired.insert(payload, (origin, now));
    }

    /// From now on nothing must change; or it may again.
    pub const fn settle(&mut self, settled: bool) {
        self.settled = settled;
    }

    /// Requests of members that are up, and that have been open since before `since`.
    pub fn unanswered(&self, scene: Scene<'_>, since: Instant) -> Check {
        for (token, (at, asked)) in &self.open {
            ensure(
                "requests are answered once",
                *asked > since || !scene.members[*at].fate.is_up(),
                || format!("m{at} owes an answer to {token:?} since {asked:?}"),
            )?;
        }
        Ok(())
    }

    /// Events that somebody who is up has heard must have been heard by everybody who has been up since before they were fired.
    pub fn events_heard(&self, scene: Scene<'_>, joined_by: Instant) -> Check {
        for (payload, (origin, fired)) in &self.fired {
            let mut have = Vec::new();
            let mut lack = Vec::new();
            for (at, heard) in self.heard.iter().enumerate() {
                if scene.members[at].fate != Fate::Running {
                    continue;
                }
                if heard.events.iter().any(|(_, _, known)| known == payload) {
                    have.push(at);
                } else if heard.since <= joined_by && *fired > joined_by {
                    lack.push(at);
                }
            }
            ensure(
                "user events reach everybody",
                have.is_empty() || lack.is_empty(),
                || {
                    format!(
                        "the event {payload:?} of {origin:?}, fired at {fired:?}: {have:?} have heard it, {lack:?} have not"
                    )
                },
            )?;
        }
        Ok(())
    }

    fn heard(&mut self, scene: Scene<'_>, at: usize, event: &UserEvent) -> Check {
        let Some((origin, fired)) = self.fired.get(&event.payload) else {
            return ensure("user events are what was said", false, || {
                format!("m{at} hears {event:?}, which nobody said")
            });
        };
        ensure(
            "user events are what was said",
            *origin == event.origin && *fired <= scene.now,
            || format!("m{at} hears {event:?}, which {origin:?} said"),
        )?;
        let heard = &mut self.heard[at];
        let new = heard
            .events
            .insert((event.time, event.origin, event.payload.clone()));
        ensure("user events come once", new, || {
            format!("m{at} hears {event:?} again")
        })?;
        self.counts.delivered += 1;
        self.counts.out_of_order += u64::from(event.time < heard.latest);
        heard.latest = heard.latest.max(event.time);
        Ok(())
    }
}

impl Watch for Oracles {
    fn started(&mut self, scene: Scene<'_>, at: usize) -> Check {
        if self.views.len() <= at {
            self.views.resize_with(at + 1, BTreeMap::new);
            self.heard.resize_with(at + 1, Heard::default);
        }
        // Of itself a member begins with knowing that it lives.
        let me = View {
            state: Some(MemberState::Alive),
            incarnation: Incarnation::default(),
            gone_at: None,
        };
        self.views[at] = BTreeMap::from([(at, me)]);
        self.heard[at] = Heard {
            since: scene.now,
            ..Heard::default()
        };
        self.open.retain(|_, (who, _)| *who != at);
        Ok(())
    }

    fn asked(&mut self, scene: Scene<'_>, at: usize, token: Token) {
        self.open.insert(token, (at, scene.now));
    }

    fn saw(&mut self, scene: Scene<'_>, at: usize, event: &MemberEvent) -> Check {
        let (seen, member) = (Seen::of(event), event.member());
        let Some(about) = scene.seat_of(member.id) else {
            return ensure("nobody is made up", false, || {
                format!("m{at} sees {event:?}, who does not exist")
            });
        };
        let truth = &scene.members[about];
        let say = |why: &str| format!("m{at} sees m{about}: {why}; {event:?}, in truth {truth:?}");
        ensure("nobody is made up", truth.life > 0, || {
            say("it was never started")
        })?;
        ensure(
            "incarnations are made by their members",
            member.incarnation <= truth.incarnation,
            || say("it never had such an incarnation"),
        )?;
        let old = self.views[at].get(&about).copied();
        // Only of those that are gone some may hear later than others.
        let late = !truth.fate.is_up() && !member.state.is_well();
        ensure("calm is quiet", !self.settled || late, || {
            say("nothing has happened to it")
        })?;
        if at != about {
            check_transition(old.and_then(|view| view.state), seen, member.state)
                .map_err(&say)
                .or_else(|detail| ensure("states follow each other", false, || detail))?;
        }
        if let Some(old) = old {
            ensure(
                "incarnations never go back",
                old.state.is_none() || member.incarnation >= old.incarnation,
                || say(&format!("it was at incarnation {}", old.incarnation)),
            )?;
            let back = member.state.is_well() && seen != Seen::Reaped;
            ensure(
                "no resurrection",
                !back || old.gone_at.is_none_or(|gone| gone < member.incarnation),
                || say(&format!("it was known to be gone at {:?}", old.gone_at)),
            )?;
            ensure(
                "left is not failed",
                seen != Seen::Failed
                    || !matches!(old.state, Some(MemberState::Left | MemberState::Leaving))
                    || member.incarnation > old.incarnation,
                || say("it was known to leave"),
            )?;
        }
        // Who was about to leave stays so, whatever else it says, until it says that it is back; and that is heard by some before others.
        let is_back = member.state == MemberState::Leaving && truth.left_at.is_some();
        let leaves = matches!(member.state, MemberState::Left | MemberState::Leaving) && seen != Seen::Reaped;
        if leaves && !is_back {
            ensure(
                "failed is not left",
                may_have_left(truth, member.incarnation),
                || say("it never left at that incarnation"),
            )?;
        }
        ensure(
            "nobody gives itself up",
            seen != Seen::Failed || at != about,
            || say("that is itself"),
        )?;
        if seen == Seen::Failed && truth.fate == Fate::Running {
            self.counts.false_deaths += 1;
            let sound = truth.sound_since.is_some() && scene.members[at].sound_since.is_some();
            self.counts.deaths_of_the_sound += u64::from(sound);
        }
        let gone = matches!(seen, Seen::Failed | Seen::Left);
        let gone_at = old.and_then(|view| view.gone_at);
        let view = View {
            state: (seen != Seen::Reaped).then_some(member.state),
            incarnation: member.incarnation,
            gone_at: if gone {
                gone_at.max(Some(member.incarnation))
            } else {
                gone_at
            },
        };
        self.views[at].insert(about, view);
        Ok(())
    }

    fn did(&mut self, scene: Scene<'_>, at: usize, effect: &Effect) -> Check {
        match effect {
            Effect::Answer { token, answer } => {
                let asked = self.open.remove(token).is_some_and(|(who, _)| who == at);
                ensure("requests are answered once", asked, || {
                    format!("m{at} answers {token:?} with {answer:?}, which it was not asked or has answered")
                })
            }
            Effect::UserEvent(event) => self.heard(scene, at, event),
            Effect::QueryResponse { token, response } => {
                self.counts.responses += 1;
                let known = scene.seat_of(response.from).is_some();
                let asked = self.open.get(token).is_some_and(|(who, _)| *who == at);
                ensure("queries are answered once by each", asked && known, || {
                    format!("m{at} gets {response:?} to {token:?}, which is not open")
                })?;
                let new = self.responders.insert((*token, response.from));
                ensure("queries are answered once by each", new, || {
                    format!("m{at} gets another answer to {token:?}: {response:?}")
                })
            }
            Effect::Packet { .. }
            | Effect::Call { .. }
            | Effect::Reply { .. }
            | Effect::Address { .. }
            | Effect::Forget(_)
            | Effect::Member(_)
            | Effect::Query(_)
            | Effect::QueryAck { .. }
            | Effect::Remember(_)
            | Effect::Event(_)
            | Effect::Left => Ok(()),
        }
    }

    fn turned(&mut self, scene: Scene<'_>, at: usize, machine: &Gossip) -> Check {
        self.turns += 1;
        if !self.turns.is_multiple_of(LOOK_EVERY) {
            return Ok(());
        }
        let stats = machine.stats();
        let Bounds {
            transmissions,
            broadcasts,
            tombstones,
        } = self.bounds;
        ensure(
            "boundedness",
            stats.transmissions_max <= transmissions
                && stats.broadcasts_queued <= broadcasts
                && stats.tombstones <= tombstones
                && stats.members <= scene.members.len(),
            || format!("m{at}: {stats:?}; the bounds are {:?}", self.bounds),
        )
    }
}

/// Whether the events of a member tell all that its table holds. To be asked when no event is under way.
pub fn tables_match(oracles: &Oracles, at: usize, machine: &Gossip) -> Check {
    let views = oracles.views[at].iter();
    let told: BTreeMap<usize, MemberState> = views
        .filter_map(|(about, view)| Some((*about, view.state?)))
        .collect();
    let held = machine
        .members()
        .filter_map(|member| Some((seat_of(member.id)?, member.state)));
    let held: BTreeMap<usize, MemberState> = held.collect();
    ensure("events tell all", told == held, || {
        format!("m{at} has told {told:?}, and holds {held:?}")
    })
}

/// Whether it may be said of a member that it left, or is about to, at an incarnation.
fn may_have_left(truth: &Truth, incarnation: Incarnation) -> bool {
    truth.forced || truth.fate == Fate::Leaving || truth.left_at.is_some_and(|left| incarnation <= left)
}

/// Whether an event makes sense after what was known before.
fn check_transition(old: Option<MemberState>, seen: Seen, new: MemberState) -> Result<(), &'static str> {
    let was_gone = matches!(old, None | Some(MemberState::Failed | MemberState::Left));
    match seen {
        Seen::Joined if !was_gone => Err("it was there already"),
        Seen::Joined
            if !matches!(
                new,
                MemberState::Alive | MemberState::Suspect | MemberState::Leaving
            ) =>
        {
            Err("nobody joins in such a state")
        }
        Seen::Updated if was_gone => Err("who is gone is not updated"),
        Seen::Updated
            if !matches!(
                new,
                MemberState::Alive | MemberState::Suspect | MemberState::Leaving
            ) =>
        {
            Err("that is no update")
        }
        Seen::Failed if matches!(old, Some(MemberState::Failed)) => Err("it had failed already"),
        Seen::Failed if new != MemberState::Failed => Err("it is not failed"),
        Seen::Left if matches!(old, Some(MemberState::Left)) => Err("it had left already"),
        Seen::Left if new != MemberState::Left => Err("it has not left"),
        Seen::Reaped if old.is_none() => Err("who is not known is not forgotten"),
        Seen::Joined | Seen::Updated | Seen::Failed | Seen::Left | Seen::Reaped => Ok(()),
    }
}
