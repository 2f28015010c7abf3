//! What is on the wire, below the caller's own messages: plain functions on bytes.
//!
//! - A frame is its length, 32 bits, big-endian, and that many bytes.
//! - A connection begins with a stream of both directions on which each end sends one frame: its [`Hello`].
//! - A stream of one direction is a lane: one byte with its number, then frames for as long as it lives.
//! - Any other stream of both directions is a call: one frame there, one frame back.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::error::Refusal;
use crate::identity::Identity;

/// The version of all this.
pub const VERSION: u8 = 1;

/// Longest greeting in bytes.
pub const MAX_HELLO_BYTES: usize = 1024;

/// Bytes of a frame before its content.
pub const HEADER_BYTES: usize = 4;

/// Frames up to this length are copied to stand together; longer ones are passed on as they are.
const COPY_BYTES: usize = 2048;

/// What each end of a connection says first: who it is. To be believed only as far as its certificate goes.
///
/// One byte with [`VERSION`], then the identity in postcard. A later minor version may append to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello(pub Identity);

impl Hello {
    /// The greeting as bytes; at most [`MAX_HELLO_BYTES`] for an identity that passes [`Identity::check`].
    pub fn encode(&self) -> Bytes {
        let bytes = postcard::to_extend(&self.0, vec![VERSION]);
        Bytes::from(bytes.expect("an identity is plain data, and a vector grows as needed"))
    }

    /// Reads a greeting. Nothing about it is to be believed yet but that its names are within bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let broken = |what: &str| Refusal::Protocol(format!("its greeting {what}"));
        if bytes.len() > MAX_HELLO_BYTES {
            return Err(broken("is too long"));
        }
        let (version, rest) = bytes.split_first().ok_or_else(|| broken("is empty"))?;
        if *version != VERSION {
            return Err(Refusal::Version {
                theirs: *version,
                ours: VERSION,
            });
        }
        let (identity, _appended) =
            postcard::take_from_bytes::<Identity>(rest).map_err(|_| broken("cannot be read"))?;
        identity
            .check()
            .map_err(|error| broken(&format!("is invalid: {error}")))?;
        Ok(Self(identity))
    }
}

/// A frame was announced that is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Its length.
    pub length: usize,
}

/// Cuts a stream of bytes into frames. A frame that lies in one chunk is not copied; no memory is set aside for bytes
/// that have not come.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// The beginning of a frame whose rest has not come.
    partial: BytesMut,
    /// What is not yet looked at.
    chunk: Bytes,
}

impl Decoder {
    /// A decoder for frames of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            partial: BytesMut::new(),
            chunk: Bytes::new(),
        }
    }

    /// Adds the stream's next bytes. To be called only after [`Decoder::next_frame`] has returned `None`: what it had
    /// not looked at would be lost.
    pub fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "there are frames left to be taken");
        self.chunk = chunk;
    }

    /// The next whole frame, or `None` until more bytes are pushed. After an error the stream is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, TooLong> {
        if self.partial.is_empty() {
            if let Some(length) = self.announced(&self.chunk)?
                && self.chunk.len() >= HEADER_BYTES + length
            {
                self.chunk.advance(HEADER_BYTES);
                return Ok(Some(self.chunk.split_to(length)));
            }
            self.partial.extend_from_slice(&self.chunk);
            self.chunk.clear();
            return Ok(None);
        }
        self.fill(HEADER_BYTES);
        let Some(length) = self.announced(&self.partial)? else {
            return Ok(None);
        };
        self.fill(HEADER_BYTES + length);
        if self.partial.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let mut frame = self.partial.split().freeze();
        frame.advance(HEADER_BYTES);
        Ok(Some(frame))
    }

    /// The length of the frame that has begun and is not whole, once it is known.
    pub fn begun(&self) -> Option<usize> {
        let header = self.partial.first_chunk::<HEADER_BYTES>()?;
        Some(u32::from_be_bytes(*header) as usize)
    }

    /// Whether the stream could end here.
    pub fn is_between_frames(&self) -> bool {
        self.partial.is_empty() && self.chunk.is_empty()
    }

    /// The length of the frame that `bytes` begin with, once they say it.
    fn announced(&self, bytes: &[u8]) -> Result<Option<usize>, TooLong> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*header) as usize;
        if length > self.limit {
            Err(TooLong { length })
        } else {
            Ok(Some(length))
        }
    }

    /// Moves bytes to the partial frame until it has `wanted`, or there are no more.
    fn fill(&mut self, wanted: usize) {
        let missing = wanted.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk[..missing]);
        self.chunk.advance(missing);
    }
}

/// Puts frames one after the other for as few writes as can be: short ones are copied into common chunks, long ones
/// become chunks of their own. `frames` is empty afterwards. Each is at most `u32::MAX` bytes long.
pub fn encode_batch(frames: &mut Vec<Bytes>, scratch: &mut BytesMut, chunks: &mut Vec<Bytes>) {
    for frame in frames.drain(..) {
        scratch.put_u32(u32::try_from(frame.len()).expect("the limit of a plane is below 4 GiB"));
        if frame.len() <= COPY_BYTES {
            scratch.put_slice(&frame);
        } else {
            chunks.push(scratch.split().freeze());
            chunks.push(frame);
        }
    }
    if !scratch.is_empty() {
        chunks.push(scratch.split().freeze());
    }
}

