//! Reading what clients send.

use std::ops::Deref;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};

use crate::name::{MAX_LABEL_BYTES, MAX_NAME_BYTES};

/// The length of a message's header.
pub(crate) const HEADER_BYTES: usize = 12;

/// What an answer without EDNS may have by UDP, in bytes.
pub(crate) const CLASSIC_BYTES: usize = 512;

/// The bits of a header's flags.
pub(crate) mod flags {
    pub(crate) const RESPONSE: u16 = 1 << 15;
    pub(crate) const OPCODE: u16 = 0xf << 11;
    pub(crate) const AUTHORITATIVE: u16 = 1 << 10;
    pub(crate) const TRUNCATED: u16 = 1 << 9;
    pub(crate) const RECURSION_DESIRED: u16 = 1 << 8;
    pub(crate) const RECURSION_AVAILABLE: u16 = 1 << 7;
    pub(crate) const CHECKING_DISABLED: u16 = 1 << 4;
}

/// What to do about bytes that came in.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are queries, and reading one should allocate nothing"
)]
pub(crate) enum Received {
    /// Answer it.
    Query(Request),
    /// Refuse it with this message, which is no longer than what came in.
    Refused([u8; HEADER_BYTES], ResponseCode),
    /// Say nothing: it is no query, or nobody could be told.
    Noise,
}

/// A question that can be answered.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: u16,
    /// Of the flags those that an answer repeats.
    flags: u16,
    /// The question as it came: name, type and class.
    question: Short,
    /// The question's name and type, the name in lower case.
    key: Short,
    pub(crate) edns: Option<Edns>,
}

/// What came in an OPT record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// How large an answer by UDP may be.
    pub(crate) payload: u16,
    /// The net that the client speaks for.
    pub(crate) subnet: Option<ClientSubnet>,
}

/// A few bytes without an allocation: a question.
#[derive(Clone)]
struct Short {
    bytes: [u8; MAX_NAME_BYTES + 4],
    length: usize,
}

impl Short {
    fn of(parts: [&[u8]; 2]) -> Option<Self> {
        let mut short = Self {
            bytes: [0; MAX_NAME_BYTES + 4],
            length: 0,
        };
        for part in parts {
            let end = short.length + part.len();
            short.bytes.get_mut(short.length..end)?.copy_from_slice(part);
            short.length = end;
        }
        Some(short)
    }
}

impl Deref for Short {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl std::fmt::Debug for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.escape_ascii())
    }
}

impl Request {
    /// Reads a message.
    pub(crate) fn read(bytes: &[u8]) -> Received {
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Received::Noise;
        };
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let (id, sent) = (word(0), word(2));
        // An answer to an answer could go back and forth for ever.
        if sent & flags::RESPONSE != 0 {
            return Received::Noise;
        }
        let refused = |code: ResponseCode| {
            let mut message = [0; HEADER_BYTES];
            let kept = sent & (flags::OPCODE | flags::RECURSION_DESIRED);
            let said = flags::RESPONSE | kept | u16::from(code.low());
            message[..2].copy_from_slice(&id.to_be_bytes());
            message[2..4].copy_from_slice(&said.to_be_bytes());
            Received::Refused(message, code)
        };
        if sent & flags::OPCODE != 0 {
            return refused(ResponseCode::NotImp);
        }
        if word(4) != 1 {
            return refused(ResponseCode::FormErr);
        }
        let Ok(message) = Message::from_vec(bytes) else {
            return refused(ResponseCode::FormErr);
        };
        let Some(question) = question(bytes) else {
            return refused(ResponseCode::FormErr);
        };
        let (name, rest) = question.split_at(question.len() - 4);
        let mut lower = [0; MAX_NAME_BYTES];
        let lower = &mut lower[..name.len()];
        lower.copy_from_slice(name);
        // The lengths of labels are below every letter.
        lower.make_ascii_lowercase();
        let (Some(key), Some(question)) = (Short::of([lower, &rest[..2]]), Short::of([name, rest])) else {
            return refused(ResponseCode::FormErr);
        };
        let edns = message.edns.map(|edns| Edns {
            payload: edns.max_payload(),
            subnet: match edns.option(EdnsCode::Subnet) {
                Some(EdnsOption::Subnet(subnet)) => Some(*subnet),
                Some(_) | None => None,
            },
        });
        Received::Query(Self {
            id,
            flags: sent & (flags::RECURSION_DESIRED | flags::CHECKING_DISABLED),
            question,
            key,
            edns,
        })
    }

    /// The question as the client wrote it.
    pub(crate) fn question(&self) -> &[u8] {
        &self.question
    }

    /// Its name, as the client wrote it.
    pub(crate) fn written_name(&self) -> &[u8] {
        &self.question[..self.question.len() - 4]
    }

    /// Its name in lower case.
    pub(crate) fn name(&self) -> &[u8] {
        &self.key[..self.key.len() - 2]
    }

    /// What is asked about the name.
    pub(crate) fn kind(&self) -> RecordType {
        let at = self.key.len() - 2;
        RecordType::from(u16::from_be_bytes([self.key[at], self.key[at + 1]]))
    }

    /// Name and type: what an answer depends on.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The flags that an answer repeats.
    pub(crate) const fn flags(&self) -> u16 {
        self.flags
    }

    /// How long an answer by UDP may be.
    pub(crate) fn payload(&self) -> usize {
        self.edns
            .as_ref()
            .map_or(CLASSIC_BYTES, |edns| usize::from(edns.payload).max(CLASSIC_BYTES))
    }
}

