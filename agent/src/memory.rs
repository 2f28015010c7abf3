//! What the pools keep over a restart: one small file for each.
//!
//! Losing one costs little: the agent joins as one that has never been here. So a damaged file is named, set aside in the log, and
//! done without.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use event_listener::Event as Signal;
use lictor_gossip::Memory;
use lictor_node::agent::{Memories, Pool};

use crate::durable;

/// The version of the files' format.
const VERSION: u8 = 1;

/// No file is longer; what is, is not ours.
const BYTES_MAX: u64 = 1 << 20;

/// Writes down what the pools want remembered, the latest of each, on a task of its own.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    latest: Arc<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    waiting: Mutex<Waiting>,
    /// Something waits, or has been written.
    news: Signal,
    /// Held from taking what waits until it is written: nothing older is ever written after it.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    memories: [Option<Memory>; 2],
    /// How many were given.
    given: u64,
    /// So many of these are written, or replaced by later ones that are.
    settled: u64,
}

impl Latest {
    /// Writes down what waits; without a directory it is dropped. Blocks.
    fn write(&self, dir: Option<&Path>) {
        let _alone = lock(&self.writing);
        let (memories, given) = {
            let mut waiting = lock(&self.waiting);
            (std::mem::take(&mut waiting.memories), waiting.given)
        };
        if let Some(dir) = dir {
            write_all(dir, &memories);
        }
        lock(&self.waiting).settled = given;
        self.news.notify(usize::MAX);
    }
}

impl Keeper {
    /// A keeper, and what is to run until the agent ends. Without a directory nothing is kept.
    pub(crate) fn new(data_dir: Option<&Path>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let latest = Arc::new(Latest::default());
        let keeper = Self {
            latest: Arc::clone(&latest),
        };
        let dir = data_dir.map(Path::to_owned);
        (keeper, async move {
            loop {
                let listener = latest.news.listen();
                if lock(&latest.waiting).memories.iter().all(Option::is_none) {
                    listener.await;
                    continue;
                }
                let (latest, dir) = (Arc::clone(&latest), dir.clone());
                blocking::unblock(move || latest.write(dir.as_deref())).await;
            }
        })
    }

    /// Keeps this, in place of what was kept before.
    pub(crate) fn keep(&self, pool: Pool, memory: Memory) {
        let mut waiting = lock(&self.latest.waiting);
        waiting.memories[index(pool)] = Some(memory);
        waiting.given += 1;
        drop(waiting);
        self.latest.news.notify(usize::MAX);
    }

    /// Waits until everything that has been given so far is on the disk, or cannot be written, which the log says then.
    pub(crate) async fn settled(&self) {
        let given = lock(&self.latest.waiting).given;
        loop {
            let listener = self.latest.news.listen();
            if lock(&self.latest.waiting).settled >= given {
                return;
            }
            listener.await;
        }
    }

    /// Writes down now what is still waiting. For the end; blocks.
    pub(crate) fn flush(&self, data_dir: Option<&Path>) {
        self.latest.write(data_dir);
    }
}

/// Reads what is kept in a data directory.
pub(crate) fn load(data_dir: Option<&Path>) -> Memories {
    let read = |pool| {
        let path = data_dir.map(|dir| file(dir, pool));
        path.map_or_else(Memory::default, |path| {
            read(&path).unwrap_or_else(|detail| {
                tracing::warn!(path = %path.display(), detail, "what this agent remembered of its pool cannot be read; it goes on without");
                Memory::default()
            })
        })
    };
    Memories {
        lan: read(Pool::Lan),
        wan: read(Pool::Wan),
    }
}

const fn index(pool: Pool) -> usize {
    match pool {
        Pool::Lan => 0,
        Pool::Wan => 1,
    }
}

fn file(dir: &Path, pool: Pool) -> PathBuf {
    dir.join(match pool {
        Pool::Lan => "gossip-lan",
        Pool::Wan => "gossip-wan",
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_all(dir: &Path, waiting: &[Option<Memory>; 2]) {
    for pool in [Pool::Lan, Pool::Wan] {
        let Some(memory) = &waiting[index(pool)] else {
            continue;
        };
        let path = file(dir, pool);
        if let Err(error) = write(&path, memory) {
            tracing::warn!(path = %path.display(), %error, "what this agent remembers of its pool cannot be written; it is tried again when that changes");
        }
    }
}

/// One version byte, a checksum of the rest, the rest in postcard. After a return a power cut brings back no numbers that were used since.
fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let body = postcard::to_stdvec(memory).map_err(io::Error::other)?;
    let mut bytes = vec![VERSION];
    bytes.extend(crc32c::crc32c(&body).to_be_bytes());
    bytes.extend(body);
    durable::replace(path, &bytes)
}

/// `Ok` also if there is no file.
fn read(path: &Path) -> Result<Memory, String> {
    let bytes = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
        Err(error) => return Err(error.to_string()),
        Ok(meta) if meta.len() > BYTES_MAX => return Err("it is too long".to_owned()),
        Ok(_) => fs::read(path).map_err(|error| error.to_string())?,
    };
    let (version, rest) = bytes.split_first().ok_or("it is empty")?;
    if *version != VERSION {
        return Err(format!("its format is {version}, this program knows {VERSION}"));
    }
    let (checksum, body) = rest.split_first_chunk().ok_or("it is cut off")?;
    if u32::from_be_bytes(*checksum) != crc32c::crc32c(body) {
        return Err("its checksum is wrong".to_owned());
    }
    postcard::from_bytes(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use lictor_gossip::RememberedPeer;
    use lictor_machine::NodeId;

    use super::*;

    fn memory() -> Memory {
        Memory {
            clocks: [1, 2, 3],
            peers: vec![RememberedPeer {
                id: NodeId(7),
                address: "10.0.0.7:8300".parse().unwrap(),
            }],
            ..Memory::default()
        }
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(Some(dir.path())), Memories::default());
        let (keeper, _task) = Keeper::new(Some(dir.path()));
        keeper.keep(Pool::Wan, Memory::default());
        keeper.keep(Pool::Wan, memory());
        keeper.flush(Some(dir.path()));
        let found = load(Some(dir.path()));
        assert_eq!((found.lan, found.wan), (Memory::default(), memory()));
    }

    #[test]
    fn who_waits_for_the_disk_finds_all_there_that_was_given_before() {
        use futures_lite::future::{block_on, or, poll_once};

        let dir = tempfile::tempdir().unwrap();
        let (keeper, task) = Keeper::new(Some(dir.path()));
        block_on(async {
            assert!(poll_once(keeper.settled()).await.is_some(), "nothing was given");
            keeper.keep(Pool::Lan, Memory::default());
            keeper.keep(Pool::Lan, memory());
            assert!(poll_once(keeper.settled()).await.is_none(), "nobody has written");
            or(keeper.settled(), task).await;
        });
        assert_eq!(load(Some(dir.path())).lan, memory());
    }

    #[test]
    fn a_damaged_file_is_done_without() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), Pool::Lan);
        write(&path, &memory()).unwrap();
        let whole = fs::read(&path).unwrap();
        assert_eq!(read(&path), Ok(memory()));
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path).is_err(), "cut at {length}");
        }
        let mut flipped = whole.clone();
        flipped[9] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert!(read(&path).is_err());
        assert_eq!(load(Some(dir.path())).lan, Memory::default());
    }
}
