//! One request on its way through an endpoint.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_io::Timer;
use bytes::Bytes;
use futures_lite::{AsyncReadExt as _, FutureExt as _};
use lictor_catalog::{Found, Query};
use lictor_machine::Index;
use trillium::{Conn, Headers, KnownHeaderName, Status, Transport};

use crate::api::Api;
use crate::backend::{ReadOptions, Reading, WriteOptions};
use crate::json::to_vec;
use crate::load::Held;
use crate::offload::offload;
use crate::params::Params;
use crate::reply::{Content, Fault, Reply};
use crate::transport::Connection;

/// Where the limits on a request's size are documented; error texts point there, and clients match on them.
const OPTIONS_PAGE: &str = "https://www.consul.io/docs/agent/options.html";

/// How many bytes a body may have where only little is expected.
const SMALL_BODY: usize = 64 << 10;

/// How many bytes a body may have that describes things.
const LARGE_BODY: usize = 512 << 10;

/// A request whose path and method fit an endpoint.
pub(crate) struct Request<'a> {
    pub(crate) api: &'a Api,
    pub(crate) conn: &'a mut Conn,
    /// What follows the endpoint's pattern in the path, decoded.
    pub(crate) rest: Bytes,
    pub(crate) params: Params<'a>,
    /// Whether the request's body has been read to its end.
    pub(crate) body_read: bool,
    /// Its place among the requests that are handled at once.
    pub(crate) place: Option<Held>,
    /// Room for its body.
    pub(crate) body_room: Option<Held>,
}

