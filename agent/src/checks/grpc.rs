//! gRPC's health service, version 1 (`grpc.health.v1.Health/Check`).
//!
//! Its two messages have one field each, and are written and read by hand.

use std::sync::Arc;

use lictor_node::local::ProbeTls;
use percent_encoding::percent_decode_str;
use trillium_http::h2::H2Connection;
use trillium_http::headers::hpack::PseudoHeaders;
use trillium_http::{Body, Buffer, Headers, Method, ProtocolSession, ReceivedBody, ReceivedBodyState};

use super::text::reason;
use super::tls::Tls;
use super::{Limit, Outcome, h2};

/// The most bytes of an answer, which takes a few.
const ANSWER_MAX: u64 = 4096;

/// gRPC's status codes by their numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Asks for the health of a server, or of the service that stands after the first slash in `target`.
pub(super) async fn probe(target: &str, tls: Option<&ProbeTls>, roots: &Tls, limit: Limit) -> Outcome {
    let (address, service) = target.split_once('/').unwrap_or((target, ""));
    let ask = async {
        let stream = h2::open(address, tls, roots).await.map_err(|why| {
            let why = format!("connection error: desc = \"transport: Error while dialing {why}\"");
            rpc_error("Unavailable", &why)
        })?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let ask = |connection| async move { Ok(ask(connection, scheme, address, service).await) };
        h2::with(stream, ask)
            .await
            .map_err(|why| rpc_error("Unavailable", &why))?
    };
    match limit.cut(Box::pin(ask)).await {
        Some(Ok(Serving::Yes)) => Outcome::passing(format!("gRPC check {target}: success")),
        Some(Ok(Serving::No)) => Outcome::critical("gRPC application didn't report service healthy"),
        Some(Err(why)) => Outcome::critical(why),
        None => Outcome::critical(rpc_error("DeadlineExceeded", "context deadline exceeded")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serving {
    Yes,
    No,
}

async fn ask(
    connection: Arc<H2Connection>,
    scheme: &'static str,
    authority: &str,
    service: &str,
) -> Result<Serving, String> {
    let lost = |error: std::io::Error| rpc_error("Unavailable", &reason(&error));
    let pseudo = PseudoHeaders::default()
        .with_method(Method::Post)
        .with_scheme(scheme)
        .with_authority(authority.to_owned())
        .with_path("/grpc.health.v1.Health/Check");
    let headers = Headers::new()
        .with_inserted_header("content-type", "application/grpc")
        .with_inserted_header("te", "trailers")
        .with_inserted_header("user-agent", "Consul Health Check");
    let (stream, _, transport) = connection
        .open_stream(pseudo, headers, Some(Body::from(request(service))))
        .ok_or_else(|| rpc_error("Unavailable", "connection closed"))?;
    let (pseudo, headers) = connection
        .response_headers(stream)
        .await
        .map_err(lost)?
        .into_parts();
    let status = pseudo.status().map_or(0, |status| status as u16);
    if status != 200 {
        let why = format!("unexpected HTTP status code received from server: {status}");
        return Err(rpc_error("Unknown", &why));
    }
    verdict(&headers)?;
    let mut trailers = None;
    let body = ReceivedBody::new(
        None,
        Buffer::default(),
        transport,
        ReceivedBodyState::new_h2(),
        None,
        encoding_rs::UTF_8,
    )
    .with_max_len(ANSWER_MAX)
    .with_trailers(&mut trailers)
    .with_protocol_session(ProtocolSession::Http2 {
        connection: Arc::clone(&connection),
        stream_id: stream,
    });
    let answer = body
        .read_bytes()
        .await
        .map_err(|error| rpc_error("Internal", &error.to_string()))?;
    if let Some(trailers) = &trailers {
        verdict(trailers)?;
    }
    serving(&answer).ok_or_else(|| rpc_error("Internal", "the answer is not one of gRPC's health service"))
}

/// Whether the call went well, as far as these headers say.
fn verdict(headers: &Headers) -> Result<(), String> {
    let Some(code) = headers.get_str("grpc-status").filter(|code| *code != "0") else {
        return Ok(());
    };
    let name = code.parse().ok().and_then(|code: usize| CODES.get(code)).copied();
    let message = headers.get_str("grpc-message").unwrap_or_default();
    let message = percent_decode_str(message).decode_utf8_lossy();
    Err(rpc_error(name.unwrap_or("Unknown"), &message))
}

fn rpc_error(code: &str, why: &str) -> String {
    format!("rpc error: code = {code} desc = {why}")
}

/// A `HealthCheckRequest` in its frame.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, of the kind that has a length.
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    // Not compressed.
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

/// What a `HealthCheckResponse` in its frame says; `None`: it is none.
fn serving(frame: &[u8]) -> Option<Serving> {
    let ([compressed, length @ ..], message) = frame.split_first_chunk::<5>()?;
    if *compressed != 0 || u32::from_be_bytes(*length) as usize != message.len() {
        return None;
    }
    let mut status = 0;
    let mut rest = message;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match key & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(if status == 1 { Serving::Yes } else { Serving::No })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, more) = rest.split_first()?;
        *rest = more;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_protobuf_says() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("ab"), *b"\0\0\0\0\x04\x0a\x02ab");
        let long = request(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 0x01, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 8 + 300);
    }

    #[test]
    fn answers_are_read_whatever_else_is_in_them() {
        let frame = |message: &[u8]| [&[0, 0, 0, 0, message.len() as u8], message].concat();
        assert_eq!(serving(&frame(&[])), Some(Serving::No));
        assert_eq!(serving(&frame(&[8, 1])), Some(Serving::Yes));
        assert_eq!(serving(&frame(&[8, 2])), Some(Serving::No));
        assert_eq!(serving(&frame(&[8, 0x81, 1])), Some(Serving::No));
        let others = [
            0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x28, 9, 8, 1,
        ];
        assert_eq!(serving(&frame(&others)), Some(Serving::Yes));
    }

    #[test]
    fn answers_that_make_no_sense_are_refused() {
        let bad: [&[u8]; 8] = [
            b"",
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 3, 0x12, 9, 1],
            &[0, 0, 0, 0, 1, 0x0b],
            &[
                0, 0, 0, 0, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
            ],
        ];
        for frame in bad {
            assert_eq!(serving(frame), None, "{frame:?}");
        }
    }
}
