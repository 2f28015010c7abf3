//! `state.bin`: a magic word, a format, and the rows in chunks, each with its length before it. A length of 0 ends it.

use std::io::{self, Read};

use bytes::Bytes;
use lictor_catalog::{Cursor, Export, MAX_CHUNK_BYTES, encode_chunk};

use super::archive::ArchiveError;

/// What our files begin with.
const MAGIC: &[u8; 8] = b"LICTOR\r\n";

/// The format that this program writes, and the newest that it reads. It names the layout of this file; chunks have their own.
const FORMAT: u8 = 1;

/// How much of a state is encoded at a time, in bytes; a single larger row may exceed it.
const CHUNK_BYTES: usize = 1 << 20;

/// A state as the bytes of the file, encoded as they are read. Two of them for the same state give the same bytes.
#[derive(Debug)]
pub struct Encoder<'a> {
    export: &'a Export,
    next: Option<Cursor>,
    /// What is encoded and not yet read, one piece after the other.
    ready: [Bytes; 2],
    ended: bool,
}

impl<'a> Encoder<'a> {
    /// From the start.
    pub fn new(export: &'a Export) -> Self {
        let head = Bytes::from([&MAGIC[..], &[FORMAT]].concat());
        Self {
            export,
            next: Some(Cursor::start()),
            ready: [head, Bytes::new()],
            ended: false,
        }
    }

    /// How many bytes there are from here on. Encodes them all.
    pub fn total(mut self) -> io::Result<u64> {
        let mut bytes = 0;
        loop {
            bytes += self.ready.iter().map(|ready| ready.len() as u64).sum::<u64>();
            self.ready = [Bytes::new(), Bytes::new()];
            if !self.refill()? {
                return Ok(bytes);
            }
        }
    }

    /// Encodes more; false if there is no more.
    fn refill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let Some(from) = self.next.take() else {
            self.ended = true;
            self.ready[0] = Bytes::from_static(&[0; 4]);
            return Ok(true);
        };
        let (rows, next) = self.export.chunk(&from, CHUNK_BYTES);
        self.next = next;
        let chunk = encode_chunk(&rows).map_err(io::Error::other)?;
        let length = u32::try_from(chunk.len()).map_err(io::Error::other)?;
        self.ready = [Bytes::copy_from_slice(&length.to_be_bytes()), chunk];
        Ok(true)
    }
}

impl Read for Encoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(ready) = self.ready.iter_mut().find(|ready| !ready.is_empty()) {
                let taken = ready.split_to(ready.len().min(buffer.len()));
                buffer[..taken.len()].copy_from_slice(&taken);
                return Ok(taken.len());
            }
            if buffer.is_empty() || !self.refill()? {
                return Ok(0);
            }
        }
    }
}

/// Takes the chunks of a state, in order.
pub type Sink<'a> = dyn FnMut(Bytes) -> Result<(), ArchiveError> + 'a;

/// Reads the file to its end and gives its chunks to `sink`, none of them with more than `chunk_max` bytes.
pub(super) fn read(file: &mut dyn Read, chunk_max: usize, sink: &mut Sink<'_>) -> Result<(), ArchiveError> {
    let mut head = [0; MAGIC.len() + 1];
    fill(file, &mut head)?;
    let (magic, format) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(ArchiveError::Foreign);
    }
    if format[0] > FORMAT {
        return Err(ArchiveError::NewerFormat {
            found: format[0],
            known: FORMAT,
        });
    }
    if format[0] != FORMAT {
        return Err(ArchiveError::State(format!("unknown format {}", format[0])));
    }
    loop {
        let mut length = [0; 4];
        fill(file, &mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 {
            break;
        }
        let most = chunk_max.min(MAX_CHUNK_BYTES);
        if length > most {
            return Err(ArchiveError::State(format!(
                "a chunk of {length} bytes, where the most is {most}"
            )));
        }
        let mut chunk = vec![0; length];
        fill(file, &mut chunk)?;
        sink(chunk.into())?;
    }
    let mut more = [0];
    match file.read(&mut more).map_err(ArchiveError::of_state)? {
        0 => Ok(()),
        _ => Err(ArchiveError::State(
            "there is something behind its end".to_owned(),
        )),
    }
}

fn fill(file: &mut dyn Read, buffer: &mut [u8]) -> Result<(), ArchiveError> {
    file.read_exact(buffer).map_err(ArchiveError::of_state)
}
