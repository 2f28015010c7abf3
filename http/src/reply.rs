//! Answers, and how they become responses.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use flate2::{Compress, Compression, Crc, FlushCompress, Status as Deflated};
use lictor_machine::Index;
use trillium::{Body, Conn, Headers, KnownHeaderName, Status};

use crate::backend::{Failure, Reading};
use crate::load::Load;
use crate::log_lines::LogLines;
use crate::offload::offload;
use crate::renderings::Rendering;
use crate::snapshot::Archive;

/// What a response says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: Status,
    pub(crate) content: Content,
    pub(crate) meta: Meta,
    /// The methods that the path takes, for the `Allow` header.
    pub(crate) allow: Option<&'static str>,
    /// When to try again.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the connection ends with this response.
    pub(crate) close: bool,
    /// How fresh the answer is, in the word that clients know.
    pub(crate) consistency: Option<&'static str>,
    /// Whether the answer was there already, if the client asked for that.
    pub(crate) cached: Option<bool>,
    /// Further headers. A `Content-Type` among them counts instead of the content's own.
    pub(crate) extra: Vec<(&'static str, String)>,
}

/// The body of a response, and with it the headers that tell what it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// No body, and no word about its type.
    Empty,
    /// JSON.
    Json(Vec<u8>),
    /// JSON that others get too.
    Shared(Arc<Rendering>),
    /// Text for people.
    Text(Cow<'static, str>),
    /// What the agent logs from now on, line by line.
    Log(LogLines),
    /// An archive, as it is: it is compressed already.
    Archive(Archive<'static>),
    /// Bytes that a client stored, with the headers that keep a browser from taking them for a page of this server.
    Raw(Vec<u8>),
}

/// What a response says about the state that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meta {
    /// Nothing.
    None,
    /// The index to wait on, and nothing else.
    Index(Index),
    /// How the server that answered stands to its leader.
    Contact {
        known_leader: bool,
        last_contact: Duration,
    },
    /// That, and the index to wait on.
    Blocking {
        index: Index,
        known_leader: bool,
        last_contact: Duration,
    },
}

impl Meta {
    /// For failed reads on endpoints whose failures say something of a state: nothing is known of it.
    pub(crate) const UNKNOWN: Self = Self::Blocking {
        index: Index(1),
        known_leader: false,
        last_contact: Duration::ZERO,
    };

    /// For answers that can be waited on.
    pub(crate) fn blocking<T>(reading: &Reading<T>) -> Self {
        Self::Blocking {
            // 0 means "do not wait" in a request, so a client that got it would spin.
            index: reading.index.max(Index(1)),
            known_leader: reading.known_leader,
            last_contact: reading.last_contact,
        }
    }

    /// For answers that cannot.
    pub(crate) fn contact<T>(reading: &Reading<T>) -> Self {
        Self::Contact {
            known_leader: reading.known_leader,
            last_contact: reading.last_contact,
        }
    }
}

impl Reply {
    /// A response with this status and body, and nothing special about it.
    pub(crate) fn new(status: Status, content: Content) -> Self {
        Self {
            status,
            content,
            meta: Meta::None,
            allow: None,
            retry_after: None,
            close: false,
            consistency: None,
            cached: None,
            extra: Vec::new(),
        }
    }

    /// A success with JSON.
    pub(crate) fn json(body: Vec<u8>) -> Self {
        Self::new(Status::Ok, Content::Json(body))
    }

    /// A success that says nothing.
    pub(crate) fn empty() -> Self {
        Self::new(Status::Ok, Content::Empty)
    }

    /// Nothing was found.
    pub(crate) fn not_found() -> Self {
        Self::new(Status::NotFound, Content::Empty)
    }

    /// Adds what is known about the state that was read.
    pub(crate) fn with_meta(self, meta: Meta) -> Self {
        Self { meta, ..self }
    }

