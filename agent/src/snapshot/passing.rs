//! Archives by way of another server: whoever takes one asks for a piece at a time, and whoever gives one sends a piece at a time. So
//! neither holds more of it than that, and the slower one sets the pace.
//!
//! The server at the other end keeps its place in the archive under a [`Ticket`], for as long as somebody comes back to it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::unfold;
use lictor_http::{Archive, Backend, Failure, ReadOptions, Reading, WriteOptions};
use lictor_machine::NodeId;
use lictor_runtime::Runtime;
use serde::{Deserialize, Serialize};

use crate::boot;
use crate::rpc::caller::Caller;
use crate::rpc::wire::Question;

/// How many bytes of an archive go over the network at a time.
const PIECE_BYTES: usize = 512 << 10;

/// The most bytes that anybody may send at a time.
const PIECE_MAX: usize = 4 << 20;

/// How many archives may be on their way through one server.
const OPEN_MAX: usize = 16;

/// How long a ticket is good for while nobody comes back to it.
const IDLE: Duration = Duration::from_mins(1);

/// How long a step may take that has to do with all of the state, or waits for a disk. Whether the server is still there is found out
/// meanwhile.
const STEP_LIMIT: Duration = Duration::from_mins(10);

/// How long the last step of a restore may take, in which all of it is checked and brought in.
pub(crate) const RESTORE_LIMIT: Duration = Duration::from_mins(30);

/// Names a place in an archive at one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The server.
    pub server: NodeId,
    /// The place.
    pub id: u128,
}

/// What is asked of a server about archives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArchiveQuestion {
    /// "Make one." Answered with a `Reading<Ticket>`.
    Save {
        /// How to read the state.
        options: ReadOptions,
    },
    /// "The next piece." Answered with `Bytes`; none: that was all.
    Next {
        /// Of which.
        ticket: Ticket,
        /// Which piece, from 0. The one before may be asked for again.
        number: u64,
    },
    /// "One will come." Answered with a `Ticket`.
    Restore {
        /// How to write.
        options: WriteOptions,
    },
    /// "Here is the next piece." Answered with `()`.
    Piece {
        /// Of which.
        ticket: Ticket,
        /// Which piece, from 0. The one before may come again.
        number: u64,
        /// What it is.
        bytes: Bytes,
    },
    /// "That was all: restore it." Answered with `()` when that is done.
    Finish {
        /// Which.
        ticket: Ticket,
    },
}

impl ArchiveQuestion {
    /// The server that alone can answer.
    pub const fn server(&self) -> Option<NodeId> {
        match self {
            Self::Next { ticket, .. } | Self::Piece { ticket, .. } | Self::Finish { ticket } => {
                Some(ticket.server)
            }
            Self::Save { .. } | Self::Restore { .. } => None,
        }
    }

    /// Whether it may be asked again when nobody knows whether it was heard.
    pub const fn is_repeatable(&self) -> bool {
        match self {
            Self::Save { .. } | Self::Next { .. } | Self::Restore { .. } | Self::Piece { .. } => true,
            Self::Finish { .. } => false,
        }
    }

    /// How long the answer may take beyond the usual.
    pub const fn wait(&self) -> Duration {
        match self {
            Self::Finish { .. } => RESTORE_LIMIT,
            // The first piece does not come before all of the state was encoded once, to know its size.
            Self::Save { .. } | Self::Next { .. } | Self::Piece { .. } => STEP_LIMIT,
            Self::Restore { .. } => Duration::ZERO,
        }
    }

    /// How many bytes it takes, about, beside the usual.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Piece { bytes, .. } => bytes.len(),
            Self::Save { .. } | Self::Next { .. } | Self::Restore { .. } | Self::Finish { .. } => 0,
        }
    }
}

