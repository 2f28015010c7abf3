//! One request and its answer.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use lictor_agent::config::system_error;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use ureq::http::request::Builder;
use ureq::http::{Request, Response, StatusCode};
use ureq::{AsSendBody, Body, BodyReader, SendBody};

use super::Client;
use super::once::{HEADER, Wish};

/// The largest answer that is read: far beyond what a store that lives in memory holds under one prefix.
const MAX_ANSWER: u64 = 4 << 30;

/// How much of an error's body is shown.
const MAX_ERROR: usize = 4096;

/// What may stand in a path as it is; the same characters as in Go's `url.Path`.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// What may stand in a query's value.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The header that carries an answer's version.
const INDEX: &str = "X-Consul-Index";

/// How something is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// PUT
    Put,
    /// DELETE
    Delete,
}

/// Why a call failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// There was no answer. The text names method, URL and reason.
    NoAnswer(String),
    /// The agent refused.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said, perhaps shortened.
        body: String,
    },
    /// It agreed, and what it said makes no sense. The text says why.
    Nonsense(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(text) => f.write_str(text),
            Self::Refused { status, body } => write!(f, "Unexpected response code: {status} ({body})"),
            Self::Nonsense(why) => write!(f, "cannot understand the agent's answer: {why}"),
        }
    }
}

impl CallError {
    /// Whether it says something about the agent's moment, and not about what was asked.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Nonsense(_) => false,
        }
    }
}

/// A call that got no answer.
pub(super) struct Lost {
    pub(super) error: CallError,
    /// Whether the request had been sent, as far as is known, and so may have been carried out.
    pub(super) sent: bool,
}

/// What a path says at one version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// The version, to wait on for a newer one; 0 if the agent says none.
    pub(crate) index: u64,
    /// `None`: 404, there is no such thing.
    pub(crate) body: Option<Vec<u8>>,
}

impl Client {
    /// Reads `/v1/<path>` with its version. Fails if that takes longer than `limit`. A command's `-stale` does not count.
    pub(crate) fn look(
        &self,
        path: &str,
        query: Vec<(&str, &str)>,
        limit: Duration,
    ) -> Result<Look, CallError> {
        let (answer, called) = self.send_within("GET", "Get", path, query, None, Some(limit))?;
        let index = answer.headers().get(INDEX);
        let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
        let (status, body) = self.whole(answer, &called)?;
        let body = match status {
            StatusCode::NOT_FOUND => None,
            status => Some(accepted(status, body)?),
        };
        let index = index.unwrap_or(0);
        Ok(Look { index, body })
    }

    /// Changes `/v1/<path>`, and returns what the agent says to that. If an answer is lost it is asked again, where that cannot change anything
    /// twice. Fails if all of that takes longer than `limit`; it may have happened then.
    pub(crate) fn change(
        &self,
        method: Change,
        path: &str,
        query: Vec<(&str, &str)>,
        body: &[u8],
        limit: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let (status, body) = self.wish(&Wish {
            method,
            path,
            query,
            body: (method == Change::Put).then_some(body),
            limit: Some(limit),
        })?;
        accepted(status, body)
    }

    /// Whether reads of this command may be answered by any server.
    pub(crate) fn stale(&self) -> bool {
        self.stale
    }