    /// Adds a header. What cannot be in one is replaced in `value`.
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        let value = value.chars().map(|c| if c.is_control() { ' ' } else { c });
        self.extra.push((name, value.collect()));
        self
    }

    /// Writes the response into `conn`, compressed if the client takes that.
    pub(crate) async fn send(self, mut conn: Conn, load: &Arc<Load>) -> Conn {
        let gzip = accepts_gzip(conn.request_headers());
        conn.set_status(self.status);
        let headers = conn.response_headers_mut();
        headers.insert(KnownHeaderName::Vary, "Accept-Encoding");
        if let Some(allow) = self.allow {
            headers.insert(KnownHeaderName::Allow, allow);
        }
        if let Some(after) = self.retry_after {
            headers.insert(KnownHeaderName::RetryAfter, after.as_secs().max(1));
        }
        if self.close {
            headers.insert(KnownHeaderName::Connection, "close");
        }
        let contact = match self.meta {
            Meta::None => None,
            Meta::Index(index) => {
                headers.insert("X-Consul-Index", index.0);
                None
            }
            Meta::Contact {
                known_leader,
                last_contact,
            } => Some((known_leader, last_contact)),
            Meta::Blocking {
                index,
                known_leader,
                last_contact,
            } => {
                headers.insert("X-Consul-Index", index.0);
                Some((known_leader, last_contact))
            }
        };
        if let Some((known_leader, last_contact)) = contact {
            headers.insert(
                "X-Consul-Knownleader",
                if known_leader { "true" } else { "false" },
            );
            let millis = u64::try_from(last_contact.as_millis()).unwrap_or(u64::MAX);
            headers.insert("X-Consul-Lastcontact", millis);
        }
        if let Some(consistency) = self.consistency {
            headers.insert("X-Consul-Effective-Consistency", consistency);
        }
        if let Some(cached) = self.cached {
            headers.insert("X-Cache", if cached { "HIT" } else { "MISS" });
            if cached {
                // It is given only as long as it is what would be said anew.
                headers.insert(KnownHeaderName::Age, "0");
            }
        }
        for (name, value) in self.extra {
            headers.insert(name, value);
        }
        let body: Cow<'static, [u8]> = match self.content {
            Content::Empty => return conn,
            Content::Log(lines) => {
                conn.insert_state(lines);
                return conn.upgrade();
            }
            Content::Shared(rendering) => {
                headers.insert(KnownHeaderName::ContentType, "application/json");
                let body = if gzip {
                    headers.insert(KnownHeaderName::ContentEncoding, "gzip");
                    rendering.compressed().await
                } else {
                    Arc::clone(&rendering.plain)
                };
                // Until the client has taken it, it takes room.
                conn.insert_state(rendering);
                return conn.with_body(body);
            }
            Content::Json(body) => {
                headers.insert(KnownHeaderName::ContentType, "application/json");
                body.into()
            }
            Content::Text(text) => {
                headers.try_insert(KnownHeaderName::ContentType, "text/plain; charset=utf-8");
                match text {
                    Cow::Borrowed(text) => text.as_bytes().into(),
                    Cow::Owned(text) => text.into_bytes().into(),
                }
            }
            Content::Archive(archive) => {
                headers.insert(KnownHeaderName::ContentType, "application/x-gzip");
                return conn.with_body(Body::new_streaming(archive, None));
            }
            Content::Raw(body) => {
                headers.insert(KnownHeaderName::ContentType, "text/plain");
                headers.insert(KnownHeaderName::XcontentTypeOptions, "nosniff");
                headers.insert(KnownHeaderName::ContentSecurityPolicy, "sandbox");
                body.into()
            }
        };
        if gzip && !body.is_empty() {
            headers.insert(KnownHeaderName::ContentEncoding, "gzip");
            let compressed = offload(body.len(), move || compress(&body)).await;
            conn.insert_state(load.answer(compressed.len()));
            return conn.with_body(compressed);
        }
        conn.insert_state(load.answer(body.len()));
        conn.with_body(body)
    }
}

/// Why a request gets no answer but an error. Most answers like this carry no metadata.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault(Box<Reply>);

impl Fault {
    /// An error with a text.
    pub(crate) fn new(status: Status, text: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Reply::new(status, Content::Text(text.into()))))
    }

    /// The request makes no sense.
    pub(crate) fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Status::BadRequest, text)
    }

    /// Something failed, or, for historical reasons, some requests that make no sense.
    pub(crate) fn internal(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Status::InternalServerError, text)
    }

    /// The request is larger than allowed.
    pub(crate) fn too_large(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Status::PayloadTooLarge, text)
    }

    /// The same, with metadata.
    pub(crate) fn with_meta(mut self, meta: Meta) -> Self {
        self.0.meta = meta;
        self
    }

    /// The same, and the connection ends with it.
    pub(crate) fn closing(mut self) -> Self {
        self.0.close = true;
        self
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        match &self.0.content {
            Content::Text(text) => text,
            Content::Empty
            | Content::Json(_)
            | Content::Shared(_)
            | Content::Raw(_)
            | Content::Log(_)
            | Content::Archive(_) => "",
        }
    }
}

impl From<Fault> for Reply {
    fn from(fault: Fault) -> Self {
        *fault.0
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        let status = match &failure {
            Failure::NoLeader
            | Failure::NoPathToDatacenter
            | Failure::NoServers
            | Failure::LeadershipLost
            | Failure::Refused(_)
            | Failure::Storage(_)
            | Failure::Unreachable(_)
            | Failure::Several(_)
            | Failure::NoSuchServer(_) => Status::InternalServerError,
            Failure::Busy { .. } => Status::TooManyRequests,
            Failure::Local(error) => local_status(error),
            Failure::Denied(_) => Status::Forbidden,
            Failure::Stopping => Status::ServiceUnavailable,
        };
        let mut fault = Self::new(status, failure.to_string());
        if let Failure::Busy { retry_after, .. } = failure {
            fault.0.retry_after = Some(retry_after);
        }
        fault
    }
}

