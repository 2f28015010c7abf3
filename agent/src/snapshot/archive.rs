//! The archive: a gzip'd tar of `meta.json`, `state.bin` and `SHA256SUMS`, as Consul has it. So its tools can look into ours, and ours
//! into its; but each has a `state.bin` of its own.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lictor_catalog::Export;
use lictor_machine::UnixMillis;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::state::{self, Encoder, Sink};

/// The version of the archive's layout.
pub const VERSION: u64 = 1;

/// The most bytes that `meta.json` and `SHA256SUMS` may have each.
const SMALL_FILE: u64 = 1 << 20;

/// The length of a gzip header.
const GZIP_HEADER: usize = 10;

const META: &str = "meta.json";
const STATE: &str = "state.bin";
const SUMS: &str = "SHA256SUMS";

/// What an archive says of itself: its `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Meta {
    /// See [`VERSION`].
    pub version: u64,
    /// A name: the term, the index, and the time in milliseconds when it was made.
    #[serde(rename = "ID")]
    pub id: String,
    /// The index that its state is of.
    pub index: u64,
    /// The term in which it was made.
    pub term: u64,
    /// The servers, for tools of old; ours leave it empty.
    pub peers: Option<String>,
    /// The servers then.
    pub configuration: Configuration,
    /// When those were agreed on.
    pub configuration_index: u64,
    /// The size of `state.bin` in bytes.
    pub size: u64,
}

/// The servers of a data center.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Configuration {
    /// In order of their ids.
    pub servers: Option<Vec<Member>>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Member {
    /// 0 if it votes, 1 if not.
    pub suffrage: u8,
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Where it was reached.
    pub address: String,
}

/// Why an archive is not one. The texts are those that people know from Consul, where it has any.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is not compressed as it should be.
    #[error("failed to decompress snapshot: {0}; it is no snapshot")]
    Compression(&'static str),
    /// Something is wrong with its files.
    #[error("failed to read snapshot file: {0}")]
    Files(String),
    /// It ends too early, or is damaged behind its files.
    #[error("{0}")]
    End(String),
    /// The state within is damaged.
    #[error("failed to read snapshot file: state.bin is damaged: {0}")]
    State(String),
    /// The state within is in another program's format.
    #[error(
        "the snapshot was not made by Lictor: its state.bin is in another format, most likely that of Consul, which cannot be restored here; \
         to bring keys over, use \"consul kv export\" and \"lictor kv import\""
    )]
    Foreign,
    /// The state within was written by a newer version of this program.
    #[error(
        "the snapshot was made by a newer version of Lictor: its format is {found}, and this version knows none above {known}"
    )]
    NewerFormat {
        /// The format found.
        found: u8,
        /// The newest format known.
        known: u8,
    },
    /// It is larger than allowed.
    #[error("the snapshot is too large: {what} has more than {limit} bytes, which is the limit")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// How many bytes it may have.
        limit: u64,
    },
    /// This machine has no room for it.
    #[error(
        "the snapshot is too large for this server: what has been read of it needs {needed} bytes of {what}, and {there} are free; nothing was changed"
    )]
    NoRoom {
        /// For what there is none.
        what: &'static str,
        /// How many bytes are needed at least.
        needed: u64,
        /// How many bytes are free.
        there: u64,
    },
    /// Its index is none that a data center ever comes to.
    #[error(
        "the snapshot cannot be restored: it says that it is of index {index}, and no data center comes to any above {highest}; it was altered, or made by something else"
    )]
    Index {
        /// The index that it has, or the highest fence.
        index: u64,
        /// The highest that is taken.
        highest: u64,
    },
    /// The rows within are no state.
    #[error("the snapshot cannot be restored: what is in it is no state of this version of Lictor: {0}")]
    Rows(String),
    /// It could not be read for another reason.
    #[error("the snapshot could not be read: {0}")]
    Io(io::Error),
}

impl ArchiveError {
    pub(super) fn of_state(error: io::Error) -> Self {
        match damage(&error) {
            Some(text) => Self::Files(format!("failed to read or write snapshot data: {text}")),
            None => Self::Io(error),
        }
    }

    fn of_tar(error: io::Error) -> Self {
        // What the reader of tars says of one that ends within a block.
        const SHORT: &str = "failed to read entire block";
        match damage(&error) {
            Some(text) => {
                let text = if text == SHORT {
                    "unexpected EOF"
                } else {
                    text.as_str()
                };
                Self::Files(format!("failed reading snapshot: {text}"))
            }
            None => Self::Io(error),
        }
    }

    fn of_end(error: io::Error) -> Self {
        match damage(&error) {
            Some(text) => Self::End(text),
            None => Self::Io(error),
        }
    }
}

