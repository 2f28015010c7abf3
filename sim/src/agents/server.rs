//! The server within an agent: its disk, its readers, and what clients ask of it.

use core::time::Duration;

use bytes::Bytes;
use lictor_catalog::Outcome;
use lictor_machine::{Index, Token};
use lictor_node::agent::{Input, Pool};
use lictor_node::store::decode_rows;
use lictor_node::wire::{encode_call, encode_raft, encode_reply};
use lictor_node::{Effect, Request, RequestError, Target};
use lictor_raft::{Fetch, FetchId, Fetched, ReadMode, Role};

use super::world::{Caller, Cargo, Event, World, violation};
use crate::disk::{DecodeRows, LogWrite, StateWrite};
use crate::gossip::seat::Place;
use crate::oracles::Check;
use crate::workload::{Answer, Freshness, Op, held};

/// How long a disk takes, at most.
const DISK_LATENCY: Duration = Duration::from_millis(2);

/// Reads the chunks of snapshots.
pub(super) fn decoder() -> DecodeRows {
    |chunk| decode_rows(chunk).map_err(|error| error.to_string())
}

impl World<'_> {
    pub(super) fn perform_server(&mut self, at: usize, effect: Effect) -> Check {
        let life = self.truth[at].life;
        let seat = &mut self.seats[at];
        match effect {
            Effect::Persist(batch) => seat.disk.issue(LogWrite::Batch(batch)),
            Effect::SaveNotes(notes) => seat.disk.issue(LogWrite::Notes(notes)),
            Effect::Store(batch) => seat.disk.issue_state(StateWrite::Batch(batch)),
            Effect::ReplaceState(meta) => seat.disk.issue_state(StateWrite::Replace(meta)),
            Effect::StoreWhole { applied, state } => {
                seat.disk.issue_state(StateWrite::Whole(applied, state));
            }
            Effect::Send { to, cluster, message } => {
                if seat.cluster.replace(cluster) != Some(cluster) {
                    self.raft.member(at, cluster)?;
                }
                self.raft.sent(at, to, &message)?;
                let bytes = Bytes::from(encode_raft(cluster, &message));
                self.send_raft(at, to, message.body.lane(), bytes);
            }
            Effect::Fetch {
                id,
                what:
                    Fetch::Entries {
                        first,
                        last,
                        max_bytes,
                    },
            } => {
                let range = (first, last, max_bytes);
                let when = self.now + self.rng.between(Duration::ZERO, DISK_LATENCY);
                self.queue.push(when, Event::Read { at, life, id, range });
            }
            Effect::Fetch {
                what: Fetch::Chunk { .. },
                ..
            } => {
                return Err(violation(
                    "the driver's contract",
                    format!("m{at} asks for a chunk"),
                ));
            }
            Effect::Publish(published) => {
                seat.published = published.state.clone();
                self.raft.published(at, &published.state, &published.touched)?;
                self.readers.published(at, &published.state, &published.touched)?;
                if let Some(play) = &mut self.play {
                    play.witness.published(at, &published.state)?;
                }
            }
            Effect::Standing(standing) => {
                let leads = standing.role == Role::Leader;
                let led = seat
                    .standing
                    .as_ref()
                    .is_some_and(|before| before.role == Role::Leader);
                let term = standing.term.0;
                seat.standing = Some(standing);
                if leads && !led {
                    self.elections += 1;
                    self.did(at, "leads in term", term);
                }
            }
            Effect::Call {
                id,
                to,
                call,
                timeout,
            } => {
                let place = match to {
                    Target::Node(id) => self.route(at, Pool::Lan, id),
                    Target::Address(address) => Place::of(address),
                };
                let bytes = Bytes::from(encode_call(&call));
                self.send_call(at, Caller::Server(id), place, Cargo::Bytes(bytes), timeout);
            }
            Effect::Reply { id, reply } => {
                self.send_reply(id.0, at, Ok(Cargo::Bytes(Bytes::from(encode_reply(&reply)))));
            }
            Effect::Answer { token, answer } => self.answered(at, token, answer)?,
            Effect::Address(peer) => {
                seat.routes.insert((Pool::Lan, peer.id), peer.address);
            }
            Effect::Expel(_) | Effect::Removed | Effect::Event(_) | Effect::Stopped => {}
        }
        Ok(())
    }

    pub(super) fn begin_writes(&mut self, at: usize) {
        let life = self.truth[at].life;
        if !self.seats[at].server {
            return;
        }
        if self.seats[at].disk.begin().is_some() {
            let when = self.now + self.rng.between(DISK_LATENCY / 20, DISK_LATENCY);
            self.queue.push(when, Event::LogWritten { at, life });
        }
        if self.seats[at].disk.begin_state() {
            let when = self.now + self.rng.between(DISK_LATENCY / 20, DISK_LATENCY);
            self.queue.push(when, Event::StateWritten { at, life });
        }
    }

    pub(super) fn log_written(&mut self, at: usize) -> Check {
        let life = self.truth[at].life;
        let finished = self.seats[at]
            .disk
            .finish()
            .map_err(|detail| violation("storage contract", detail))?;
        self.raft.durable(at, &finished.durable)?;
        if let Some(through) = finished.through {
            self.server_input(at, lictor_node::Input::Persisted { through })?;
        }
        for _ in 0..finished.notes {
            if self.lives(at, life) {
                self.server_input(at, lictor_node::Input::NotesSaved)?;
            }
        }
        if self.lives(at, life) {
            self.begin_writes(at);
        }
        Ok(())
    }

    pub(super) fn state_written(&mut self, at: usize) -> Check {
        let life = self.truth[at].life;
        let applied = self.seats[at]
            .disk
            .finish_state(decoder())
            .map_err(|detail| violation("storage contract", detail))?;
        self.server_input(
            at,
            lictor_node::Input::StateStored {
                applied: applied.index,
            },
        )?;
        if self.lives(at, life) {
            self.begin_writes(at);
        }
        Ok(())
    }

    pub(super) fn read(&mut self, at: usize, id: FetchId, range: (Index, Index, usize)) -> Check {
        let (first, last, max_bytes) = range;
        let entries = self.seats[at]
            .disk
            .entries(first, last, max_bytes)
            .map_err(|detail| violation("storage contract", detail))?;
        let data = Fetched::Entries(entries);
        self.server_input(at, lictor_node::Input::Fetched { id, data })
    }

    fn server_input(&mut self, at: usize, input: lictor_node::Input) -> Check {
        self.give(at, None, Input::Server(input))
    }

    /// A client asks a server that is up.
    pub(super) fn request(&mut self, at: usize, op: Op) -> Check {
        if self.seats[at].frozen || !self.truth[at].fate.is_up() || self.seats[at].open.len() > 50 {
            return Ok(());
        }
        self.next_token += 1;
        let token = Token(self.next_token);
        self.raft.asked(at, token, op);
        let request = match op {
            Op::Write(change) => Request::Write(change.action()),
            Op::Transfer => Request::TransferLeadership(None),
            Op::Reconfigure(_) => return self.raft.answered(at, token, &Answer::Refused),
            Op::Get { key, freshness } => match freshness {
                Freshness::Stale => return self.answer_read(at, token, key),
                Freshness::Default if self.leads_by_lease(at) => return self.answer_read(at, token, key),
                Freshness::Default => Request::Read(ReadMode::Lease),
                Freshness::Consistent => Request::Read(ReadMode::Quorum),
            },
        };
        self.seats[at].open.insert(token, op);
        self.server_input(at, lictor_node::Input::Request { token, request })
    }

    pub(super) fn leads_by_lease(&self, at: usize) -> bool {
        let now = self.seats[at].clock.now(self.now).mono;
        self.seats[at].standing.as_ref().is_some_and(|standing| {
            standing.role == Role::Leader && standing.lease_until.is_some_and(|until| now < until)
        })
    }

    fn answer_read(&mut self, at: usize, token: Token, key: u8) -> Check {
        let published = &self.seats[at].published;
        let answer = Answer::Value {
            index: published.index(),
            held: held(published, key),
        };
        self.raft.answered(at, token, &answer)
    }

    fn answered(&mut self, at: usize, token: Token, answer: lictor_node::Answer) -> Check {
        if let Some((asker, question)) = self.seats[at].asks.remove(&token) {
            return self.served(at, asker, &question, answer);
        }
        if let Some(errand) = self.seats[at].errands.remove(&token) {
            return self.did_errand(at, errand, answer);
        }
        let op = self.seats[at].open.remove(&token);
        let answer = match (answer, op) {
            (lictor_node::Answer::Readable { index }, Some(Op::Get { key, .. })) => {
                let published = self.seats[at].published.index();
                if published < index {
                    return Err(violation(
                        "what may be read is published",
                        format!("m{at}: {index} may be read, {published} is published"),
                    ));
                }
                return self.answer_read(at, token, key);
            }
            (
                lictor_node::Answer::Written {
                    index,
                    outcome: Outcome::Done(done),
                },
                Some(Op::Write(_)),
            ) => {
                self.acknowledged += 1;
                self.longest_silence = self.longest_silence.max(self.now.since(self.last_acknowledged));
                self.last_acknowledged = self.now;
                Answer::Written { index, done }
            }
            (lictor_node::Answer::Transferred, Some(Op::Transfer)) => Answer::Transferred(true),
            (lictor_node::Answer::Failed(error), Some(_)) => failure(&error),
            (answer, op) => {
                return Err(violation(
                    "requests are answered",
                    format!("m{at} answers {op:?} with {answer:?}"),
                ));
            }
        };
        self.raft.answered(at, token, &answer)
    }
}

fn failure(error: &RequestError) -> Answer {
    match error {
        RequestError::NoLeader
        | RequestError::Busy
        | RequestError::TooLarge { .. }
        | RequestError::Refused(_) => Answer::Refused,
        RequestError::LeadershipLost | RequestError::Stopped(_) => Answer::Unknown,
        RequestError::NotTransferred(_) => Answer::Transferred(false),
    }
}