/// Has a server make an archive, and takes it piece by piece.
pub(crate) async fn save(
    caller: &Caller,
    datacenter: Option<&str>,
    options: ReadOptions,
) -> Result<Reading<Archive<'static>>, Failure> {
    let question = Question::Archive(ArchiveQuestion::Save { options });
    let reading: Reading<Ticket> = caller.ask(datacenter, question).await?;
    let (caller, datacenter) = (caller.clone(), datacenter.map(str::to_owned));
    let ticket = reading.value;
    let pieces = unfold(Some(0), move |number| {
        let (caller, datacenter) = (caller.clone(), datacenter.clone());
        async move {
            let number = number?;
            let question = Question::Archive(ArchiveQuestion::Next { ticket, number });
            let piece: Result<Bytes, Failure> = caller.ask(datacenter.as_deref(), question).await;
            match piece {
                Ok(piece) if piece.is_empty() => None,
                Ok(piece) => Some((Ok(piece), Some(number + 1))),
                Err(failure) => Some((Err(io::Error::other(failure.to_string())), None)),
            }
        }
    });
    Ok(Reading {
        index: reading.index,
        known_leader: reading.known_leader,
        last_contact: reading.last_contact,
        value: Archive::new(Box::pin(pieces).into_async_read()),
    })
}

/// Gives a server an archive, piece by piece, to restore it.
pub(crate) async fn restore(
    caller: &Caller,
    datacenter: Option<&str>,
    mut archive: Archive<'_>,
    options: WriteOptions,
) -> Result<(), Failure> {
    let question = Question::Archive(ArchiveQuestion::Restore { options });
    let ticket: Ticket = caller.ask(datacenter, question).await?;
    for number in 0.. {
        let piece = super::next_piece(&mut archive, PIECE_BYTES).await;
        let bytes = piece.map_err(|error| super::not_received(&error))?;
        if bytes.is_empty() {
            break;
        }
        let question = ArchiveQuestion::Piece {
            ticket,
            number,
            bytes,
        };
        let () = caller.ask(datacenter, Question::Archive(question)).await?;
    }
    let question = Question::Archive(ArchiveQuestion::Finish { ticket });
    caller.ask(datacenter, question).await
}

/// Where the archives of others are on their way through this server.
pub(crate) struct Desk {
    me: NodeId,
    runtime: Runtime,
    open: Mutex<BTreeMap<u128, Arc<Open>>>,
}

/// One of them.
struct Open {
    /// When somebody last came back to it.
    touched: Mutex<Instant>,
    what: async_lock::Mutex<What>,
}

enum What {
    Saving {
        archive: Archive<'static>,
        next: u64,
        /// The last piece, in case its answer got lost.
        last: Bytes,
        /// What there is of the next one already: whoever asked for it may have gone while it was gathered.
        begun: Vec<u8>,
        /// Why there will be no more. Nothing is read after that, since it would look like the end.
        failed: Option<Failure>,
    },
    Restoring {
        /// `None` when all has come.
        pieces: Option<Sender<Bytes>>,
        next: u64,
        outcome: Receiver<Result<(), Failure>>,
    },
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("open", &self.lock().len())
            .finish_non_exhaustive()
    }
}

impl Desk {
    pub(crate) fn new(me: NodeId, runtime: Runtime) -> Arc<Self> {
        Arc::new(Self {
            me,
            runtime,
            open: Mutex::default(),
        })
    }

    /// Has an archive made by `backend`.
    pub(crate) async fn save(
        self: &Arc<Self>,
        backend: &Arc<dyn Backend>,
        options: ReadOptions,
    ) -> Result<Reading<Ticket>, Failure> {
        self.check_room()?;
        let reading = backend.snapshot(options).await?;
        let value = self.register(What::Saving {
            archive: reading.value,
            next: 0,
            last: Bytes::new(),
            begun: Vec::new(),
            failed: None,
        })?;
        Ok(Reading {
            index: reading.index,
            known_leader: reading.known_leader,
            last_contact: reading.last_contact,
            value,
        })
    }

    /// The next piece of one that is being made, or the last one again. Nothing is lost when this is abandoned. After an error there are no
    /// more pieces, only the same error.
    pub(crate) async fn next(&self, ticket: Ticket, number: u64) -> Result<Bytes, Failure> {
        let open = self.find(ticket)?;
        let mut what = open.what.lock().await;
        let What::Saving {
            archive,
            next,
            last,
            begun,
            failed,
        } = &mut *what
        else {
            return Err(unknown());
        };
        if number + 1 == *next {
            return Ok(last.clone());
        }
        if number != *next {
            return Err(out_of_order());
        }
        if let Some(failure) = failed {
            return Err(failure.clone());
        }
        if let Err(error) = super::gather(archive, begun, PIECE_BYTES).await {
            let failure = Failure::Unreachable(format!("the snapshot could not be made: {error}"));
            *failed = Some(failure.clone());
            return Err(failure);
        }
        *last = mem::take(begun).into();
        *next += 1;
        open.touch();
        if last.is_empty() {
            self.lock().remove(&ticket.id);
        }
        Ok(last.clone())
    }

