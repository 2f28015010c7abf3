//! One HTTP/1.1 request and the response to it, over a connection of any kind.
//!
//! The protocol is in `ureq-proto`, which does no input or output of its own; here are its reads and writes.

use std::io;

use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use ureq_proto::client::state::{RecvBody, RecvResponse, SendBody};
use ureq_proto::client::{Call, RecvResponseResult, SendRequestResult};
use ureq_proto::http::{HeaderMap, Request, StatusCode, header};
use ureq_proto::{BodyMode, Error};

use super::dial::Io;

/// The most bytes of a response's head, or of what stands between two chunks of its body.
const HEAD_MAX: usize = 64 * 1024;

/// How much is read or written at once.
const PIECE: usize = 8 * 1024;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The connection is gone.
    #[error("{}", super::text::reason(.0))]
    Io(#[from] io::Error),
    /// One of the two does not speak HTTP.
    #[error("malformed HTTP: {0}")]
    Protocol(#[from] Error),
    /// The other side closed the connection in the middle of it.
    #[error("EOF")]
    Closed,
    /// The head of the response has no end.
    #[error("the response has headers of more than {HEAD_MAX} bytes")]
    TooLong,
}

/// A response of which the head has come. The body is read piece by piece.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    /// The status in words, as the server has it.
    pub(crate) reason: String,
    pub(crate) headers: HeaderMap,
    /// `None`: there is none.
    body: Option<Call<RecvBody>>,
    incoming: Incoming,
}

/// Sends a request, and waits for the head of the response. The connection is used for nothing else.
pub(crate) async fn send(
    stream: impl Io,
    mut request: Request<()>,
    body: &[u8],
) -> Result<Response, Failure> {
    let mut stream: Box<dyn Io> = Box::new(stream);
    let has_body = !body.is_empty() || matches!(request.method().as_str(), "POST" | "PUT" | "PATCH");
    let headers = request.headers_mut();
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::EXPECT);
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    if has_body {
        headers.insert(header::CONTENT_LENGTH, body.len().into());
    } else {
        headers.remove(header::CONTENT_LENGTH);
    }
    let mut call = Call::new(request)?;
    call.allow_non_standard_methods(true);
    if has_body {
        call.force_send_body();
    }
    let mut call = call.proceed();
    // A header line goes out in one piece, so a piece must have room for the longest.
    let mut piece = vec![0; HEAD_MAX];
    while !call.can_proceed() {
        let length = call.write(&mut piece)?;
        stream.write_all(&piece[..length]).await?;
    }
    let call = match call.proceed()? {
        Some(SendRequestResult::SendBody(call)) => send_body(&mut stream, call, body, &mut piece).await?,
        Some(SendRequestResult::RecvResponse(call)) => call,
        // It waits for 100 only if asked to by the header that was removed.
        Some(SendRequestResult::Await100(_)) | None => return Err(Failure::Closed),
    };
    stream.flush().await?;
    receive(stream, call).await
}

async fn send_body(
    stream: &mut Box<dyn Io>,
    mut call: Call<SendBody>,
    mut body: &[u8],
    piece: &mut [u8],
) -> Result<Call<RecvResponse>, Failure> {
    loop {
        let (taken, length) = call.write(body, piece)?;
        body = &body[taken..];
        stream.write_all(&piece[..length]).await?;
        if call.can_proceed() || (taken == 0 && length == 0) {
            return call.proceed().ok_or(Failure::Closed);
        }
    }
}

async fn receive(stream: Box<dyn Io>, mut call: Call<RecvResponse>) -> Result<Response, Failure> {
    let mut incoming = Incoming {
        stream,
        bytes: Vec::new(),
        taken: 0,
    };
    loop {
        incoming.more().await?;
        loop {
            let head = incoming.rest();
            let (length, response) = call.try_response(head, false)?;
            if let Some(response) = response {
                let reason = reason(&head[..length]);
                incoming.taken += length;
                let (parts, ()) = response.into_parts();
                let body = match call.proceed() {
                    Some(RecvResponseResult::RecvBody(call)) => Some(call),
                    Some(RecvResponseResult::Redirect(_) | RecvResponseResult::Cleanup(_)) | None => None,
                };
                return Ok(Response {
                    status: parts.status,
                    reason,
                    headers: parts.headers,
                    body,
                    incoming,
                });
            }
            // One of those that come before the real one, if any.
            incoming.taken += length;
            if length == 0 {
                break;
            }
        }
    }
}

/// What stands behind the status code in the first line of a head.
fn reason(head: &[u8]) -> String {
    let line = head
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    let words = line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    String::from_utf8_lossy(words).into_owned()
}

impl Response {
    /// Reads some more of the body; 0: that was all of it. What was read is not lost if this future is dropped.
    pub(crate) async fn read(&mut self, piece: &mut [u8]) -> Result<usize, Failure> {
        let Some(body) = &mut self.body else { return Ok(0) };
        loop {
            let (taken, length) = body.read(self.incoming.rest(), piece)?;
            self.incoming.taken += taken;
            if length > 0 {
                return Ok(length);
            }
            let to_the_end = body.body_mode() == BodyMode::CloseDelimited;
            if body.can_proceed() && !to_the_end {
                return Ok(0);
            }
            if taken > 0 {
                continue;
            }
            match self.incoming.more().await {
                Err(Failure::Closed) if to_the_end => return Ok(0),
                more => more?,
            }
        }
    }

    /// Reads up to `limit` bytes of the body into `out`, and nothing behind them. What was read before a failure, or before this
    /// future was dropped, is there.
    pub(crate) async fn read_up_to(&mut self, limit: usize, out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut piece = vec![0; PIECE];
        while out.len() < limit {
            let room = PIECE.min(limit - out.len());
            let length = self.read(&mut piece[..room]).await?;
            if length == 0 {
                break;
            }
            out.extend_from_slice(&piece[..length]);
        }
        Ok(())
    }
}

/// What comes in, and was not looked at yet.
struct Incoming {
    stream: Box<dyn Io>,
    bytes: Vec<u8>,
    taken: usize,
}

impl Incoming {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Waits for at least one byte more.
    async fn more(&mut self) -> Result<(), Failure> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        if self.bytes.len() >= HEAD_MAX {
            return Err(Failure::TooLong);
        }
        let mut piece = vec![0; PIECE];
        match self.stream.read(&mut piece).await {
            Ok(0) => Err(Failure::Closed),
            // TLS that ends without saying so.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Failure::Closed),
            Err(error) => Err(error.into()),
            Ok(length) => {
                self.bytes.extend_from_slice(&piece[..length]);
                Ok(())
            }
        }
    }
}
