//! What happened, in a form that costs little to keep: small records that are hashed always, kept for a while in a
//! ring, and worded only when somebody reads them.

use core::fmt;
use std::collections::VecDeque;
use std::io::Write;

use lictor_machine::{Index, Instant, NodeId, Token};
use lictor_raft::{AppendReply, Body, LogId, Message, Role, Term, WriteBatch, WriteId};

use crate::workload::{Answer, Op};

/// How many records a failure shows.
const RING: usize = 400;

/// The gist of a Raft message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gist {
    term: Term,
    kind: &'static str,
    at: LogId,
    numbers: [u64; 3],
}

/// The gist of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteGist {
    id: WriteId,
    term: Option<Term>,
    vote: Option<NodeId>,
    truncate: Option<Index>,
    first: Option<LogId>,
    count: u64,
    compact: Option<Index>,
    install: Option<LogId>,
}

/// One thing that happened. Servers are numbered from 0 and printed as their ids, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A server sent a message.
    Sent {
        /// From whom.
        from: usize,
        /// To whom.
        to: usize,
        /// What.
        gist: Gist,
    },
    /// It arrived.
    Received {
        /// From whom.
        from: usize,
        /// To whom.
        to: usize,
        /// What.
        gist: Gist,
    },
    /// A packet vanished.
    Dropped {
        /// From whom.
        from: usize,
        /// To whom.
        to: usize,
    },
    /// A server issued a write.
    Issued {
        /// Which server.
        at: usize,
        /// What.
        gist: WriteGist,
    },
    /// A write was reported durable.
    Durable {
        /// Which server.
        at: usize,
        /// Up to which.
        through: WriteId,
    },
    /// A server's part, term, or commit index changed.
    Standing {
        /// Which server.
        at: usize,
        /// Its part.
        role: Role,
        /// Its term.
        term: Term,
        /// Its commit index.
        commit: Index,
        /// What it has applied.
        applied: Index,
    },
    /// A client asked.
    Asked {
        /// Which client.
        client: usize,
        /// Which server.
        at: usize,
        /// Names the request.
        token: Token,
        /// What.
        op: Op,
    },
    /// A server answered.
    Answered {
        /// Which server.
        at: usize,
        /// Which request.
        token: Token,
        /// With what.
        answer: Answer,
    },
    /// The simulator, or a fault, did something to a server.
    Did {
        /// Which server.
        at: usize,
        /// What.
        what: &'static str,
        /// A number that goes with it.
        number: u64,
    },
    /// A direction of a link was blocked or unblocked.
    Link {
        /// From.
        from: usize,
        /// To.
        to: usize,
        /// Whether nothing passes.
        blocked: bool,
    },
    /// A phase of the run began.
    Phase(&'static str),
}

/// The record of a run.
pub struct Trace<'w> {
    hash: u64,
    count: u64,
    ring: VecDeque<(Instant, Record)>,
    out: Option<&'w mut dyn Write>,
}

impl<'w> Trace<'w> {
    /// A record that is kept for a while, and written to `out` as it grows.
    pub fn new(out: Option<&'w mut dyn Write>) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            count: 0,
            ring: VecDeque::with_capacity(RING),
            out,
        }
    }

    /// Something happened. What cannot be written to the output is not: the run does not depend on it.
    pub fn record(&mut self, now: Instant, record: Record) {
        self.count += 1;
        self.mix(now.as_nanos());
        self.mix(record.digest());
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back((now, record));
        if let Some(out) = &mut self.out
            && writeln!(out, "{}", Line(now, record)).is_err()
        {
            self.out = None;
        }
    }

    /// A digest of everything so far: two runs with the same are the same.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many records there were.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The latest records, worded.
    pub fn tail(&self) -> Vec<String> {
        self.ring
            .iter()
            .map(|(now, record)| Line(*now, *record).to_string())
            .collect()
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23);
    }
}