/// The first question of a message: name, type and class. The name must be written in full: there is nothing before it that a pointer
/// could point at.
fn question(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.get(HEADER_BYTES..)?;
    let mut at = 0;
    loop {
        let length = usize::from(*rest.get(at)?);
        if length > MAX_LABEL_BYTES {
            return None;
        }
        at += 1 + length;
        if at > MAX_NAME_BYTES {
            return None;
        }
        if length == 0 {
            return rest.get(..at + 4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query for `Web.service.consul`, type A, class IN.
    fn query() -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(b"\x03Web\x07service\x06consul\0\0\x01\0\x01");
        bytes
    }

    fn read(bytes: &[u8]) -> Request {
        match Request::read(bytes) {
            Received::Query(request) => request,
            other @ (Received::Refused(..) | Received::Noise) => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(bytes: &[u8], code: ResponseCode) {
        match Request::read(bytes) {
            Received::Refused(message, said) => {
                assert_eq!(said, code);
                assert_eq!(message[..2], bytes[..2]);
                assert_eq!(message[2] & 0x80, 0x80, "it is an answer");
                assert_eq!(message[3] & 0xf, code.low());
                assert_eq!(message[4..], [0; 8]);
            }
            other @ (Received::Query(_) | Received::Noise) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_query_is_read_and_its_letters_are_kept() {
        let request = read(&query());
        assert_eq!((request.id, request.kind()), (0x1234, RecordType::A));
        assert_eq!(request.written_name(), b"\x03Web\x07service\x06consul\0");
        assert_eq!(request.name(), b"\x03web\x07service\x06consul\0");
        assert_eq!(request.question().len(), 24);
        assert_eq!(request.flags(), flags::RECURSION_DESIRED);
        assert_eq!((request.payload(), request.edns), (512, None));
    }

    #[test]
    fn edns_says_how_long_an_answer_may_be_and_for_whom_it_is() {
        let mut bytes = query();
        bytes[11] = 1;
        bytes.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 11]);
        bytes.extend_from_slice(&[0, 8, 0, 7, 0, 1, 24, 0, 1, 2, 3]);
        let request = read(&bytes);
        assert_eq!(request.payload(), 1232);
        let subnet = request.edns.unwrap().subnet.unwrap();
        assert_eq!((subnet.addr(), subnet.source_prefix()), ([1, 2, 3, 0].into(), 24));
        let mut small = query();
        small[11] = 1;
        small.extend_from_slice(&[0, 0, 41, 0, 100, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read(&small).payload(), 512);
    }

    #[test]
    fn what_is_no_query_gets_no_answer() {
        let mut answer = query();
        answer[2] |= 0x80;
        for noise in [&answer[..], &query()[..11], b""] {
            assert!(matches!(Request::read(noise), Received::Noise));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_in_twelve_bytes() {
        for opcode in 1..16_u8 {
            let mut other = query();
            other[2] |= opcode << 3;
            refused(&other, ResponseCode::NotImp);
        }
        for questions in [0, 2, 255] {
            let mut many = query();
            many[5] = questions;
            refused(&many, ResponseCode::FormErr);
        }
        let with_name = |name: &[u8]| [&query()[..12], name, b"\0\x01\0\x01"].concat();
        for name in [
            &b"\xc0\x0c"[..],
            b"\xc0\x00",
            b"\xc0\x20",
            b"\x03foo\xc0\x0c",
            b"\x83foo\0",
            b"\x40foo\0",
            b"\x03fo",
        ] {
            refused(&with_name(name), ResponseCode::FormErr);
        }
        let long = [b"\x3f".as_slice(), &[b'a'; 63]].concat();
        let fits = [&long.repeat(3)[..], b"\x3d", &[b'b'; 61], b"\0"].concat();
        assert_eq!(read(&with_name(&fits)).name().len(), 255);
        let longer = [&long.repeat(3)[..], b"\x3e", &[b'b'; 62], b"\0"].concat();
        refused(&with_name(&longer), ResponseCode::FormErr);
        for cut in 12..query().len() {
            refused(&query()[..cut], ResponseCode::FormErr);
        }
        let mut claims = query();
        claims[7] = 9;
        refused(&claims, ResponseCode::FormErr);
    }
}