    /// Reads what `/v1/<path>` says. Keys in `query` without a value are written as `key=`.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Vec<(&str, &str)>,
    ) -> Result<T, CallError> {
        let body = self
            .get(path, query)
            .and_then(|(status, body)| accepted(status, body))?;
        serde_json::from_slice(&body).map_err(|error| CallError::Nonsense(error.to_string()))
    }

    /// Reads `/v1/<path>`. `None`: 404, there is no such thing.
    pub(crate) fn find(&self, path: &str, query: Vec<(&str, &str)>) -> Result<Option<Vec<u8>>, CallError> {
        match self.get(path, query)? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, body) => accepted(status, body).map(Some),
        }
    }

    /// Writes `body` to `/v1/<path>`, and returns what the agent says to that. If its answer is lost it is asked again, where that cannot change
    /// anything twice.
    pub(crate) fn put(
        &self,
        path: &str,
        query: Vec<(&str, &str)>,
        body: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        let (status, body) = self.wish(&Wish {
            method: Change::Put,
            path,
            query,
            body: Some(body),
            limit: None,
        })?;
        accepted(status, body)
    }

    /// The same, where the answer is a truth value. `false`: a condition of the write did not hold.
    pub(crate) fn put_if(
        &self,
        path: &str,
        query: Vec<(&str, &str)>,
        body: &[u8],
    ) -> Result<bool, CallError> {
        self.put(path, query, body).map(|answer| is_true(&answer))
    }

    /// The same, asked for once and without an idempotency key, of which agents keep no more than so many: for commands that make any number of
    /// changes and can be run again.
    pub(crate) fn put_if_plainly(
        &self,
        path: &str,
        query: Vec<(&str, &str)>,
        body: &[u8],
    ) -> Result<bool, CallError> {
        let (answer, called) = self.send("PUT", "Put", path, query, Some(body))?;
        let (status, body) = self.whole(answer, &called)?;
        accepted(status, body).map(|answer| is_true(&answer))
    }

    /// Deletes `/v1/<path>`, and returns what the agent says to that. If its answer is lost it is asked again, where that cannot change anything
    /// twice.
    pub(crate) fn delete(&self, path: &str, query: Vec<(&str, &str)>) -> Result<Vec<u8>, CallError> {
        let (status, body) = self.wish(&Wish {
            method: Change::Delete,
            path,
            query,
            body: None,
            limit: None,
        })?;
        accepted(status, body)
    }

    /// The same, where the answer is a truth value. `false`: a condition of the deletion did not hold.
    pub(crate) fn delete_if(&self, path: &str, query: Vec<(&str, &str)>) -> Result<bool, CallError> {
        self.delete(path, query).map(|answer| is_true(&answer))
    }

    fn get(&self, path: &str, mut query: Vec<(&str, &str)>) -> Result<(StatusCode, Vec<u8>), CallError> {
        if self.stale {
            query.push(("stale", ""));
        }
        let (answer, called) = self.send("GET", "Get", path, query, None)?;
        self.whole(answer, &called)
    }

    /// Reads `/v1/<path>` piece by piece, for as long as the agent has something to say.
    pub(crate) fn stream(
        &self,
        path: &str,
        query: Vec<(&str, &str)>,
    ) -> Result<BodyReader<'static>, CallError> {
        let (answer, called) = self.send("GET", "Get", path, query, None)?;
        if answer.status() == StatusCode::OK {
            return Ok(answer.into_body().into_reader());
        }
        let (status, body) = self.whole(answer, &called)?;
        Err(refused(status, &body))
    }

    /// Reads what `/v1/<path>` says, which may be long, piece by piece. A command's `-stale` counts.
    pub(crate) fn download(&self, path: &str) -> Result<BodyReader<'static>, CallError> {
        let query = if self.stale {
            vec![("stale", "")]
        } else {
            Vec::new()
        };
        self.stream(path, query)
    }

    /// Whether the agent keeps answers under idempotency keys, as those of Lictor do, and no others: so it says when it is asked to read
    /// `/v1/<path>`.
    pub(crate) fn keeps_answers(&self, path: &str) -> Result<bool, CallError> {
        let (method, key) = ("GET", Some("are you one"));
        let asked = self.try_send(method, "Get", path, Vec::new(), None, key, None);
        let (answer, called) = asked.map_err(|lost| lost.error)?;
        let keeps = answer.headers().contains_key(HEADER);
        let (status, body) = self.whole(answer, &called)?;
        accepted(status, body).map(|_| keeps)
    }

    /// Writes all that `body` has to `/v1/<path>`, piece by piece.
    pub(crate) fn upload(&self, path: &str, body: &mut dyn Read) -> Result<(), CallError> {
        let (request, called) = self.request("PUT", "Put", path, Vec::new());
        let answer = request
            .body(SendBody::from_reader(body))
            .map_err(ureq::Error::from)
            .and_then(|request| self.agent.run(request));
        let answer = answer.map_err(|error| self.no_answer(&called, &error))?;
        let (status, body) = self.whole(answer, &called)?;
        accepted(status, body).map(drop)
    }

    /// Asks, and gives the answer as far as its head, with what errors call the request.
    fn send<'q>(
        &'q self,
        method: &str,
        verb: &str,
        path: &str,
        query: Vec<(&'q str, &'q str)>,
        body: Option<&[u8]>,
    ) -> Result<(Response<Body>, String), CallError> {
        self.send_within(method, verb, path, query, body, None)
    }

    /// The same, with a limit for all of it, the body of the answer included.
    fn send_within<'q>(
        &'q self,
        method: &str,
        verb: &str,
        path: &str,
        query: Vec<(&'q str, &'q str)>,
        body: Option<&[u8]>,
        limit: Option<Duration>,
    ) -> Result<(Response<Body>, String), CallError> {
        self.try_send(method, verb, path, query, body, None, limit)
            .map_err(|lost| lost.error)
    }

    /// The same, with an idempotency key.
    #[expect(clippy::too_many_arguments, reason = "these are what a request is made of")]
    pub(super) fn try_send<'q>(
        &'q self,
        method: &str,
        verb: &str,
        path: &str,
        query: Vec<(&'q str, &'q str)>,
        body: Option<&[u8]>,
        key: Option<&str>,
        limit: Option<Duration>,
    ) -> Result<(Response<Body>, String), Lost> {
        let (mut request, called) = self.request(method, verb, path, query);
        if let Some(key) = key {
            request = request.header(HEADER, key);
        }
        let answer = match body {
            Some(body) => request
                .body(body)
                .map_err(ureq::Error::from)
                .and_then(|request| self.run(request, limit)),
            None => request
                .body(())
                .map_err(ureq::Error::from)
                .and_then(|request| self.run(request, limit)),
        };
        match answer {
            Ok(answer) => Ok((answer, called)),
            Err(error) => Err(Lost {
                sent: is_cut_off(&error),
                error: self.no_answer(&called, &error),
            }),
        }
    }

    fn run(
        &self,
        request: Request<impl AsSendBody>,
        limit: Option<Duration>,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(limit)
            .build();
        self.agent.run(request)
    }

    /// A request without its body, and what errors call it.
    fn request<'q>(
        &'q self,
        method: &str,
        verb: &str,
        path: &str,
        mut query: Vec<(&'q str, &'q str)>,
    ) -> (Builder, String) {
        if let Some(datacenter) = &self.datacenter {
            query.push(("dc", datacenter));
        }
        query.sort_unstable();
        let mut target = format!("/v1/{}", utf8_percent_encode(path, PATH));
        for (at, (key, value)) in query.iter().enumerate() {
            target.push(if at == 0 { '?' } else { '&' });
            target.push_str(key);
            target.push('=');
            target.extend(utf8_percent_encode(value, QUERY));
        }
        let called = format!("{verb} \"{}{target}\"", self.shown);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.called));
        for (name, value) in [
            ("Host", &self.host),
            ("X-Consul-Token", &self.token),
            ("Authorization", &self.authorization),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        (request, called)
    }

    /// Reads an answer to its end, so that the connection serves the next call.
    pub(super) fn whole(
        &self,
        mut answer: Response<Body>,
        called: &str,
    ) -> Result<(StatusCode, Vec<u8>), CallError> {
        let content = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        let content = content.map_err(|error| self.no_answer(called, &error))?;
        Ok((answer.status(), content))
    }

    fn no_answer(&self, called: &str, error: &ureq::Error) -> CallError {
        CallError::NoAnswer(format!("{called}: {}", self.reason(error)))
    }

    fn reason(&self, error: &ureq::Error) -> String {
        let address = self
            .shown
            .split_once("://")
            .map_or(self.shown.as_str(), |(_, address)| address);
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let unknown_host = || format!("dial tcp: lookup {host}: no such host");
        if let ureq::Error::Io(io) = error {
            use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
            return if matches!(
                io.kind(),
                ConnectionRefused | HostUnreachable | NetworkUnreachable
            ) {
                format!("dial tcp {address}: connect: {}", system_error(io))
            } else if io.to_string().starts_with("failed to lookup address") {
                unknown_host()
            } else if io.to_string().contains("InvalidContentType") {
                // What TLS makes of the letters "HTTP".
                "http: server gave HTTP response to HTTPS client".to_owned()
            } else {
                system_error(io)
            };
        }
        if let ureq::Error::HostNotFound = error {
            unknown_host()
        } else {
            error.to_string()
        }
    }
}

/// For fields that Go writes as `null` when they are empty.
pub(crate) fn null_is_empty<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Whether an answer is the truth value.
pub(crate) fn is_true(answer: &[u8]) -> bool {
    answer.windows(4).any(|word| word == b"true")
}

/// Whether this is how it looks when an agent goes away that may have got the request.
fn is_cut_off(error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if let ureq::Error::Io(io) = error {
        return matches!(
            io.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
        );
    }
    let connecting = matches!(
        error,
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect)
    );
    matches!(error, ureq::Error::Timeout(_)) && !connecting
}

fn accepted(status: StatusCode, body: Vec<u8>) -> Result<Vec<u8>, CallError> {
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(refused(status, &body))
}

pub(super) fn refused(status: StatusCode, body: &[u8]) -> CallError {
    let shown = &body[..body.len().min(MAX_ERROR)];
    CallError::Refused {
        status: status.as_u16(),
        body: String::from_utf8_lossy(shown).into_owned(),
    }
}
