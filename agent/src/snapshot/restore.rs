//! From a stream of bytes into the catalog: kept in a file, checked from end to end, and only then asked of the servers, a step at a time.

use std::fs::File;
use std::io::{self, BufReader, Seek as _, Write as _};
use std::time::Duration;

use async_channel::Receiver;
use async_lock::MutexGuard;
use bytes::Bytes;
use lictor_catalog::{Builder, MAX_ARCHIVE_INDEX, RestoreId, decode_chunk};
use lictor_http::{Archive, Failure};
use lictor_machine::Index;
use lictor_node::{Progress, Request, RestoreError, Restoring};
use lictor_runtime::{Clock as _, SystemClock};

use super::archive::{self, ArchiveError, Within};
use super::places::{Place, STEADY_BYTES_A_SECOND};
use super::room::Room;
use super::{Archives, Limits, aside};
use crate::boot;
use crate::server::Server;

/// How many bytes are taken in at a time.
const PIECE_BYTES: usize = 256 << 10;

/// How long to wait before a step is asked for again.
const PAUSE: Duration = Duration::from_millis(100);

/// What a step needs beside its rows, in bytes; much more than it is.
const STEP_BYTES: usize = 1 << 10;

/// An archive that has been checked.
#[derive(Debug)]
struct Checked {
    file: File,
    index: Index,
    chunks: u64,
}

impl Server {
    /// See [`lictor_http::Backend::restore`].
    pub(crate) async fn restore(&self, archive: Archive<'_>) -> Result<(), Failure> {
        let archives = &self.archives;
        let (checked, _alone) = archives.take_in(archive).await?;
        tracing::warn!(index = %checked.index, "restoring an archive: it takes the place of everything");
        let restored = self.bring_in(checked).await;
        match &restored {
            Ok(()) => tracing::info!("the archive is restored"),
            Err(error) => tracing::error!(%error, "the archive is not restored"),
        }
        restored
    }

    async fn bring_in(&self, checked: Checked) -> Result<(), Failure> {
        let Checked { file, index, chunks } = checked;
        let id = boot::random().map_err(|error| Failure::Storage(error.to_string()))?;
        let id = RestoreId(u128::from_le_bytes(id));
        let rows = read_again(file, self.archives.limits, self.archives.chunk_max())
            .map_err(|error| not_kept(&error))?;
        let now = || SystemClock.now().mono;
        let mut restoring = Restoring::new(id, index, chunks, now());
        let mut wanted: Option<(u64, Bytes)> = None;
        loop {
            let number = restoring.wanted();
            if wanted.as_ref().map(|(number, _)| *number) != number {
                wanted = match number {
                    None => None,
                    Some(number) => match rows.recv().await {
                        Ok(Ok(rows)) => Some((number, rows)),
                        Ok(Err(error)) => {
                            return self
                                .give_up(&restoring, Failure::Refused(error.to_string()))
                                .await;
                        }
                        Err(_) => {
                            let ended = Failure::Refused("the archive ended before its end".to_owned());
                            return self.give_up(&restoring, ended).await;
                        }
                    },
                };
            }
            let rows = wanted.as_ref().map_or_else(Bytes::new, |(_, rows)| rows.clone());
            let answer = self.handle.request(Request::Write(restoring.next(rows))).await;
            match restoring.answered(now(), answer) {
                Progress::Next => {}
                Progress::Again => {
                    async_io::Timer::after(PAUSE).await;
                }
                Progress::Restored => return Ok(()),
                Progress::Failed(error @ RestoreError::Unknown(_)) => {
                    return Err(Failure::Unreachable(error.to_string()));
                }
                Progress::Failed(error) => {
                    return self
                        .give_up(&restoring, Failure::Refused(error.to_string()))
                        .await;
                }
            }
        }
    }

    /// Has the servers drop what has come. If they do not hear of it, the leader does so in time.
    async fn give_up(&self, restoring: &Restoring, why: Failure) -> Result<(), Failure> {
        self.handle.request(Request::Write(restoring.abandon())).await;
        Err(why)
    }
}

/// Keeps an archive in a file that nobody else sees, and that is gone when it is closed.
async fn keep(archives: &Archives, place: &Place, mut archive: Archive<'_>) -> Result<File, Failure> {
    let directory = archives.directory.clone();
    let created = blocking::unblock(move || match directory {
        Some(directory) => tempfile::tempfile_in(directory),
        None => tempfile::tempfile(),
    });
    let mut file = created.await.map_err(|error| not_kept(&error))?;
    let limit = archives.limits.archive_bytes;
    let mut bytes = 0;
    loop {
        let piece = place.receive(super::next_piece(&mut archive, PIECE_BYTES));
        let piece = piece.await.ok_or_else(gave_way)?;
        let piece = piece.map_err(|error| super::not_received(&error))?;
        if piece.is_empty() {
            return if place.keep() { Ok(file) } else { Err(gave_way()) };
        }
        bytes += piece.len() as u64;
        if bytes > limit {
            let error = ArchiveError::TooLarge {
                what: "the archive",
                limit,
            };
            return Err(Failure::Refused(error.to_string()));
        }
        let written = blocking::unblock(move || file.write_all(&piece).map(|()| file));
        file = written.await.map_err(|error| not_kept(&error))?;
    }
}