    /// Begins to take one in, which `backend` restores when all of it is there.
    pub(crate) fn restore(
        self: &Arc<Self>,
        backend: &Arc<dyn Backend>,
        options: WriteOptions,
    ) -> Result<Ticket, Failure> {
        self.check_room()?;
        let (pieces, taken) = async_channel::bounded::<Bytes>(1);
        let (done, outcome) = async_channel::bounded(1);
        let backend = Arc::clone(backend);
        let restoring = async move {
            let restored = backend.restore(Archive::new(arriving(taken)), options).await;
            // Whoever asked may have gone.
            let _ = done.send(restored).await;
        };
        let ticket = self.register(What::Restoring {
            pieces: Some(pieces),
            next: 0,
            outcome,
        })?;
        self.runtime.spawn(restoring).detach();
        Ok(ticket)
    }

    /// Takes the next piece of one in. Waits until it can be kept.
    pub(crate) async fn piece(&self, ticket: Ticket, number: u64, bytes: Bytes) -> Result<(), Failure> {
        let open = self.find(ticket)?;
        let mut what = open.what.lock().await;
        let What::Restoring {
            pieces,
            next,
            outcome,
        } = &mut *what
        else {
            return Err(unknown());
        };
        if number + 1 == *next {
            return Ok(());
        }
        if number != *next || bytes.is_empty() || bytes.len() > PIECE_MAX {
            return Err(out_of_order());
        }
        let Some(sender) = pieces else {
            return Err(out_of_order());
        };
        if sender.send(bytes).await.is_err() {
            // It has come to an end already, which can be no good one.
            let ended = outcome.recv().await;
            self.lock().remove(&ticket.id);
            return ended.unwrap_or(Err(Failure::Stopping)).and(Err(out_of_order()));
        }
        *next += 1;
        open.touch();
        Ok(())
    }

    /// All of it is there: waits until it is restored.
    pub(crate) async fn finish(&self, ticket: Ticket) -> Result<(), Failure> {
        let open = self.find(ticket)?;
        let mut what = open.what.lock().await;
        let What::Restoring { pieces, outcome, .. } = &mut *what else {
            return Err(unknown());
        };
        let Some(sender) = pieces.take() else {
            return Err(out_of_order());
        };
        // An empty piece is the end; without it the archive was broken off.
        let _ = sender.send(Bytes::new()).await;
        let outcome = outcome.clone();
        drop(what);
        self.lock().remove(&ticket.id);
        outcome.recv().await.unwrap_or(Err(Failure::Stopping))
    }

    fn check_room(&self) -> Result<(), Failure> {
        if self.lock().len() < OPEN_MAX {
            Ok(())
        } else {
            Err(super::busy("snapshots of other agents"))
        }
    }

    fn register(self: &Arc<Self>, what: What) -> Result<Ticket, Failure> {
        let random = boot::random().map_err(|error| Failure::Storage(error.to_string()))?;
        let id = u128::from_le_bytes(random);
        let open = Arc::new(Open {
            touched: Mutex::new(Instant::now()),
            what: async_lock::Mutex::new(what),
        });
        self.check_room()?;
        self.lock().insert(id, Arc::clone(&open));
        let desk = Arc::clone(self);
        let watching = async move {
            loop {
                async_io::Timer::after(IDLE).await;
                if Arc::strong_count(&open) == 1 {
                    return;
                }
                // One that is being worked on is not idle.
                if open.idle() >= IDLE && open.what.try_lock().is_some() {
                    desk.lock().remove(&id);
                    return;
                }
            }
        };
        self.runtime.spawn(watching).detach();
        Ok(Ticket { server: self.me, id })
    }

