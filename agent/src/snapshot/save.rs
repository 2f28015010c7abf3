//! From the published state to an archive, as a stream: made as fast as it is taken, a few pieces ahead.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use async_channel::{Receiver, Sender};
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use futures::stream::unfold;
use lictor_catalog::State;
use lictor_http::{Archive, Failure, ReadMode, Reading};
use lictor_machine::NodeId;
use lictor_node::Standing;
use lictor_runtime::{Clock as _, SystemClock};

use super::archive::{self, Member, Snapshot};
use super::aside;
use super::places::{Lost, Place};
use crate::server::{Freshness, Server};
use crate::view::View;

/// How many bytes go on at a time.
const PIECE_BYTES: usize = 256 << 10;

/// How many pieces are made ahead of whoever takes them.
const PIECES_AHEAD: usize = 2;

impl Server {
    /// See [`lictor_http::Backend::snapshot`].
    pub(crate) async fn snapshot(&self, mode: ReadMode) -> Result<Reading<Archive<'static>>, Failure> {
        let Freshness {
            known_leader,
            last_contact,
        } = self.gate(mode).await?;
        // Only now: another one may have to give way, and to nobody who is refused.
        let place = self.archives.saves.begin();
        let place = place.ok_or_else(|| super::busy("snapshots"))?;
        let snapshot = taken(&self.view);
        let index = snapshot.export.index();
        let value = stream(snapshot, place)
            .map_err(|error| Failure::Storage(format!("the snapshot could not be made: {error}")))?;
        Ok(Reading {
            index,
            known_leader,
            last_contact,
            value,
        })
    }
}

/// The archive of a snapshot, made while it is read. The place is given back when that is done, and the state is let go.
fn stream(snapshot: Snapshot, place: Place) -> io::Result<Archive<'static>> {
    let (sender, pieces) = async_channel::bounded(PIECES_AHEAD);
    let end = Arc::<End>::default();
    let archive = Archive::new(arriving(pieces, Arc::clone(&end)));
    aside::spawn(move || {
        let mut out = Pieces {
            place: &place,
            sender,
            gathered: BytesMut::new(),
        };
        let made = archive::write(&snapshot, &mut out);
        if let Err(error) = &made
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            tracing::warn!(%error, "an archive could not be made");
        }
        end.get_or_init(|| made.map_err(|error| error.to_string()));
        // Only now there is nothing more to come.
        drop(out);
        drop(snapshot);
    })?;
    Ok(archive)
}

/// How it ended, once it has.
type End = OnceLock<Result<(), String>>;

/// The pieces as they come. Without a good end the last one is an error.
fn arriving(pieces: Receiver<Bytes>, end: Arc<End>) -> impl futures_lite::AsyncRead + Send {
    let pieces = unfold(Some((pieces, end)), |coming| async move {
        let (pieces, end) = coming?;
        if let Ok(piece) = pieces.recv().await {
            return Some((Ok(piece), Some((pieces, end))));
        }
        let why = match end.get() {
            Some(Ok(())) => return None,
            Some(Err(why)) => why,
            None => "it was broken off by a fault of the program",
        };
        let failed = io::Error::other(format!("the snapshot could not be made to its end: {why}"));
        Some((Err(failed), None))
    });
    Box::pin(pieces).into_async_read()
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

/// Passes on what is written, in pieces. Waits while nobody takes them, and fails when nobody will, or too slowly.
struct Pieces<'a> {
    place: &'a Place,
    sender: Sender<Bytes>,
    gathered: BytesMut,
}

