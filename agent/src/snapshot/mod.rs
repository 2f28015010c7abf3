//! Archives of a data center's state: made, checked, passed on, and restored.
//!
//! - [`archive`]: the file: a compressed tar of what Consul's archives have as well, but for the state itself;
//! - [`state`]: the state within, as a stream of rows;
//! - `save`: from the published state to a stream of bytes;
//! - `restore`: from a stream of bytes into the catalog; `places`: how many of both, and how slow; `room`: what this machine has room for;
//! - `aside`: threads on which that is done;
//! - `passing`: both by way of another server, a piece at a time.

pub mod archive;
mod aside;
pub mod passing;
mod places;
mod restore;
mod room;
mod save;
pub mod state;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use async_lock::Mutex;
use bytes::Bytes;
use futures_lite::AsyncRead as _;
use lictor_http::{Archive, Failure};

use places::Places;

/// How many bytes are read at once, at most.
const READ_BYTES: usize = 64 << 10;

/// What an agent puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest archive that is taken in, in bytes. It is kept in a file until it has been checked.
    pub archive_bytes: u64,
    /// The largest state that is unpacked from one, in bytes. Whatever it is, what the machine has no room for is refused.
    pub state_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 4 << 30,
            state_bytes: 16 << 30,
        }
    }
}

/// A server's care for archives.
#[derive(Debug)]
pub(crate) struct Archives {
    /// Where archives are kept until they have been checked; `None`: where the system keeps such files.
    directory: Option<PathBuf>,
    limits: Limits,
    /// The largest command that the log takes.
    command_bytes_max: usize,
    /// A place for each that is made.
    saves: Arc<Places>,
    /// A place for each that is kept in a file, to restore it. Those that come slowly do not hold up the others before that.
    kept: Arc<Places>,
    /// Held while one takes the place of the state, which is not before all of it has come.
    restore: Mutex<()>,
}

impl Archives {
    pub(crate) fn new(directory: Option<PathBuf>, limits: Limits, command_bytes_max: usize) -> Self {
        Self {
            directory,
            limits,
            command_bytes_max,
            saves: Arc::default(),
            kept: Arc::default(),
            restore: Mutex::new(()),
        }
    }
}

/// The next bytes of an archive, as many as these if there are as many; none at its end.
async fn next_piece(archive: &mut Archive<'_>, bytes: usize) -> io::Result<Bytes> {
    let mut piece = Vec::with_capacity(bytes);
    gather(archive, &mut piece, bytes).await?;
    Ok(piece.into())
}

/// Reads on until `piece` has that many bytes, or the archive is at its end. What was read when this is abandoned, or fails, is in `piece`:
/// whoever asks again goes on from there.
async fn gather(archive: &mut Archive<'_>, piece: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
    poll_fn(|context| {
        while piece.len() < bytes {
            let filled = piece.len();
            piece.resize(bytes.min(filled + READ_BYTES), 0);
            let polled = Pin::new(&mut *archive).poll_read(context, &mut piece[filled..]);
            let read = match &polled {
                Poll::Ready(Ok(read)) => *read,
                Poll::Ready(Err(_)) | Poll::Pending => 0,
            };
            piece.truncate(filled + read);
            if ready!(polled)? == 0 {
                break;
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// What is said when an archive does not come to its end.
fn not_received(error: &io::Error) -> Failure {
    Failure::Refused(format!(
        "the snapshot could not be received, and nothing was changed: {error}"
    ))
}

fn busy(limit: &'static str) -> Failure {
    Failure::Busy {
        limit: limit.into(),
        retry_after: Duration::from_secs(1),
    }
}