/// Whether the client takes gzip: it must name it, and not give it a weight of 0.
fn accepts_gzip(headers: &Headers) -> bool {
    let Some(text) = headers.get_str(KnownHeaderName::AcceptEncoding) else {
        return false;
    };
    text.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        named
            && parts
                .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}

/// A body as gzip (RFC 1952).
pub(crate) fn compress(body: &[u8]) -> Vec<u8> {
    thread_local! {
        // Its tables take a few hundred kilobytes, too much to allocate for every response.
        static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
    }
    /// Deflate, no name, no time, fastest, unknown system.
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

    let mut out = Vec::with_capacity(body.len() / 2 + 128);
    out.extend_from_slice(&HEADER);
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        loop {
            let taken = usize::try_from(deflate.total_in()).expect("no more is taken than the body has");
            let state = deflate
                .compress_vec(&body[taken..], &mut out, FlushCompress::Finish)
                .expect("deflate only fails when it is used after its end");
            match state {
                Deflated::StreamEnd => break,
                Deflated::Ok | Deflated::BufError => out.reserve(out.capacity()),
            }
        }
    });
    let mut crc = Crc::new();
    crc.update(body);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
    out
}

/// The status of what an agent does not take of what is to run on it.
fn local_status(error: &lictor_local::Error) -> Status {
    use lictor_local::Error;
    match error {
        Error::Invalid(_) => Status::BadRequest,
        Error::UnknownService(_) => Status::NotFound,
        Error::Full { .. } => Status::TooManyRequests,
        Error::NoServiceOfCheck(_) | Error::NotTtl(_) | Error::NotSaved(_) => Status::InternalServerError,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn gzip_when_named() {
        let accepts = |text: &'static str| accepts_gzip(&[("Accept-Encoding", text)].into_iter().collect());
        for yes in ["gzip", "deflate, gzip;q=1.0", "GZIP", "br,gzip ; q=0.5"] {
            assert!(accepts(yes), "{yes}");
        }
        for no in [
            "",
            "deflate",
            "gzip;q=0",
            "gzip; q=0.000",
            "*",
            "x-gzip",
            "gzip;q=zz",
        ] {
            assert!(!accepts(no), "{no}");
        }
        assert!(!accepts_gzip(&Headers::new()));
    }

    #[test]
    fn compressed_bodies_are_gzip_files() {
        let noise: Vec<u8> = {
            let mut rng = lictor_machine::Rng::new(7);
            (0..100_000).map(|_| rng.next_u64() as u8).collect()
        };
        for body in [&b"x"[..], b"hello hello hello", &noise, &vec![b'a'; 1_000_000]] {
            let mut out = Vec::new();
            flate2::read::GzDecoder::new(&compress(body)[..])
                .read_to_end(&mut out)
                .unwrap();
            assert!(out == body);
        }
    }

    #[test]
    fn failures_have_their_status() {
        for (failure, status, text) in [
            (Failure::NoLeader, 500, "No cluster leader"),
            (Failure::NoPathToDatacenter, 500, "No path to datacenter"),
            (Failure::NoServers, 500, "No known Consul servers"),
            (
                Failure::LeadershipLost,
                500,
                "leadership lost while committing log; it may have happened, or not; with a Lictor-Idempotency-Key it can be asked for again without harm",
            ),
            (Failure::Refused("missing session".into()), 500, "missing session"),
            (
                Failure::Denied("Permission denied".into()),
                403,
                "Permission denied",
            ),
            (Failure::Storage("disk is full".into()), 500, "disk is full"),
            (Failure::Unreachable("10.0.0.1: no".into()), 500, "10.0.0.1: no"),
            (
                Failure::Several(vec!["a".into()]),
                500,
                "1 error occurred:\n\t* a\n\n",
            ),
            (
                Failure::NoSuchServer(crate::ServerRef::Id("no\"pe".into())),
                500,
                "id \"no\\\"pe\" was not found in the Raft configuration",
            ),
            (
                Failure::NoSuchServer(crate::ServerRef::Address("1.2.3.4:5".into())),
                500,
                "address \"1.2.3.4:5\" was not found in the Raft configuration",
            ),
            (
                Failure::Stopping,
                503,
                "The agent is shutting down; ask another one",
            ),
        ] {
            let reply = Reply::from(Fault::from(failure));
            assert_eq!(reply.status as u16, status, "{text}");
            assert_eq!(reply.content, Content::Text(text.into()));
            assert_eq!(reply.retry_after, None);
        }
        let busy = Failure::Busy {
            limit: "proposal queue".into(),
            retry_after: Duration::from_secs(2),
        };
        let reply = Reply::from(Fault::from(busy));
        assert_eq!(
            (reply.status as u16, reply.retry_after),
            (429, Some(Duration::from_secs(2)))
        );
    }
}