/// What is wrong with the bytes; `None` if they could not be had.
fn damage(error: &io::Error) -> Option<String> {
    let kind = error.kind();
    if kind == io::ErrorKind::UnexpectedEof {
        return Some("unexpected EOF".to_owned());
    }
    let of_bytes = [
        io::ErrorKind::InvalidInput,
        io::ErrorKind::InvalidData,
        io::ErrorKind::Other,
    ];
    of_bytes.contains(&kind).then(|| error.to_string())
}

/// A state to be archived.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The state: [`lictor_catalog::State::for_archive`].
    pub export: Export,
    /// The term in which it was published.
    pub term: u64,
    /// The servers.
    pub servers: Vec<Member>,
    /// When the servers were agreed on, if that is known.
    pub configuration_index: u64,
    /// Now.
    pub taken: UnixMillis,
}

/// Writes an archive. Encodes the state twice, since its size comes before it; but never more than a piece of it at once.
pub fn write(snapshot: &Snapshot, out: impl Write) -> io::Result<()> {
    let Snapshot {
        export,
        term,
        servers,
        configuration_index,
        taken,
    } = snapshot;
    let index = export.index().0;
    let size = Encoder::new(export).total()?;
    let meta = Meta {
        version: VERSION,
        id: format!("{term}-{index}-{}", taken.0),
        index,
        term: *term,
        peers: None,
        configuration: Configuration {
            servers: Some(servers.clone()),
        },
        configuration_index: *configuration_index,
        size,
    };
    let meta = serde_json::to_vec(&meta)?;

    let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::fast()));
    let header = |size| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(taken.0 / 1000);
        header.set_entry_type(tar::EntryType::Regular);
        header
    };
    tar.append_data(&mut header(meta.len() as u64), META, &meta[..])?;
    let mut state = Hashing::new(Encoder::new(export));
    tar.append_data(&mut header(size), STATE, &mut state)?;
    let mut hash = Context::new(&SHA256);
    hash.update(&meta);
    let sums = format!("{}  {META}\n{}  {STATE}\n", hex(hash), hex(state.hash));
    tar.append_data(&mut header(sums.len() as u64), SUMS, sums.as_bytes())?;
    tar.into_inner()?.finish()?.flush()
}

/// What to make of the state within an archive.
pub enum Within<'a> {
    /// It is whatever it is: only its checksum counts.
    Anything,
    /// It is ours: its chunks, none of them with more than these bytes, go there. They are not known to be what was written before all of
    /// the archive has been read.
    Ours(usize, &'a mut Sink<'a>),
}

/// Reads an archive to its end and checks all of it: compression, files, checksums. `state_max`: how many bytes the state may have.
pub fn read(input: impl Read, state_max: u64, within: Within<'_>) -> Result<Meta, ArchiveError> {
    let mut files = Files {
        within,
        state_max,
        meta: None,
        meta_sum: None,
        state_sum: None,
        sums: None,
    };
    let mut tar = tar::Archive::new(MultiGzDecoder::new(with_header(input)?));
    // Raw: or else the reader of tars follows extensions, and takes in as much as these say before it gives anything to us. So all that is
    // unpacked is headers of a block each, and files that are known and within their limits.
    for entry in tar.entries().map_err(ArchiveError::of_tar)?.raw(true) {
        let mut entry = entry.map_err(ArchiveError::of_tar)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() {
            return Err(ArchiveError::Files(format!(
                "{name:?} in snapshot is not a regular file"
            )));
        }
        let size = entry.header().size().map_err(ArchiveError::of_tar)?;
        files.take(&name, size, &mut entry)?;
    }
    let meta = files.finish()?;
    // What is behind the tar is little: padding. Reading it checks the checksum of the compression.
    let mut rest = tar.into_inner().take(SMALL_FILE);
    io::copy(&mut rest, &mut io::sink()).map_err(ArchiveError::of_end)?;
    if rest.limit() == 0 {
        return Err(ArchiveError::End("there is something behind the end".to_owned()));
    }
    Ok(meta)
}

/// The files of an archive, as far as they have been read.
struct Files<'a> {
    within: Within<'a>,
    state_max: u64,
    meta: Option<Meta>,
    meta_sum: Option<String>,
    state_sum: Option<String>,
    sums: Option<String>,
}