impl Pieces<'_> {
    fn pass_on(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = self.gathered.split().freeze();
        self.place.hand_over(piece, &self.sender).map_err(|lost| {
            let kind = match lost {
                Lost::Gone => io::ErrorKind::BrokenPipe,
                Lost::TooSlow | Lost::GaveWay => io::ErrorKind::TimedOut,
            };
            io::Error::new(kind, lost)
        })
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gathered.is_empty() {
            self.gathered.reserve(PIECE_BYTES + bytes.len());
        }
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

#[cfg(test)]
mod tests {
    use futures_lite::AsyncReadExt as _;
    use futures_lite::future::block_on;
    use lictor_machine::UnixMillis;
    use lictor_raft::{Configuration, Role, Term};
    use lictor_runtime::channel;

    use super::super::places::{PLACES, Places};
    use super::super::{Archives, Limits};
    use super::*;
    use crate::handle::Handle;
    use crate::metrics::RequestCounts;
    use crate::storage::Space;

    fn empty() -> Snapshot {
        Snapshot {
            export: State::new().export(),
            term: 1,
            servers: Vec::new(),
            configuration_index: 0,
            taken: UnixMillis(1),
        }
    }

    fn read(archive: impl futures_lite::AsyncRead) -> (io::Result<usize>, Vec<u8>) {
        let mut content = Vec::new();
        let mut archive = std::pin::pin!(archive);
        (block_on(archive.read_to_end(&mut content)), content)
    }

    #[test]
    fn it_comes_in_pieces_and_is_the_archive() {
        let places = Arc::new(Places::default());
        let mut expected = Vec::new();
        archive::write(&empty(), &mut expected).unwrap();
        // More than there are places: each is given back.
        for _ in 0..20 {
            let place = loop {
                // It is, soon after the last piece was read.
                match places.begin() {
                    Some(place) => break place,
                    None => std::thread::yield_now(),
                }
            };
            let (all, content) = read(stream(empty(), place).unwrap());
            all.unwrap();
            assert_eq!(content, expected);
        }
    }

    /// A server that has heard of a leader just now, and can ask nobody.
    fn alone() -> Server {
        let (inbox, completions, _) = channel(8);
        let nobody = Standing {
            role: Role::Follower,
            term: Term::ZERO,
            leader: None,
            lease_until: None,
            leader_contact: Some(SystemClock.now().mono),
            members: Configuration::default(),
        };
        Server {
            view: Arc::new(View::new(State::new(), nobody)),
            handle: Handle::new(inbox, completions),
            space: Space::default(),
            archives: Arc::new(Archives::new(None, Limits::default(), 1 << 20)),
            counts: Arc::new(RequestCounts::new(&lictor_metrics::Registry::new())),
        }
    }

    #[test]
    fn nobody_gives_way_to_a_request_that_fails() {
        let server = alone();
        let saves = &server.archives.saves;
        let slow: Vec<_> = (0..PLACES).map(|_| saves.begin().unwrap()).collect();
        saves.slow_down();
        let made = |mode| block_on(server.snapshot(mode));
        for _ in 0..PLACES {
            made(ReadMode::Default).unwrap_err();
        }
        assert!(!slow.iter().any(Place::is_lost));
        // With what this server has it can be made.
        made(ReadMode::Stale { max: None }).unwrap();
        assert_eq!(slow.iter().filter(|place| place.is_lost()).count(), 1);
    }

    #[test]
    fn whatever_has_no_good_end_ends_with_an_error() {
        let ended = |end: Option<Result<(), String>>| {
            let (sender, pieces) = async_channel::bounded(2);
            sender.try_send(Bytes::from_static(b"piece")).unwrap();
            let ended = Arc::<End>::default();
            end.map(|end| ended.set(end));
            drop(sender);
            let (all, content) = read(arriving(pieces, ended));
            assert_eq!(content, b"piece");
            all.map_err(|error| error.to_string())
        };
        let failed = |why| Err(format!("the snapshot could not be made to its end: {why}"));
        assert_eq!(ended(Some(Ok(()))), Ok(5));
        assert_eq!(ended(Some(Err("no memory".to_owned()))), failed("no memory"));
        assert_eq!(ended(None), failed("it was broken off by a fault of the program"));
    }
}
