use std::pin::Pin;
use std::task::{Context, Poll};

use async_io::Async;
use futures_lite::{AsyncRead, StreamExt as _};
use futures_rustls::TlsAcceptor;
use trillium_http::h2::{H2Connection, H2Transport};
use trillium_http::{Body, BodySource, Conn, Headers, HttpContext};

use super::*;
use crate::checks::dial::Io;

/// What the server answers, and what it was asked.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// This message, and then this status.
    Message(&'static [u8], &'static str),
    /// Nothing but this status, and what there is to say about it.
    Status(&'static str, &'static str),
    /// Something that is not gRPC.
    Http(u16),
    /// Nothing, ever.
    Silence,
}

const SERVING: Answer = Answer::Message(&[0, 0, 0, 0, 2, 8, 1], "0");

/// A message with trailers behind it.
struct Message(&'static [u8], &'static str);

impl AsyncRead for Message {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let length = self.0.len().min(out.len());
        out[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Poll::Ready(Ok(length))
    }
}

impl BodySource for Message {
    fn trailers(self: Pin<&mut Self>) -> Option<Headers> {
        Some(Headers::new().with_inserted_header("grpc-status", self.1))
    }
}

async fn answer(mut conn: Conn<H2Transport>, answer: Answer) -> Conn<H2Transport> {
    assert_eq!(conn.path(), "/grpc.health.v1.Health/Check");
    assert_eq!(
        conn.request_headers().get_str("content-type"),
        Some("application/grpc")
    );
    assert_eq!(conn.request_headers().get_str("te"), Some("trailers"));
    let asked = conn.request_body().read_bytes().await.unwrap();
    assert_eq!(asked, *b"\0\0\0\0\x05\x0a\x03web");
    conn.set_status(200);
    conn.response_headers_mut()
        .insert("content-type", "application/grpc");
    match answer {
        Answer::Message(message, status) => {
            conn.set_response_body(Body::new_with_trailers(Message(message, status), None));
        }
        Answer::Status(status, message) => {
            conn.response_headers_mut().insert("grpc-status", status);
            conn.response_headers_mut().insert("grpc-message", message);
        }
        Answer::Http(status) => {
            conn.set_status(status);
        }
        Answer::Silence => std::future::pending().await,
    }
    conn
}

async fn serve_one(stream: impl Io, what: Answer) {
    let connection = H2Connection::new(Arc::new(HttpContext::new()));
    let mut driver = connection.run(stream);
    let mut running = futures::stream::FuturesUnordered::new();
    loop {
        let next = async { Some(driver.next().await) };
        let done = async {
            if running.next().await.is_none() {
                std::future::pending::<()>().await;
            }
            None
        };
        match futures_lite::future::or(next, done).await {
            Some(Some(Ok(conn))) => running.push(H2Connection::process_inbound(conn, move |conn| {
                answer(conn, what)
            })),
            Some(Some(Err(_)) | None) => return,
            None => {}
        }
    }
}

fn server(what: Answer) -> SocketAddr {
    serve(move |stream| {
        block_on(serve_one(Async::new(stream).unwrap(), what));
    })
}

fn secure_server(authority: &Authority, what: Answer) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::clone(&authority.server));
    serve(move |stream| {
        block_on(async {
            // Those that do not like the certificate go away.
            if let Ok(stream) = acceptor.accept(Async::new(stream).unwrap()).await {
                serve_one(stream, what).await;
            }
        });
    })
}

fn grpc(target: impl ToString, tls: Option<ProbeTls>) -> Probe {
    Probe::Grpc {
        target: target.to_string(),
        tls,
    }
}

fn ping(address: impl ToString, tls: Option<ProbeTls>) -> Probe {
    Probe::H2Ping {
        address: address.to_string(),
        tls,
    }
}

fn found(what: Answer) -> (Outcome, String) {
    let target = format!("{}/web", server(what));
    (probe(&grpc(&target, None)), target)
}