/// What a message says, in short.
pub fn gist(message: &Message) -> Gist {
    let (kind, at, numbers) = match &message.body {
        Body::PreVote { last, poll } => ("pre-vote?", *last, [poll.boot, poll.count, 0]),
        Body::PreVoteReply { poll, granted } => (
            "pre-vote reply",
            LogId::ZERO,
            [poll.boot, poll.count, u64::from(*granted)],
        ),
        Body::Vote { last, poll, transfer } => {
            ("vote?", *last, [poll.boot, poll.count, u64::from(*transfer)])
        }
        Body::VoteReply {
            poll,
            granted,
            commit,
        } => (
            "vote reply",
            *commit,
            [poll.boot, poll.count, u64::from(*granted)],
        ),
        Body::Append {
            prev,
            entries,
            commit,
        } => ("append", *prev, [entries.len() as u64, commit.0, 0]),
        Body::AppendReply(AppendReply::Accepted { through }) => ("accepted", LogId::ZERO, [through.0, 0, 0]),
        Body::AppendReply(AppendReply::Rejected { prev, hint, last }) => {
            ("rejected", *hint, [prev.0, last.0, 0])
        }
        Body::Heartbeat { commit, round } => ("heartbeat", LogId::ZERO, [commit.0, *round, 0]),
        Body::HeartbeatReply { round } => ("heartbeat reply", LogId::ZERO, [*round, 0, 0]),
        Body::Snapshot {
            meta,
            chunk,
            data,
            done,
        } => (
            "snapshot",
            meta.last,
            [*chunk, data.len() as u64, u64::from(*done)],
        ),
        Body::SnapshotReply {
            snapshot,
            next_chunk,
            done,
        } => ("snapshot reply", *snapshot, [*next_chunk, u64::from(*done), 0]),
        Body::ReadIndex { request, lease } => ("read index?", LogId::ZERO, [*request, u64::from(*lease), 0]),
        Body::ReadIndexReply { request, index } => (
            "read index reply",
            LogId::ZERO,
            [
                *request,
                index.map_or(0, |index| index.0),
                u64::from(index.is_some()),
            ],
        ),
        Body::TimeoutNow => ("timeout now", LogId::ZERO, [0; 3]),
    };
    Gist {
        term: message.term,
        kind,
        at,
        numbers,
    }
}

/// What a write says, in short.
pub fn write_gist(batch: &WriteBatch) -> WriteGist {
    WriteGist {
        id: batch.id,
        term: batch.hard_state.map(|hard| hard.term),
        vote: batch.hard_state.and_then(|hard| hard.vote),
        truncate: batch.truncate_from,
        first: batch.append.first().map(|entry| entry.id),
        count: batch.append.len() as u64,
        compact: batch.compact_to.as_ref().map(|meta| meta.last.index),
        install: batch.install.as_ref().map(|meta| meta.last),
    }
}

impl Record {
    fn digest(&self) -> u64 {
        let gist_digest = |gist: &Gist| {
            let [a, b, c] = gist.numbers;
            fold(&[
                gist.kind.len() as u64,
                gist.term.0,
                gist.at.term.0,
                gist.at.index.0,
                a,
                b,
                c,
            ])
        };
        match self {
            Self::Sent { from, to, gist } => fold(&[1, *from as u64, *to as u64, gist_digest(gist)]),
            Self::Received { from, to, gist } => fold(&[2, *from as u64, *to as u64, gist_digest(gist)]),
            Self::Dropped { from, to } => fold(&[3, *from as u64, *to as u64]),
            Self::Issued { at, gist } => {
                let first = gist.first.unwrap_or_default();
                fold(&[
                    4,
                    *at as u64,
                    gist.id.seq,
                    first.term.0,
                    first.index.0,
                    gist.count,
                ])
            }
            Self::Durable { at, through } => fold(&[5, *at as u64, through.seq]),
            Self::Standing {
                at,
                role,
                term,
                commit,
                applied,
            } => fold(&[6, *at as u64, *role as u64, term.0, commit.0, applied.0]),
            Self::Asked {
                client, at, token, ..
            } => fold(&[7, *client as u64, *at as u64, token.0]),
            Self::Answered { at, token, answer } => {
                let what = match answer {
                    Answer::Written { index, done } => index.0 * 2 + u64::from(*done),
                    Answer::Value { index, held } => fold(&[index.0, held.map_or(0, |held| held.value)]),
                    Answer::Transferred(yes) => u64::from(*yes),
                    Answer::Reconfigured { index } => fold(&[index.0]),
                    Answer::Refused => 2,
                    Answer::Unknown => 3,
                };
                fold(&[8, *at as u64, token.0, what])
            }
            Self::Did { at, what, number } => fold(&[9, *at as u64, what.len() as u64, *number]),
            Self::Link { from, to, blocked } => fold(&[10, *from as u64, *to as u64, u64::from(*blocked)]),
            Self::Phase(name) => fold(&[11, name.len() as u64]),
        }
    }
}

fn fold(numbers: &[u64]) -> u64 {
    numbers.iter().fold(7, |hash, number| {
        (hash ^ number)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    })
}