fn gave_way() -> Failure {
    super::not_received(&io::Error::other(format!(
        "it gave way to another one: too many come at once, and of this one fewer than {STEADY_BYTES_A_SECOND} bytes a second"
    )))
}

fn not_kept(error: &io::Error) -> Failure {
    Failure::Storage(format!(
        "the snapshot could not be kept, and nothing was changed: {error}"
    ))
}

/// Reads the whole archive, and builds the state that it is going to be, to see whether that can be, and whether there is room for it.
fn check(mut file: File, room: Room, limits: Limits, chunk_max: usize) -> Result<Checked, ArchiveError> {
    file.rewind().map_err(ArchiveError::Io)?;
    let mut builder = Builder::new();
    let (mut chunks, mut rows, mut bytes) = (0, 0, 0);
    let unfit = |error: String| ArchiveError::Rows(error);
    let mut sink = |chunk: Bytes| {
        chunks += 1;
        bytes += chunk.len() as u64;
        let chunk = decode_chunk(&chunk).map_err(|error| unfit(error.to_string()))?;
        rows += chunk.len() as u64;
        room.check(rows, bytes)?;
        let mut added = chunk.into_iter().map(|row| builder.add(row));
        added.try_for_each(|added| added.map_err(|error| unfit(error.to_string())))
    };
    let within = Within::Ours(chunk_max, &mut sink);
    let meta = match archive::read(BufReader::new(&file), limits.state_bytes, within) {
        Ok(meta) => meta,
        Err(
            error @ (ArchiveError::Rows(_)
            | ArchiveError::State(_)
            | ArchiveError::Foreign
            | ArchiveError::NewerFormat { .. }),
        ) => {
            // The checksums come behind the rows. If they are wrong, the rows are not what was written, and that is what there is to say.
            file.rewind().map_err(ArchiveError::Io)?;
            archive::read(BufReader::new(&file), limits.state_bytes, Within::Anything)?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let index = Index(meta.index);
    if index > MAX_ARCHIVE_INDEX {
        return Err(ArchiveError::Index {
            index: index.0,
            highest: MAX_ARCHIVE_INDEX.0,
        });
    }
    let state = builder.finish(index).map_err(|error| unfit(error.to_string()))?;
    if !state.is_for_archive() {
        return Err(unfit("it holds what no archive should".to_owned()));
    }
    Ok(Checked { file, index, chunks })
}

/// Reads it once more, and gives its chunks one by one.
fn read_again(
    mut file: File,
    limits: Limits,
    chunk_max: usize,
) -> io::Result<Receiver<Result<Bytes, ArchiveError>>> {
    let (sender, chunks) = async_channel::bounded(1);
    aside::spawn(move || {
        let gone = || ArchiveError::Io(io::ErrorKind::BrokenPipe.into());
        let mut sink = |chunk| sender.send_blocking(Ok(chunk)).map_err(|_| gone());
        let within = Within::Ours(chunk_max, &mut sink);
        let read = file
            .rewind()
            .map_err(ArchiveError::Io)
            .and_then(|()| archive::read(BufReader::new(&file), limits.state_bytes, within));
        if let Err(error) = read {
            // Whoever has gone does not mind.
            let _ = sender.send_blocking(Err(error));
        }
    })?;
    Ok(chunks)
}

/// What one holds who restores an archive: a place for its file, and the state, which nobody else may replace.
#[derive(Debug)]
struct Alone<'a> {
    _place: Place,
    _state: MutexGuard<'a, ()>,
}

impl Archives {
    /// Keeps an archive and checks it; then it may be restored, by nobody else at the same time.
    async fn take_in(&self, archive: Archive<'_>) -> Result<(Checked, Alone<'_>), Failure> {
        let busy = || super::busy("restores");
        let place = self.kept.begin().ok_or_else(busy)?;
        let file = keep(self, &place, archive).await?;
        let (limits, chunk_max, directory) = (self.limits, self.chunk_max(), self.directory.clone());
        let checking = move || check(file, Room::look(directory.as_deref()), limits, chunk_max);
        let checked = aside::run(checking).await.map_err(|error| not_kept(&error))?;
        let checked = checked.map_err(|error| Failure::Refused(error.to_string()))?;
        let alone = Alone {
            _place: place,
            _state: self.restore.try_lock().ok_or_else(busy)?,
        };
        Ok((checked, alone))
    }

    /// The largest chunk that goes into one command.
    const fn chunk_max(&self) -> usize {
        self.command_bytes_max.saturating_sub(STEP_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;
    use futures_lite::future::{block_on, poll_once};
    use lictor_catalog::{Action, Changes, Command, KvPair, KvWrite, State};
    use lictor_machine::UnixMillis;

    use super::super::archive::Snapshot;
    use super::super::places::PLACES;
    use super::*;

    fn archived(state: &State) -> Vec<u8> {
        let snapshot = Snapshot {
            export: state.export(),
            term: 1,
            servers: Vec::new(),
            configuration_index: 0,
            taken: UnixMillis(1),
        };
        let mut bytes = Vec::new();
        archive::write(&snapshot, &mut bytes).unwrap();
        bytes
    }

    fn whole() -> Archive<'static> {
        Archive::new(futures_lite::io::Cursor::new(archived(&State::new())))
    }

    /// A state with a key that was written at this index.
    fn written_at(index: Index) -> State {
        let mut state = State::new();
        let pair = KvPair {
            key: Bytes::from_static(b"key"),
            value: vec![7; 1000].into(),
            flags: 0,
        };
        let command = Command {
            stamp: UnixMillis(1),
            action: Action::Kv(KvWrite::Set(pair)),
        };
        state.apply(index, &command, &mut Changes::default()).unwrap();
        state
    }

    fn checked(bytes: &[u8], room: Room) -> Result<Checked, ArchiveError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        check(file, room, Limits::default(), 1 << 20)
    }

    fn without_end() -> Archive<'static> {
        Archive::new(futures::stream::pending::<io::Result<Bytes>>().into_async_read())
    }

    #[test]
    fn whoever_sends_slowly_does_not_hold_up_the_others() {
        let archives = Archives::new(None, Limits::default(), 1 << 20);
        let refused = || Failure::Busy {
            limit: "restores".into(),
            retry_after: Duration::from_secs(1),
        };
        block_on(async {
            let mut slow: Vec<_> = (1..PLACES)
                .map(|_| Box::pin(archives.take_in(without_end())))
                .collect();
            for slow in &mut slow {
                assert!(poll_once(slow).await.is_none());
            }
            let (checked, alone) = archives.take_in(whole()).await.unwrap();
            assert_eq!(checked.chunks, 1);
            // No more files than that are kept.
            assert_eq!(archives.take_in(without_end()).await.unwrap_err(), refused());
            // And nobody else may restore anything.
            drop(slow.pop());
            assert_eq!(archives.take_in(whole()).await.unwrap_err(), refused());
            drop(alone);
            archives.take_in(whole()).await.unwrap();
        });
    }

    #[test]
    fn whoever_sends_slowly_gives_way_when_all_places_are_taken() {
        let archives = Archives::new(None, Limits::default(), 1 << 20);
        block_on(async {
            let mut slow: Vec<_> = (0..PLACES)
                .map(|_| Box::pin(archives.take_in(without_end())))
                .collect();
            for slow in &mut slow {
                assert!(poll_once(slow).await.is_none());
            }
            assert!(
                archives.take_in(whole()).await.is_err(),
                "nothing is known of them"
            );
            archives.kept.slow_down();
            let (checked, alone) = archives.take_in(whole()).await.unwrap();
            assert_eq!(checked.chunks, 1);
            drop(alone);
            // One of them is told why, and the others still wait.
            let (told, _, others) = futures::future::select_all(slow).await;
            let Err(Failure::Refused(why)) = told else {
                panic!("{told:?}");
            };
            assert!(
                why.contains("nothing was changed: it gave way to another one"),
                "{why}"
            );
            for mut other in others {
                assert!(poll_once(&mut other).await.is_none());
            }
            assert_eq!(archives.kept.taken(), 0);
        });
    }

    /// The rows are read before the checksums are known; what a decoder thinks of damaged ones is nobody's business.
    #[test]
    fn what_is_damaged_is_known_by_its_checksums() {
        let mut tar = Vec::new();
        let bytes = archived(&written_at(Index(1)));
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut tar).unwrap();
        let magic = b"LICTOR\r\n";
        let state = tar.windows(magic.len()).position(|at| at == magic).unwrap();
        for at in state..state + 48 {
            let mut damaged = tar.clone();
            damaged[at] ^= 0xff;
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(&damaged).unwrap();
            let error = checked(&out.finish().unwrap(), Room::default()).unwrap_err();
            assert!(matches!(error, ArchiveError::Files(_)), "byte {at}: {error}");
        }
    }

    #[test]
    fn an_index_that_no_data_center_comes_to_is_refused() {
        let highest = archived(&written_at(MAX_ARCHIVE_INDEX));
        let found = checked(&highest, Room::default()).unwrap();
        assert_eq!(found.index, MAX_ARCHIVE_INDEX);
        let beyond = archived(&written_at(MAX_ARCHIVE_INDEX.next()));
        let error = checked(&beyond, Room::default()).unwrap_err();
        assert!(matches!(error, ArchiveError::Index { .. }), "{error}");
        assert!(error.to_string().contains("index 4503599627370497"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_built() {
        let bytes = archived(&written_at(Index(1)));
        let plenty = Room {
            memory: Some(1 << 20),
            disk: Some(1 << 20),
        };
        checked(&bytes, plenty).unwrap();
        for room in [
            Room {
                memory: Some(1000),
                ..plenty
            },
            Room {
                disk: Some(1000),
                ..plenty
            },
        ] {
            let error = checked(&bytes, room).unwrap_err();
            assert!(
                matches!(error, ArchiveError::NoRoom { there: 1000, .. }),
                "{error}"
            );
        }
    }
}