impl Files<'_> {
    fn take(&mut self, name: &str, size: u64, file: &mut dyn Read) -> Result<(), ArchiveError> {
        let again = match name {
            META => self.meta.is_some(),
            STATE => self.state_sum.is_some(),
            SUMS => self.sums.is_some(),
            _ => false,
        };
        if again {
            return Err(ArchiveError::Files(format!("file {name:?} is there twice")));
        }
        match name {
            META => {
                let content = small(file, META, size)?;
                let mut hash = Context::new(&SHA256);
                hash.update(&content);
                self.meta_sum = Some(hex(hash));
                let meta = serde_json::from_slice(&content).map_err(|error| {
                    let why = if error.is_eof() {
                        "unexpected end of JSON input".to_owned()
                    } else {
                        error.to_string()
                    };
                    ArchiveError::Files(format!("failed to decode snapshot metadata: {why}"))
                })?;
                self.meta = Some(meta);
            }
            STATE => {
                if size > self.state_max {
                    return Err(ArchiveError::TooLarge {
                        what: "state.bin",
                        limit: self.state_max,
                    });
                }
                let mut file = Hashing::new(file);
                match &mut self.within {
                    Within::Anything => {
                        io::copy(&mut file, &mut io::sink()).map_err(ArchiveError::of_state)?;
                    }
                    Within::Ours(chunk_max, sink) => state::read(&mut file, *chunk_max, *sink)?,
                }
                if file.bytes != size {
                    let text = "failed to read or write snapshot data: unexpected EOF";
                    return Err(ArchiveError::Files(text.to_owned()));
                }
                self.state_sum = Some(hex(file.hash));
            }
            SUMS => {
                let content = small(file, SUMS, size)?;
                self.sums = Some(String::from_utf8_lossy(&content).into_owned());
            }
            _ => {
                return Err(ArchiveError::Files(format!(
                    "unexpected file {name:?} in snapshot"
                )));
            }
        }
        Ok(())
    }

    /// What the archive says of itself, if all of it is there and is what was written.
    fn finish(self) -> Result<Meta, ArchiveError> {
        let failed =
            |why: String| ArchiveError::Files(format!("failed checking integrity of snapshot: {why}"));
        let sums = self.sums.unwrap_or_default();
        let mut listed = [(META, self.meta_sum, false), (STATE, self.state_sum, false)];
        for line in sums.lines() {
            let mut words = line.split_whitespace();
            let (Some(sum), Some(name), None) = (words.next(), words.next(), words.next()) else {
                return Err(failed(format!("the line {line:?} of {SUMS} is not one")));
            };
            let Some((_, found, seen)) = listed.iter_mut().find(|(known, ..)| *known == name) else {
                return Err(failed(format!("list missing hash for {name:?}")));
            };
            if found.as_deref() != Some(sum) {
                return Err(failed(format!("hash check failed for {name:?}")));
            }
            *seen = true;
        }
        if let Some((name, ..)) = listed.iter().find(|(.., seen)| !seen) {
            return Err(failed(format!("file missing for {name:?}")));
        }
        self.meta
            .ok_or_else(|| failed(format!("file missing for {META:?}")))
    }
}

/// The whole input again, if it begins as gzip does.
fn with_header<R: Read>(mut input: R) -> Result<impl Read, ArchiveError> {
    let mut header = Vec::with_capacity(GZIP_HEADER);
    let taken = input.by_ref().take(GZIP_HEADER as u64).read_to_end(&mut header);
    match taken.map_err(ArchiveError::Io)? {
        0 => Err(ArchiveError::Compression("EOF")),
        short if short < GZIP_HEADER => Err(ArchiveError::Compression("unexpected EOF")),
        _ if !header.starts_with(&[0x1f, 0x8b, 8]) => Err(ArchiveError::Compression("gzip: invalid header")),
        _ => Ok(io::Cursor::new(header).chain(input)),
    }
}

fn small(file: &mut dyn Read, name: &'static str, size: u64) -> Result<Vec<u8>, ArchiveError> {
    if size > SMALL_FILE {
        return Err(ArchiveError::TooLarge {
            what: name,
            limit: SMALL_FILE,
        });
    }
    let mut content = Vec::new();
    file.take(SMALL_FILE)
        .read_to_end(&mut content)
        .map_err(ArchiveError::of_state)?;
    if content.len() as u64 != size {
        let text = "failed to read or write snapshot data: unexpected EOF";
        return Err(ArchiveError::Files(text.to_owned()));
    }
    Ok(content)
}

/// Passes bytes through, and takes their checksum.
struct Hashing<R> {
    inner: R,
    hash: Context,
    bytes: u64,
}

impl<R> Hashing<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            hash: Context::new(&SHA256),
            bytes: 0,
        }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.inner.read(buffer)?;
        self.hash.update(&buffer[..taken]);
        self.bytes += taken as u64;
        Ok(taken)
    }
}

fn hex(hash: Context) -> String {
    let mut text = String::with_capacity(64);
    for byte in hash.finish().as_ref() {
        write!(text, "{byte:02x}").expect("a String takes all text");
    }
    text
}