/// One frame, as chunks to be written.
pub fn encode_one(frame: Bytes) -> Vec<Bytes> {
    let mut chunks = Vec::with_capacity(2);
    encode_batch(&mut vec![frame], &mut BytesMut::new(), &mut chunks);
    chunks
}

#[cfg(test)]
mod tests {
    use lictor_machine::NodeId;
    use proptest::prelude::*;

    use super::*;
    use crate::identity::Role;

    fn hello() -> Hello {
        Hello(Identity {
            node: NodeId(7),
            name: "web 1".into(),
            datacenter: "dc1".into(),
            role: Role::Client,
        })
    }

    /// The bytes of a greeting are fixed: agents of different builds meet with them.
    #[test]
    fn a_hello_has_these_bytes_for_ever() {
        assert_eq!(&hello().encode()[..], b"\x01\x07\x05web 1\x03dc1\x01");
        assert_eq!(Hello::decode(&hello().encode()), Ok(hello()));
    }

    #[test]
    fn a_hello_may_be_appended_to() {
        let mut bytes = hello().encode().to_vec();
        bytes.extend_from_slice(b"something new");
        assert_eq!(Hello::decode(&bytes), Ok(hello()));
    }

    #[test]
    fn a_broken_hello_is_refused() {
        assert!(matches!(Hello::decode(&[]), Err(Refusal::Protocol(_))));
        assert_eq!(
            Hello::decode(&[9, 1, 2]),
            Err(Refusal::Version {
                theirs: 9,
                ours: VERSION
            })
        );
        assert!(matches!(
            Hello::decode(&vec![VERSION; MAX_HELLO_BYTES + 1]),
            Err(Refusal::Protocol(_))
        ));
        let bytes = hello().encode();
        for length in 1..bytes.len() {
            assert!(
                matches!(Hello::decode(&bytes[..length]), Err(Refusal::Protocol(_))),
                "cut at {length}"
            );
        }
        let nameless = Hello(Identity {
            name: String::new(),
            ..hello().0
        });
        assert!(matches!(
            Hello::decode(&nameless.encode()),
            Err(Refusal::Protocol(_))
        ));
    }

    #[test]
    fn the_longest_hello_fits() {
        let long = Hello(Identity {
            node: NodeId(u128::MAX),
            name: "x".repeat(255),
            datacenter: "y".repeat(63),
            role: Role::Server,
        });
        assert!(long.encode().len() <= MAX_HELLO_BYTES);
        assert_eq!(Hello::decode(&long.encode()), Ok(long));
    }

    #[test]
    fn a_frame_beyond_the_limit_is_an_error_before_it_has_come() {
        let mut decoder = Decoder::new(10);
        decoder.push(Bytes::from_static(&[0, 0, 0, 11]));
        assert_eq!(decoder.next_frame(), Err(TooLong { length: 11 }));
        let mut decoder = Decoder::new(10);
        decoder.push(Bytes::from_static(&[0xff]));
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.push(Bytes::from_static(&[0xff, 0xff, 0xff]));
        assert_eq!(decoder.next_frame(), Err(TooLong { length: 0xffff_ffff }));
    }

    #[test]
    fn a_frame_in_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"\0\0\0\x03abc\0\0\0\0");
        let mut decoder = Decoder::new(10);
        decoder.push(chunk.clone());
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(frame, "abc");
        assert_eq!(frame.as_ptr(), chunk[4..].as_ptr());
        assert_eq!(decoder.next_frame(), Ok(Some(Bytes::new())));
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.is_between_frames());
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            lengths in proptest::collection::vec(prop_oneof![0_usize..40, 2000_usize..2100], 0..20),
            cuts in proptest::collection::vec(1_usize..900, 1..20),
        ) {
            let frames: Vec<Bytes> =
                lengths.iter().enumerate().map(|(i, length)| Bytes::from(vec![i as u8; *length])).collect();
            let mut chunks = Vec::new();
            encode_batch(&mut frames.clone(), &mut BytesMut::new(), &mut chunks);
            let mut wire = Bytes::from(chunks.concat());
            let mut decoder = Decoder::new(4096);
            let mut found = Vec::new();
            for cut in cuts.iter().cycle() {
                if wire.is_empty() {
                    break;
                }
                decoder.push(wire.split_to((*cut).min(wire.len())));
                while let Some(frame) = decoder.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            prop_assert_eq!(found, frames);
            prop_assert!(decoder.is_between_frames());
        }

        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
            let _ = Hello::decode(&bytes);
            let mut decoder = Decoder::new(64);
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            for part in [head, tail] {
                decoder.push(Bytes::copy_from_slice(part));
                let frames = std::iter::from_fn(|| decoder.next_frame().ok().flatten());
                prop_assert!(frames.count() <= bytes.len());
                decoder = Decoder { chunk: Bytes::new(), ..decoder };
            }
        }
    }
}
