//! What happened, as small records: all are hashed, the latest are kept, and they are worded only when somebody reads them.

use core::fmt;
use std::collections::VecDeque;
use std::io::Write;

use lictor_gossip::{Incarnation, MemberEvent, MemberState};
use lictor_machine::{Instant, NodeId};

/// How many records a failure shows.
const RING: usize = 600;

/// One thing that happened. Seats are numbered from 0, and printed as `m0`, `m1`...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A datagram was sent; `lost`: it will not arrive.
    Sent {
        /// From whom.
        from: usize,
        /// To whom.
        to: usize,
        /// How long it is.
        bytes: usize,
        /// Whether it is lost.
        lost: bool,
    },
    /// A datagram arrived.
    Received {
        /// From whom.
        from: usize,
        /// Who got it.
        at: usize,
        /// How long it is.
        bytes: usize,
    },
    /// A call was made.
    Called {
        /// Who calls.
        from: usize,
        /// Whom.
        to: usize,
        /// How long the request is.
        bytes: usize,
    },
    /// A call ended for the caller.
    CallOver {
        /// Who called.
        from: usize,
        /// Whether there was a reply.
        answered: bool,
    },
    /// A member sees the pool change.
    Saw {
        /// Who sees it.
        at: usize,
        /// What kind of change.
        what: Seen,
        /// About whom.
        about: NodeId,
        /// How that one is now, as the observer sees it.
        state: MemberState,
        /// Of that statement.
        incarnation: Incarnation,
    },
    /// The simulator, or a fault, did something to a member.
    Did {
        /// To whom.
        at: usize,
        /// What.
        what: &'static str,
        /// A number that goes with it.
        number: u64,
    },
    /// A process, which is on no machine in particular, did something, or heard something.
    Process {
        /// What kind of process, as it is printed.
        letter: char,
        /// Which.
        who: usize,
        /// What.
        what: &'static str,
        /// A number that goes with it.
        number: u64,
    },
    /// A phase of the run began.
    Phase(&'static str),
}

/// The kinds of [`MemberEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// [`MemberEvent::Joined`].
    Joined,
    /// [`MemberEvent::Updated`].
    Updated,
    /// [`MemberEvent::Failed`].
    Failed,
    /// [`MemberEvent::Left`].
    Left,
    /// [`MemberEvent::Reaped`].
    Reaped,
}

impl Seen {
    /// The kind of an event.
    pub const fn of(event: &MemberEvent) -> Self {
        match event {
            MemberEvent::Joined(_) => Self::Joined,
            MemberEvent::Updated(_) => Self::Updated,
            MemberEvent::Failed(_) => Self::Failed,
            MemberEvent::Left(_) => Self::Left,
            MemberEvent::Reaped(_) => Self::Reaped,
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent {
                from,
                to,
                bytes,
                lost,
            } => {
                let arrow = if *lost { "-x" } else { "->" };
                write!(f, "m{from} {arrow} m{to}  {bytes} B")
            }
            Self::Received { from, at, bytes } => write!(f, "m{from} => m{at}  {bytes} B"),
            Self::Called { from, to, bytes } => write!(f, "m{from} calls m{to}  {bytes} B"),
            Self::CallOver { from, answered } => {
                write!(
                    f,
                    "m{from} {}",
                    if *answered {
                        "has its answer"
                    } else {
                        "has no answer"
                    }
                )
            }
            Self::Saw {
                at,
                what,
                about,
                state,
                incarnation,
            } => write!(
                f,
                "m{at} sees m{}: {what:?}, {state:?} at incarnation {incarnation}",
                about.0.wrapping_sub(1)
            ),
            Self::Did { at, what, number } => write!(f, "m{at} {what} ({number})"),
            Self::Process {
                letter,
                who,
                what,
                number,
            } => write!(f, "{letter}{who} {what} ({number})"),
            Self::Phase(name) => write!(f, "=== {name}"),
        }
    }
}

/// The record of a run.
pub struct Trace<'w> {
    hash: u64,
    count: u64,
    ring: VecDeque<(Instant, Record)>,
    out: Option<&'w mut dyn Write>,
}

impl<'w> Trace<'w> {
    /// A record that is hashed, kept for a while, and written to `out` as it grows.
    pub fn new(out: Option<&'w mut dyn Write>) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            count: 0,
            ring: VecDeque::with_capacity(RING),
            out,
        }
    }

    /// Notes what happened.
    pub fn record(&mut self, now: Instant, record: Record) {
        self.count += 1;
        self.mix(now.as_nanos());
        match record {
            Record::Sent {
                from,
                to,
                bytes,
                lost,
            } => self.mix_all(&[1, from as u64, to as u64, bytes as u64, u64::from(lost)]),
            Record::Received { from, at, bytes } => {
                self.mix_all(&[2, from as u64, at as u64, bytes as u64]);
            }
            Record::Called { from, to, bytes } => self.mix_all(&[3, from as u64, to as u64, bytes as u64]),
            Record::CallOver { from, answered } => self.mix_all(&[4, from as u64, u64::from(answered)]),
            Record::Saw {
                at,
                what,
                about,
                state,
                incarnation,
            } => self.mix_all(&[
                5,
                at as u64,
                what as u64,
                about.0 as u64,
                state as u64,
                incarnation.0,
            ]),
            Record::Did { at, what, number } => {
                self.mix_all(&[6, at as u64, what.len() as u64, number]);
            }
            Record::Phase(name) => self.mix_all(&[7, name.len() as u64]),
            Record::Process {
                letter,
                who,
                what,
                number,
            } => self.mix_all(&[8, u64::from(letter), who as u64, what.len() as u64, number]),
        }
        if let Some(out) = &mut self.out {
            // Who looks on may stop looking; the run does not depend on it.
            let _ = writeln!(out, "{}", Line(now, record));
        }
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back((now, record));
    }

    /// Of everything so far.
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
            .map(|(at, record)| Line(*at, *record).to_string())
            .collect()
    }

    fn mix_all(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.mix(*number);
        }
    }

    const fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(29);
    }
}

struct Line(Instant, Record);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_nanos() / 1000;
        write!(f, "{:>10}.{:03} ms  {}", micros / 1000, micros % 1000, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_records_hash_equal_others_do_not_and_the_latest_are_kept() {
        let run = |numbers: &[u64]| {
            let mut trace = Trace::new(None);
            for number in numbers {
                let did = Record::Did {
                    at: 0,
                    what: "counts",
                    number: *number,
                };
                trace.record(Instant::from_millis(*number), did);
            }
            (trace.hash(), trace.tail().len(), trace.count())
        };
        let many: Vec<u64> = (0..1000).collect();
        assert_eq!(run(&many), run(&many));
        assert_eq!((run(&many).1, run(&many).2), (RING, 1000));
        assert_ne!(run(&[1, 2]).0, run(&[2, 1]).0);
    }

    #[test]
    fn a_trace_is_written_as_it_grows() {
        let mut text = Vec::new();
        Trace::new(Some(&mut text)).record(
            Instant::from_millis(5),
            Record::Sent {
                from: 0,
                to: 2,
                bytes: 40,
                lost: true,
            },
        );
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "         5.000 ms  m0 -x m2  40 B\n"
        );
    }
}