impl fmt::Display for Gist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.numbers;
        let (kind, at) = (self.kind, self.at);
        write!(f, "T{} {kind}", self.term)?;
        match kind {
            "pre-vote?" | "vote?" => write!(f, " log ends {at} (poll {a}/{b})"),
            "pre-vote reply" | "vote reply" => {
                write!(
                    f,
                    " {} (poll {a}/{b}, commit {at})",
                    if c == 1 { "yes" } else { "no" }
                )
            }
            "append" => write!(f, " {a} behind {at}, commit {b}"),
            "accepted" => write!(f, " through {a}"),
            "rejected" => write!(f, " prev {a}, hint {at}, log ends {b}"),
            "heartbeat" => write!(f, " round {b}, commit {a}"),
            "heartbeat reply" => write!(f, " round {a}"),
            "snapshot" => write!(
                f,
                " {at} chunk {a} ({b} bytes){}",
                if c == 1 { ", the last" } else { "" }
            ),
            "snapshot reply" => write!(f, " {at} next {a}{}", if b == 1 { ", done" } else { "" }),
            "read index?" => write!(f, " request {a}{}", if b == 1 { " by lease" } else { "" }),
            "read index reply" if c == 1 => write!(f, " request {a}: {b}"),
            "read index reply" => write!(f, " request {a}: not now"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for WriteGist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}/{}", self.id.boot, self.id.seq)?;
        if let Some(term) = self.term {
            write!(f, " term {term} vote {:?}", self.vote)?;
        }
        if let Some(last) = self.install {
            write!(f, " install {last}")?;
        }
        if let Some(from) = self.truncate {
            write!(f, " truncate from {from}")?;
        }
        if let Some(first) = self.first {
            write!(f, " append {} from {first}", self.count)?;
        }
        if let Some(index) = self.compact {
            write!(f, " compact to {index}")?;
        }
        Ok(())
    }
}

struct Line(Instant, Record);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>10}.{:03} ms  ",
            self.0.as_nanos() / 1_000_000,
            self.0.as_nanos() / 1000 % 1000
        )?;
        match &self.1 {
            Record::Sent { from, to, gist } => write!(f, "n{} -> n{}  {gist}", from + 1, to + 1),
            Record::Received { from, to, gist } => write!(f, "n{} => n{}  {gist}", from + 1, to + 1),
            Record::Dropped { from, to } => write!(f, "n{} -x n{}", from + 1, to + 1),
            Record::Issued { at, gist } => write!(f, "n{} writes {gist}", at + 1),
            Record::Durable { at, through } => {
                write!(f, "n{} durable through #{}/{}", at + 1, through.boot, through.seq)
            }
            Record::Standing {
                at,
                role,
                term,
                commit,
                applied,
            } => {
                write!(
                    f,
                    "n{} is {role:?} in T{term}, commit {commit}, applied {applied}",
                    at + 1
                )
            }
            Record::Asked {
                client,
                at,
                token,
                op,
            } => write!(f, "c{client} asks n{}: {op} [{}]", at + 1, token.0),
            Record::Answered { at, token, answer } => {
                write!(f, "n{} answers [{}]: {answer:?}", at + 1, token.0)
            }
            Record::Did { at, what, number } => write!(f, "n{} {what} ({number})", at + 1),
            Record::Link { from, to, blocked } => {
                write!(
                    f,
                    "n{} -> n{} {}",
                    from + 1,
                    to + 1,
                    if *blocked { "blocked" } else { "unblocked" }
                )
            }
            Record::Phase(name) => write!(f, "=== {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_records_hash_equal_others_do_not_and_the_ring_keeps_the_latest() {
        let run = |numbers: &[u64]| {
            let mut trace = Trace::new(None);
            for number in numbers {
                trace.record(
                    Instant::from_millis(*number),
                    Record::Did {
                        at: 0,
                        what: "counts",
                        number: *number,
                    },
                );
            }
            (trace.hash(), trace.tail().len(), trace.count())
        };
        let many: Vec<u64> = (0..1000).collect();
        assert_eq!(run(&many), run(&many));
        assert_eq!(run(&many).1, RING);
        assert_eq!(run(&many).2, 1000);
        assert_ne!(run(&[1, 2]).0, run(&[2, 1]).0);
    }

    #[test]
    fn a_trace_is_written_out_as_it_grows() {
        let mut text = Vec::new();
        let mut trace = Trace::new(Some(&mut text));
        trace.record(
            Instant::from_millis(5),
            Record::Link {
                from: 0,
                to: 2,
                blocked: true,
            },
        );
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "         5.000 ms  n1 -> n3 blocked\n"
        );
    }
}
