//! Asking others about names of other domains.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use async_io::{Async, Timer};
use async_net::TcpStream;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use lictor_machine::Rng;

use crate::answer::{Data, Record};
use crate::config::{Config, RecursorStrategy};
use crate::name::{Name, labels};
use crate::request::{HEADER_BYTES, flags};

/// The longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 65_535;

/// What an answer to a question of our own may have by UDP, in bytes: what goes through every network in one piece.
const PAYLOAD: u16 = 1232;

/// The most records that are taken from one answer.
const MAX_RECORDS: usize = 64;

/// Passes a query on as it is, and gives back the first answer that is one: there is such a name, or there is none. The answer is for the
/// client: with its id. `None`: no recursor knew.
pub(crate) async fn forward(config: &Config, query: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
    let ours = random()?.to_be_bytes();
    let mut asked = query.to_vec();
    let id = asked.get_mut(..2)?;
    id.copy_from_slice(&ours[..2]);
    let mut answer = ask(config, &asked, by_tcp).await?;
    answer[..2].copy_from_slice(&query[..2]);
    answer[3] |= flags::RECURSION_AVAILABLE as u8;
    Some(answer)
}

/// The addresses of a host, or the names that lead to them. `None`: no recursor knew.
pub(crate) async fn resolve(config: &Config, host: &Name, kind: RecordType) -> Option<Vec<Record>> {
    let name = hickory_proto::rr::Name::from_labels(labels(host.wire())).ok()?;
    let mut message = Message::query();
    message.metadata.id = random()? as u16;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.set_edns(edns);
    let query = message.to_vec().ok()?;
    let mut answer = ask(config, &query, false).await?;
    if truncated(&answer) {
        answer = ask(config, &query, true).await?;
    }
    let answer = Message::from_vec(&answer).ok()?;
    let records = answer.answers.into_iter().filter_map(|record| {
        let data = if let RData::A(address) = record.data {
            Data::A(address.0)
        } else if let RData::AAAA(address) = record.data {
            Data::Aaaa(address.0)
        } else if let RData::CNAME(name) = &record.data {
            Data::Cname(Name::of_labels(name.0.iter())?)
        } else {
            return None;
        };
        Some(Record {
            owner: Some(Name::of_labels(record.name.iter())?),
            ttl: record.ttl,
            data,
        })
    });
    Some(records.take(MAX_RECORDS).collect())
}

/// Asks one recursor after the other.
async fn ask(config: &Config, query: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
    let mut recursors = config.recursors.clone();
    if config.recursor_strategy == RecursorStrategy::Random {
        Rng::new(random()?).shuffle(&mut recursors);
    }
    for recursor in recursors {
        let late = async {
            Timer::after(config.recursor_timeout).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        let answer = async {
            if by_tcp {
                over_tcp(recursor, query).await
            } else {
                over_udp(recursor, query).await
            }
        };
        match answer.or(late).await {
            Ok(answer) if is_final(&answer) => return Some(answer),
            Ok(answer) => {
                tracing::debug!(%recursor, code = answer[3] & 0xf, "a recursor does not know");
            }
            Err(error) => tracing::debug!(%recursor, %error, "a recursor does not answer"),
        }
    }
    None
}

async fn over_udp(recursor: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    // A socket, and so a port, for each question: who did not see the question cannot answer it.
    let any: SocketAddr = match recursor.ip() {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(recursor)?;
    let socket = Async::new(socket)?;
    socket.send(query).await?;
    let mut answer = vec![0; MAX_ANSWER_BYTES];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answers(&answer[..length], query) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn over_tcp(recursor: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut stream = TcpStream::connect(recursor).await?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).await?;
    if answers(&answer, query) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Whether a message is the answer to a query: same id, same question.
fn answers(answer: &[u8], query: &[u8]) -> bool {
    let (Some(head), Some(asked)) = (answer.first_chunk::<HEADER_BYTES>(), query.get(..2)) else {
        return false;
    };
    // Who refuses a query need not repeat it.
    let questions = u16::from_be_bytes([head[4], head[5]]);
    let question = question(query);
    let repeated = || {
        question.is_some_and(|question| {
            let theirs = answer.get(HEADER_BYTES..HEADER_BYTES + question.len());
            theirs.is_some_and(|theirs| theirs.eq_ignore_ascii_case(question))
        })
    };
    let is_refusal = code(answer) != u16::from(ResponseCode::NoError) && questions == 0;
    head[..2] == *asked && head[2] & 0x80 != 0 && (is_refusal || (questions == 1 && repeated()))
}

/// The question of a query, which was read before.
fn question(query: &[u8]) -> Option<&[u8]> {
    let rest = query.get(HEADER_BYTES..)?;
    let name: usize = labels(rest).map(|label| label.len() + 1).sum();
    rest.get(..name + 1 + 4)
}

/// Whether there is no need to ask anybody else.
fn is_final(answer: &[u8]) -> bool {
    let known = [ResponseCode::NoError, ResponseCode::NXDomain];
    known.map(u16::from).contains(&code(answer))
}

fn code(answer: &[u8]) -> u16 {
    answer.get(3).map_or(0, |byte| u16::from(byte & 0xf))
}

fn truncated(answer: &[u8]) -> bool {
    answer
        .get(2)
        .is_some_and(|byte| u16::from(*byte) << 8 & flags::TRUNCATED != 0)
}

/// Bits that nobody can guess; `None`, with a word in the log, if the system has none to give.
fn random() -> Option<u64> {
    getrandom::u64()
        .inspect_err(|error| tracing::error!(%error, "the system gives no random numbers"))
        .ok()
}
