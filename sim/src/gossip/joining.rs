//! How members come to know each other: as a driver that is told whom to join does it, or all at once.

use core::time::Duration;

use bytes::Bytes;
use lictor_gossip::event::EventDigest;
use lictor_gossip::wire::{BUCKETS, PacketBuilder, Part, PoolTag, Profile, Statement, Step, Summary};
use lictor_gossip::{CallId, Input, LamportTime, Memory, RememberedPeer, Sender};
use lictor_machine::Token;

use super::controls::Keeps;
use super::truth::{Scene, Watch};
use super::world::{Event, World};
use crate::oracles::{Check, Violation};

/// How long a member waits before it tries again to join.
pub(super) const REJOIN: Duration = Duration::from_secs(5);

/// How often a member that has joined looks whether it knows any of those whom it was to join.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(20);

impl<W: Watch> World<'_, W> {
    /// Joins whom a member is to join, unless it knows one of them: a few that were cut off together, and whose addresses have changed
    /// since, would otherwise stay among themselves.
    pub(super) fn join_seeds(&mut self, at: usize) -> Check {
        if self.seats[at].frozen {
            self.join_later(at, REJOIN);
            return Ok(());
        }
        let seeds = self.seats[at].seeds.clone();
        if seeds.is_empty() || seeds.iter().any(|seed| self.knows(at, *seed)) {
            self.join_later(at, LOOK_AGAIN);
            return Ok(());
        }
        let addresses = seeds.iter().map(|seed| self.address(*seed)).collect();
        self.next_token += 1;
        let token = Token(self.next_token);
        self.joins.insert(token, at as u32);
        let scene = Scene {
            now: self.now,
            members: &self.truth,
        };
        self.watch.asked(scene, at, token);
        if self.ask(at, Input::Join { token, addresses })?.is_err() {
            self.joins.remove(&token);
            self.join_later(at, REJOIN);
        }
        Ok(())
    }

    /// Whether a member holds another for well, and where it is.
    fn knows(&self, at: usize, other: usize) -> bool {
        let known = self
            .machine(at)
            .and_then(|machine| machine.member(self.truth[other].id));
        known.is_some_and(|known| known.state.is_well() && known.address == self.address(other))
    }

    pub(super) fn join_later(&mut self, at: usize, after: Duration) {
        let event = Event::Join {
            at: at as u32,
            life: self.truth[at].life,
        };
        self.queue.push(self.now + after, event);
    }

    /// Starts every member, with everybody knowing everybody: ten thousand joins, each told to all by gossip, would take longer than what is
    /// to be measured.
    ///
    /// Each is started as one that comes back and remembers another, and that one's answer, which nobody really gives, tells it of all.
    pub fn start_acquainted(&mut self) -> Check {
        let seats = self.seats.len();
        let mut calls = Vec::with_capacity(seats);
        for at in 0..seats {
            calls.push(self.start_asking(at, usize::from(at == 0))?);
        }
        let answer = self.everybody().ok_or_else(|| Violation {
            property: "introductions are complete",
            detail: "there are more members than one answer has room for".to_owned(),
        })?;
        for (at, id) in calls.into_iter().enumerate() {
            let result = Ok((self.identity(usize::from(at == 0)), answer.clone()));
            self.input(at, Input::CallDone { id, result })?;
        }
        Ok(())
    }

    /// Starts a member that remembers another, and holds back its call.
    fn start_asking(&mut self, at: usize, other: usize) -> Result<CallId, Violation> {
        self.seats[at].memory[0] = Some(Memory {
            peers: vec![RememberedPeer {
                id: self.truth[other].id,
                address: self.address(other),
            }],
            ..Memory::default()
        });
        self.holding = true;
        // It looks for others as soon as it is looked at.
        let started = self.start(at, Keeps::All).and_then(|()| self.wake(at));
        self.holding = false;
        started?;
        self.held.take().ok_or_else(|| Violation {
            property: "introductions are complete",
            detail: format!("m{at} does not call whom it remembers"),
        })
    }

    /// What somebody says who knows everybody; `None` if that is too much.
    fn everybody(&self) -> Option<Bytes> {
        let mut answer = PacketBuilder::call(PoolTag::new(&self.config_of(0, 0).pool));
        let summary = Part::Summary(Summary {
            step: Step::Reply,
            clocks: [LamportTime(0); 3],
            buckets: vec![0; BUCKETS],
            events: EventDigest::default(),
        });
        let mut fits = answer.push_part(&summary);
        for machine in self.seats.iter().filter_map(|seat| seat.machine.as_ref()) {
            let me = machine.me();
            fits &= answer.push_part(&Part::Statement(Statement::State {
                profile: Profile {
                    id: me.id,
                    incarnation: me.incarnation,
                    name: me.name.clone(),
                    address: me.address,
                    tags: me.tags.clone(),
                },
                state: me.state,
                time: LamportTime(0),
                gone_seconds: 0,
            }));
        }
        fits.then(|| answer.finish())
    }

    fn identity(&self, at: usize) -> Sender {
        Sender {
            id: self.truth[at].id,
            name: self.truth[at].name.clone(),
            server: self.is_server(at),
            address: self.address(at),
        }
    }
}
