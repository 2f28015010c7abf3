//! Forming a large pool at once: ten thousand joins, each told to everybody by gossip, would take longer than what is to be measured.

use bytes::Bytes;
use lictor_gossip::event::EventDigest;
use lictor_gossip::wire::{BUCKETS, PacketBuilder, Part, PoolTag, Profile, Statement, Step, Summary};
use lictor_gossip::{CallId, Input, LamportTime, Memory, RememberedPeer, Sender};

use super::controls::Keeps;
use super::truth::Watch;
use super::world::World;
use crate::oracles::{Check, Violation};

impl<W: Watch> World<'_, W> {
    /// Starts every member, with everybody knowing everybody.
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
