//! The turns of servers: what they are given, and what they want done.

use core::time::Duration;

use lictor_raft::{Role, Status};

use super::event::{Body, Event, Packet};
use super::{World, storage, violation};
use crate::disk::{LogWrite, StateWrite};
use crate::host::{Act, Host, Mark, Stimulus};
use crate::network::Channel;
use crate::oracles::Check;
use crate::trace::{Record, gist, write_gist};

impl<H: Host> World<'_, H> {
    /// Gives a server an input. One that is asleep finds it later; one that is down never does.
    pub(super) fn stimulate(&mut self, at: usize, stimulus: Stimulus) -> Check {
        let seat = &mut self.seats[at];
        let Some(host) = &mut seat.host else { return Ok(()) };
        if seat.asleep {
            seat.inbox.push_back(stimulus);
            return Ok(());
        }
        let local = seat.clock.now(self.now);
        if let Err(detail) = host.handle(local, stimulus)
            && host.fault().is_none()
        {
            return Err(violation(
                "inputs of an honest world are accepted",
                format!("server {}: {detail}", at + 1),
            ));
        }
        if self.stormy && self.rng.chance(self.options.batch_permille, 1000) {
            let event = Event::Turn { at, life: seat.life };
            let delay = self
                .rng
                .between(Duration::from_micros(1), Duration::from_millis(2));
            self.schedule_in(delay, event);
            return Ok(());
        }
        self.turn(at)
    }

    /// A turn of a server: deadlines, then everything it wants done.
    pub(super) fn turn(&mut self, at: usize) -> Check {
        let seat = &mut self.seats[at];
        let Some(host) = seat.host.as_mut().filter(|_| !seat.asleep) else {
            return Ok(());
        };
        let local = seat.clock.now(self.now);
        if host.deadline().is_some_and(|deadline| deadline <= local.mono) {
            host.wake(local);
        }
        let mut acts = core::mem::take(&mut self.acts);
        while let Some(act) = host.poll(local, &seat.disk).map_err(storage)? {
            acts.push(act);
        }
        if let Some(fault) = host.fault() {
            acts.clear();
            self.acts = acts;
            return self.stopped(at, &fault);
        }
        for act in &acts {
            if let Act::Persist(batch) = act {
                self.trace.record(
                    self.now,
                    Record::Issued {
                        at,
                        gist: write_gist(batch),
                    },
                );
                self.oracles.issued(at, batch)?;
            }
        }
        let status = host.status();
        self.note_standing(at, &status);
        self.oracles.turned(at, &status)?;
        for act in acts.drain(..) {
            self.perform(at, act)?;
        }
        self.acts = acts;
        self.begin_writes(at);
        self.set_alarm(at);
        Ok(())
    }

    /// A machine has stopped for good. Only a failed disk may be the reason.
    pub(super) fn stopped(&mut self, at: usize, fault: &str) -> Check {
        if !self.seats[at].disk_failed {
            return Err(violation(
                "fail-stop only with cause",
                format!("server {} stopped: {fault}", at + 1),
            ));
        }
        self.did(at, "stops for good", 0);
        self.crash(at)?;
        self.restart_later(at);
        Ok(())
    }

    fn note_standing(&mut self, at: usize, status: &Status) {
        let standing = (status.role, status.term, status.commit, status.applied);
        let before = core::mem::replace(&mut self.seats[at].standing, standing);
        if before == standing {
            return;
        }
        if status.role == Role::Leader && before.0 != Role::Leader {
            self.counters.elections += 1;
        }
        let (role, term, commit, applied) = standing;
        self.record(Record::Standing {
            at,
            role,
            term,
            commit,
            applied,
        });
    }

    fn perform(&mut self, at: usize, act: Act) -> Check {
        let life = self.seats[at].life;
        match act {
            Act::Persist(batch) => {
                self.counters.compactions += u64::from(batch.compact_to.is_some());
                self.counters.truncations += u64::from(batch.truncate_from.is_some());
                self.seats[at].disk.issue(LogWrite::Batch(batch));
            }
            Act::SaveNotes(notes) => self.seats[at].disk.issue(LogWrite::Notes(notes)),
            Act::Send { to, message, bytes } => {
                let to_seat = self.position(to)?;
                self.oracles.sent(at, to, &message)?;
                let gist = gist(&message);
                self.record(Record::Sent {
                    from: at,
                    to: to_seat,
                    gist,
                });
                let body = Body::Message { bytes, gist };
                self.send(
                    Packet {
                        from: at,
                        to: to_seat,
                        life,
                        body,
                    },
                    Channel::Raft(message.body.lane()),
                );
            }
            Act::Fetch {
                id,
                first,
                last,
                max_bytes,
            } => {
                let delay = self.disk_delay(at);
                self.schedule_in(
                    delay,
                    Event::Read {
                        at,
                        life,
                        id,
                        first,
                        last,
                        max_bytes,
                    },
                );
            }
            Act::Store(batch) => self.seats[at].disk.issue_state(StateWrite::Batch(batch)),
            Act::ReplaceState(meta) => self.seats[at].disk.issue_state(StateWrite::Replace(meta)),
            Act::StoreWhole(applied, state) => {
                self.seats[at].disk.issue_state(StateWrite::Whole(applied, state));
            }
            Act::Call {
                id,
                to,
                body,
                timeout,
            } => {
                let to = self.position(to)?;
                let seat = &mut self.seats[at];
                seat.calls.insert(id);
                let over = seat.clock.true_time(seat.clock.mono(self.now) + timeout);
                self.schedule(over, Event::CallOver { at, life, id });
                self.send(
                    Packet {
                        from: at,
                        to,
                        life,
                        body: Body::Call { id, body },
                    },
                    Channel::Rpc,
                );
            }
            Act::Reply { id, body } => {
                if let Some((caller, caller_life, call)) = self.calls.remove(&id) {
                    let body = Body::Reply { id: call, body };
                    self.send(
                        Packet {
                            from: at,
                            to: caller,
                            life: caller_life,
                            body,
                        },
                        Channel::Rpc,
                    );
                }
            }
            Act::Answer(token, answer) => {
                self.record(Record::Answered { at, token, answer });
                self.oracles.answered(at, token, &answer)?;
                self.client_hears(token, answer);
            }
            Act::Applied(entries) => self.oracles.applied(at, &entries)?,
            Act::Publish { state, touched } => self.oracles.published(at, &state, &touched)?,
            Act::Mark(Mark::Restored) => self.counters.snapshots += 1,
            Act::Mark(Mark::DiskStalled) => self.counters.disk_stalls += 1,
            Act::Mark(Mark::QuorumLost) => self.counters.quorums_lost += 1,
            Act::Mark(Mark::Removed) => self.counters.removals += 1,
            Act::Mark(Mark::Member(cluster)) => self.oracles.member(at, cluster)?,
        }
        Ok(())
    }

    /// Makes sure that the server is woken when its machine wants it.
    pub(super) fn set_alarm(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        let Some(deadline) = seat.host.as_ref().and_then(Host::deadline) else {
            return;
        };
        let due = seat
            .clock
            .true_time(deadline)
            .max(self.now + Duration::from_nanos(1));
        if due < seat.wake_at {
            seat.wake_at = due;
            let life = seat.life;
            self.schedule(due, Event::Wake { at, life });
        }
    }
}