#[test]
fn a_service_that_serves_passes() {
    let (found, target) = found(SERVING);
    assert_eq!(found, passing(format!("gRPC check {target}: success")));
}

#[test]
fn a_service_that_does_not_serve_is_critical() {
    let not = critical("gRPC application didn't report service healthy");
    assert_eq!(found(Answer::Message(&[0, 0, 0, 0, 2, 8, 2], "0")).0, not);
    assert_eq!(found(Answer::Message(&[0, 0, 0, 0, 0], "0")).0, not);
}

#[test]
fn an_error_is_told_wherever_it_stands() {
    let unknown = found(Answer::Status("5", "unknown service%21")).0;
    assert_eq!(
        unknown,
        critical("rpc error: code = NotFound desc = unknown service!")
    );
    let late = found(Answer::Message(&[0, 0, 0, 0, 2, 8, 1], "14")).0;
    assert_eq!(late, critical("rpc error: code = Unavailable desc = "));
    let odd = found(Answer::Status("99", "")).0;
    assert_eq!(odd, critical("rpc error: code = Unknown desc = "));
}

#[test]
fn what_is_no_answer_is_critical() {
    let nonsense = found(Answer::Message(&[0, 0, 0, 0, 9, 8, 1], "0")).0;
    let why = "rpc error: code = Internal desc = the answer is not one of gRPC's health service";
    assert_eq!(nonsense, critical(why));
    let http = found(Answer::Http(404)).0;
    let why = "rpc error: code = Unknown desc = unexpected HTTP status code received from server: 404";
    assert_eq!(http, critical(why));
    let long = found(Answer::Message(&[0; 10_000], "0")).0;
    assert_eq!(long.status, Status::Critical);
    assert!(
        long.output.starts_with("rpc error: code = Internal desc = "),
        "{}",
        long.output
    );
}

#[test]
fn who_does_not_answer_a_call_in_time_is_critical() {
    let target = format!("{}/web", server(Answer::Silence));
    let why = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
    assert_eq!(probe_soon(&grpc(target, None)), critical(why));
}

#[test]
fn where_nobody_listens_there_is_no_call() {
    let closed = closed();
    let why = format!(
        "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing dial tcp {closed}: \
         connect: connection refused\""
    );
    assert_eq!(probe(&grpc(closed, None)), critical(why));
}

#[test]
fn where_something_else_is_spoken_there_is_no_call() {
    let address = serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    for check in [grpc(address, None), ping(address, None)] {
        let found = probe(&check);
        assert_eq!(found.status, Status::Critical, "{}", found.output);
    }
}

#[test]
fn a_ping_is_answered() {
    let address = server(SERVING);
    assert_eq!(probe(&ping(address, None)), passing("HTTP2 ping was successful"));
}

#[test]
fn a_ping_that_is_not_answered_is_critical() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let late = "HTTP2 ping failed: context deadline exceeded";
    assert_eq!(probe_soon(&ping(address, None)), critical(late));
    let closed = closed();
    let refused = format!("Failed to dial to {closed}: dial tcp {closed}: connect: connection refused");
    assert_eq!(probe(&ping(closed, None)), critical(refused));
}

#[test]
fn both_go_over_tls() {
    let authority = authority("rpc.example", &[b"h2"]);
    let address = secure_server(&authority, SERVING);
    let found = |check| block_on(authority.prober().probe(&check, PATIENCE, 4096));
    let target = format!("{address}/web");
    let named = Some(tls(false, "rpc.example"));
    assert_eq!(
        found(grpc(&target, named.clone())),
        passing(format!("gRPC check {target}: success"))
    );
    assert_eq!(found(ping(address, named)), passing("HTTP2 ping was successful"));
    assert_eq!(
        found(ping(address, Some(tls(true, "")))),
        passing("HTTP2 ping was successful")
    );
    let why = "x509: certificate is not valid for 127.0.0.1";
    let failed = format!("Failed to dial to {address}: {why}");
    assert_eq!(found(ping(address, Some(tls(false, "")))), critical(failed));
}