    fn find(&self, ticket: Ticket) -> Result<Arc<Open>, Failure> {
        let open = self.lock().get(&ticket.id).cloned();
        let open = open.filter(|_| ticket.server == self.me).ok_or_else(unknown)?;
        open.touch();
        Ok(open)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u128, Arc<Open>>> {
        // Sound after any step.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle(&self) -> Duration {
        self.touched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }
}

/// The pieces of an archive as they come, up to an empty one.
fn arriving(pieces: Receiver<Bytes>) -> impl futures_lite::AsyncRead + Send {
    let pieces = unfold(Some(pieces), |pieces| async move {
        let pieces = pieces?;
        match pieces.recv().await {
            Ok(piece) if piece.is_empty() => None,
            Ok(piece) => Some((Ok(piece), Some(pieces))),
            Err(_) => {
                let left = io::Error::new(io::ErrorKind::ConnectionAborted, "whoever sent it has gone");
                Some((Err(left), None))
            }
        }
    });
    Box::pin(pieces).into_async_read()
}

fn unknown() -> Failure {
    Failure::Refused("the snapshot was broken off: nobody asked for more of it for too long".to_owned())
}

fn out_of_order() -> Failure {
    Failure::Refused("the snapshot was broken off: its pieces are out of order".to_owned())
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};
    use futures_lite::{AsyncReadExt as _, StreamExt as _};

    use super::*;

    /// A desk with an archive whose bytes come from the sender.
    fn saving() -> (Arc<Desk>, Ticket, Sender<io::Result<Bytes>>) {
        let desk = Desk::new(NodeId(1), lictor_runtime_smol::runtime());
        let (sender, bytes) = async_channel::unbounded();
        let ticket = desk.register(What::Saving {
            archive: Archive::new(Box::pin(bytes).into_async_read()),
            next: 0,
            last: Bytes::new(),
            begun: Vec::new(),
            failed: None,
        });
        (desk, ticket.unwrap(), sender)
    }

    #[test]
    fn nothing_is_lost_when_nobody_waits_for_a_piece_any_more() {
        let (desk, ticket, sender) = saving();
        block_on(async {
            for part in [&b"ab"[..], b"c"] {
                sender.send(Ok(Bytes::from_static(part))).await.unwrap();
                assert_eq!(poll_once(desk.next(ticket, 0)).await, None);
            }
            sender.send(Ok(Bytes::from_static(b"d"))).await.unwrap();
            drop(sender);
            assert_eq!(desk.next(ticket, 0).await, Ok(Bytes::from_static(b"abcd")));
            assert_eq!(desk.next(ticket, 1).await, Ok(Bytes::new()));
        });
    }

    #[test]
    fn an_archive_that_failed_does_not_come_to_a_good_end() {
        let (desk, ticket, sender) = saving();
        block_on(async {
            sender.send(Ok(Bytes::from_static(b"ab"))).await.unwrap();
            sender.send(Err(io::Error::other("no memory"))).await.unwrap();
            drop(sender);
            let failure = Failure::Unreachable("the snapshot could not be made: no memory".to_owned());
            for _ in 0..2 {
                assert_eq!(desk.next(ticket, 0).await, Err(failure.clone()));
            }
        });
    }

    #[test]
    fn what_takes_all_of_the_state_has_time() {
        let ticket = Ticket {
            server: NodeId(1),
            id: 1,
        };
        let bytes = Bytes::from_static(b"a");
        for slow in [
            ArchiveQuestion::Save {
                options: ReadOptions::default(),
            },
            ArchiveQuestion::Next { ticket, number: 0 },
            ArchiveQuestion::Piece {
                ticket,
                number: 0,
                bytes,
            },
            ArchiveQuestion::Finish { ticket },
        ] {
            assert!(slow.wait() >= STEP_LIMIT, "{slow:?}");
        }
    }

    #[test]
    fn what_ends_without_a_word_has_not_come_to_its_end() {
        let read = |pieces: &'static [&'static [u8]]| {
            let (sender, taken) = async_channel::bounded(1);
            let sending = async move {
                let mut pieces = futures_lite::stream::iter(pieces);
                while let Some(piece) = pieces.next().await {
                    sender.send(Bytes::from_static(piece)).await.unwrap();
                }
            };
            let mut content = Vec::new();
            let reading = async {
                let mut arriving = std::pin::pin!(arriving(taken));
                arriving
                    .read_to_end(&mut content)
                    .await
                    .map_err(|error| error.kind())
            };
            let ((), read) = block_on(futures_lite::future::zip(sending, reading));
            read.map(|_| content)
        };
        assert_eq!(read(&[b"ab", b"c", b""]), Ok(b"abc".to_vec()));
        assert_eq!(read(&[b"ab", b"c"]), Err(io::ErrorKind::ConnectionAborted));
        assert_eq!(read(&[]), Err(io::ErrorKind::ConnectionAborted));
    }
}