impl Request<'_> {
    /// Takes [`Request::rest`] out.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn headers(&self) -> &Headers {
        self.conn.request_headers()
    }

    /// The options of a read.
    pub(crate) fn read_options(&self) -> Result<ReadOptions, Fault> {
        self.params
            .read_options(self.headers(), self.api.waits(), |wait| self.api.jitter(wait))
    }

    /// The options of a write.
    pub(crate) fn write_options(&self) -> Result<WriteOptions, Fault> {
        self.params.write_options(self.headers(), self.api.waits())
    }

    /// A success with JSON, indented where the client or the configuration asks for it. `capacity` is a guess of its
    /// size in bytes.
    pub(crate) fn json(&self, value: &impl serde::Serialize, capacity: usize) -> Reply {
        Reply::json(to_vec(value, self.pretty(), capacity))
    }

    /// As [`Request::json`], for what may be large.
    pub(crate) async fn large_json(
        &self,
        value: impl serde::Serialize + Send + 'static,
        capacity: usize,
    ) -> Reply {
        let pretty = self.pretty();
        Reply::json(offload(capacity, move || to_vec(&value, pretty, capacity)).await)
    }

    /// Whether the answer is to be indented.
    pub(crate) fn pretty(&self) -> bool {
        self.api.config.always_pretty || self.params.has("pretty")
    }

    /// What follows the endpoint's pattern, as text. What is not UTF-8 is replaced.
    pub(crate) fn rest_text(&self) -> String {
        String::from_utf8_lossy(&self.rest).into_owned()
    }

    /// Answers a query, which may take long: a client that leaves ends it, and so does a server that stops, which
    /// then answers with what there is.
    pub(crate) async fn read(&mut self, query: Query, options: ReadOptions) -> Result<Reading<Found>, Fault> {
        let backend = &self.api.backend;
        if options.min_index == Index::ZERO {
            return Ok(backend.read(query, options).await?);
        }
        let at_once = ReadOptions {
            min_index: Index::ZERO,
            wait: Duration::ZERO,
            ..options.clone()
        };
        match self.wait(backend.read(query.clone(), options)).await? {
            Some(answer) => Ok(answer?),
            None => Ok(backend.read(query, at_once).await?),
        }
    }

    /// Waits for what may take long; `None` if the server stops meanwhile. Fails if the client leaves, and if too many wait.
    pub(crate) async fn wait<T: Send>(
        &mut self,
        what: impl Future<Output = T> + Send,
    ) -> Result<Option<T>, Fault> {
        // Those who wait have places of their own, so that they do not take those of the others.
        let _waiting = self.api.load.blocking_query()?;
        let _lent = self.place.as_mut().map(Held::lend);
        let stopping = self.conn.swansong();
        let waiting = async { Some(what.await) }.or(async move {
            stopping.shutting_down().await;
            None
        });
        let mut waiting = pin!(waiting);
        let transport: &mut trillium_http::Conn<Box<dyn Transport>> = self.conn.as_mut();
        let mut connection = Connection::of(transport.transport_mut());
        let waited = poll_fn(|cx| {
            if let Poll::Ready(waited) = waiting.as_mut().poll(cx) {
                return Poll::Ready(Some(waited));
            }
            // On a server of another kind nobody is known to leave.
            let left = connection.as_mut().map_or(Poll::Pending, |it| it.poll_left(cx));
            left.map(|()| None)
        });
        let waited = waited.await;
        waited.ok_or_else(|| Fault::new(Status::RequestTimeout, "The client left").closing())
    }

    /// The request's body, which may have `limit` bytes. `option` is the name of the limit.
    pub(crate) async fn body(&mut self, limit: usize, option: &str) -> Result<Vec<u8>, Fault> {
        self.limited_body(limit, &format!(" See {OPTIONS_PAGE}#{option}."))
            .await
    }

    /// The request's body where something like a registration is expected.
    pub(crate) async fn large_body(&mut self) -> Result<Vec<u8>, Fault> {
        self.limited_body(LARGE_BODY, "").await
    }

    /// The request's body where only little is expected.
    pub(crate) async fn small_body(&mut self) -> Result<Vec<u8>, Fault> {
        self.limited_body(SMALL_BODY, "").await
    }

    /// The request's body. `hint` is what to say in addition if it has more than `limit` bytes.
    async fn limited_body(&mut self, limit: usize, hint: &str) -> Result<Vec<u8>, Fault> {
        let declared = declared_length(self.headers());
        if let Some(length) = declared.filter(|length| *length > limit as u64) {
            return Err(Fault::too_large(format!(
                "Request body({length} bytes) too large, max size: {limit} bytes.{hint}"
            ))
            .closing());
        }
        if declared == Some(0) {
            return Ok(Vec::new());
        }
        // Where only the end will tell how long it is, it may be as long as is allowed.
        let length = declared.map_or(limit, |length| length as usize);
        self.body_room = Some(
            self.api
                .load
                .body(length)
                .map_err(|failure| Fault::from(failure).closing())?,
        );
        // What a client says is not worth much memory before it has sent some of it.
        let mut body = Vec::with_capacity(declared.map_or(0, |length| (length as usize).min(64 << 10)));
        let patience = self.api.config.body_timeout;
        let source = self.conn.request_body().with_max_len(u64::MAX);
        let received = async {
            source
                .take(limit as u64 + 1)
                .read_to_end(&mut body)
                .await
                .map_err(Some)
        };
        match until(patience, received, Err(None)).await {
            Ok(_) if body.len() <= limit => {
                self.body_read = true;
                Ok(body)
            }
            Ok(_) => Err(
                Fault::too_large(format!("Request body too large, max size: {limit} bytes.{hint}")).closing(),
            ),
            Err(None) => Err(Fault::new(
                Status::RequestTimeout,
                format!(
                    "The request's body did not come within {} seconds",
                    patience.as_secs()
                ),
            )
            .closing()),
            Err(Some(error)) => {
                Err(Fault::bad_request(format!("The request's body could not be read: {error}")).closing())
            }
        }
    }
}

/// Whether a connection had better end than read the rest of this request's body, if that has not been read.
pub(crate) fn has_large_body(headers: &Headers) -> bool {
    /// What is worth reading to keep a connection, in bytes.
    const LITTLE: u64 = 64 << 10;
    declared_length(headers).is_none_or(|length| length > LITTLE)
}

/// The length of the body in bytes, or `None` if only its end will tell.
fn declared_length(headers: &Headers) -> Option<u64> {
    if headers.has_header(KnownHeaderName::TransferEncoding) {
        return None;
    }
    Some(headers.content_length().unwrap_or(0))
}

/// What `future` yields, or `otherwise` after `patience`.
async fn until<T>(patience: Duration, future: impl Future<Output = T>, otherwise: T) -> T {
    future
        .or(async {
            Timer::after(patience).await;
            otherwise
        })
        .await
}

/// A reply without a body or any word about it.
pub(crate) fn empty(status: Status) -> Reply {
    Reply::new(status, Content::Empty)
}
