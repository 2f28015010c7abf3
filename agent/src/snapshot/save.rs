//! From the published state to an archive, as a stream: made as fast as it is taken, a few pieces ahead.

use std::io::{self, Write};

use async_channel::Sender;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use lictor_catalog::State;
use lictor_http::{Archive, Failure, ReadMode, Reading};
use lictor_machine::NodeId;
use lictor_node::Standing;
use lictor_runtime::{Clock as _, SystemClock};

use super::Archives;
use super::archive::{self, Member, Snapshot};
use crate::server::{Freshness, Server};
use crate::view::View;

/// How many bytes go on at a time.
const PIECE_BYTES: usize = 256 << 10;

/// How many pieces are made ahead of whoever takes them.
const PIECES_AHEAD: usize = 2;

impl Server {
    /// See [`lictor_http::Backend::snapshot`].
    pub(crate) async fn snapshot(&self, mode: ReadMode) -> Result<Reading<Archive<'static>>, Failure> {
        let place = self.archives.begin_save()?;
        let Freshness {
            known_leader,
            last_contact,
        } = self.gate(mode).await?;
        let snapshot = taken(&self.view);
        let index = snapshot.export.index();
        let (sender, pieces) = async_channel::bounded(PIECES_AHEAD);
        blocking::unblock(move || {
            let mut out = Pieces::new(sender);
            if let Err(error) = archive::write(&snapshot, &mut out) {
                out.fail(error);
            }
            drop(place);
        })
        .detach();
        Ok(Reading {
            index,
            known_leader,
            last_contact,
            value: Archive::new(Box::pin(pieces).into_async_read()),
        })
    }
}

/// What is published now.
fn taken(view: &View) -> Snapshot {
    let standing = view.standing();
    Snapshot {
        export: State::for_archive(&view.state()).export(),
        term: standing.term.0,
        servers: servers(view, &standing),
        configuration_index: 0,
        taken: SystemClock.now().wall,
    }
}

fn servers(view: &View, standing: &Standing) -> Vec<Member> {
    let members = &standing.members;
    let member = |id: NodeId| Member {
        suffrage: u8::from(!members.is_voter(id)),
        id: id.to_string(),
        address: view.address(id).map(|at| at.to_string()).unwrap_or_default(),
    };
    members.members().into_iter().map(member).collect()
}

/// Passes on what is written, in pieces. Waits while nobody takes them, and fails when nobody will.
struct Pieces {
    sender: Sender<io::Result<Bytes>>,
    gathered: BytesMut,
}

impl Pieces {
    fn new(sender: Sender<io::Result<Bytes>>) -> Self {
        Self {
            sender,
            gathered: BytesMut::new(),
        }
    }

    /// Tells whoever takes the pieces that there will be no more, and why.
    fn fail(&self, error: io::Error) {
        if error.kind() != io::ErrorKind::BrokenPipe {
            tracing::warn!(%error, "an archive could not be made");
        }
        // One who has stopped taking them does not mind.
        let _ = self.sender.send_blocking(Err(error));
    }

    fn pass_on(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = self.gathered.split().freeze();
        let sent = self.sender.send_blocking(Ok(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE_BYTES {
            self.pass_on()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on()
    }
}

impl Archives {
    /// A place for one more archive that is being made.
    fn begin_save(&self) -> Result<async_lock::SemaphoreGuardArc, Failure> {
        self.saves
            .try_acquire_arc()
            .ok_or_else(|| super::busy("snapshots"))
    }
}
