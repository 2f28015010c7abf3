//! A small HTTP server for tests, which remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::console::testing::{Ran, run_with};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Method and target, as in `GET /v1/kv/a`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What is needed to serve one connection: plain, or through TLS.
pub(crate) trait Accept: Send + Sync + 'static {
    type Stream: Read + Write;
    fn accept(&self, stream: TcpStream) -> Self::Stream;
}

/// Connections as they are.
pub(crate) struct Plain;

impl Accept for Plain {
    type Stream = TcpStream;
    fn accept(&self, stream: TcpStream) -> TcpStream {
        stream
    }
}

/// Runs a command line against a server that gives every request the same answer; what that did, and what was asked.
pub(crate) fn ask(status: u16, body: &str, line: &[&str]) -> (Ran, Vec<String>) {
    let body = body.to_owned();
    let fake = Fake::start(move |_| (status, body.clone()));
    let ran = run_with(line, b"from stdin", &[("CONSUL_HTTP_ADDR", &fake.address)]);
    (ran, fake.lines())
}

/// The server. It serves until the test's process ends.
pub(crate) struct Fake {
    /// Host and port.
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// A plain server that answers with `answer`: a status and a body.
    pub(crate) fn start<T: AsRef<[u8]> + 'static>(
        answer: impl Fn(&Seen) -> (u16, T) + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Plain, answer)
    }

    /// A server whose connections go through `accept`.
    pub(crate) fn start_with<A: Accept, T: AsRef<[u8]> + 'static>(
        accept: A,
        answer: impl Fn(&Seen) -> (u16, T) + Send + Sync + 'static,
    ) -> Self {
        Self::serve(accept, |_| "", answer)
    }

    /// A plain server that knows idempotency keys, and says so unless it answers with 429, as to a connection too many. The status 0 closes the
    /// connection without an answer.
    pub(crate) fn keeping_answers<T: AsRef<[u8]> + 'static>(
        answer: impl Fn(&Seen) -> (u16, T) + Send + Sync + 'static,
    ) -> Self {
        let known = |status| match status {
            429 => "",
            _ => "Lictor-Idempotency-Key: understood\r\n",
        };
        Self::serve(Plain, known, answer)
    }

    fn serve<A: Accept, T: AsRef<[u8]> + 'static>(
        accept: A,
        known: fn(u16) -> &'static str,
        answer: impl Fn(&Seen) -> (u16, T) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, shared) = (seen.clone(), Arc::new((accept, answer)));
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (log, shared) = (log.clone(), shared.clone());
                thread::spawn(move || {
                    // A failed handshake or a closed connection ends this one only.
                    let stream = shared.0.accept(stream.unwrap());
                    let _ = serve(stream, connection, known, &log, &shared.1);
                });
            }
        });
        Self { address, seen }
    }

    /// What it was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The request lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

fn serve<T: AsRef<[u8]>>(
    stream: impl Read + Write,
    connection: usize,
    known: fn(u16) -> &'static str,
    log: &Mutex<Vec<Seen>>,
    answer: &impl Fn(&Seen) -> (u16, T),
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            stream.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        let mut request = Seen {
            line,
            headers,
            body: Vec::new(),
            connection,
        };
        if request.header("transfer-encoding") == Some("chunked") {
            request.body = chunked(&mut stream)?;
        } else {
            let length = request
                .header("content-length")
                .map_or(0, |length| length.parse().unwrap());
            request.body = vec![0; length];
            stream.read_exact(&mut request.body)?;
        }
        let (status, body) = answer(&request);
        let known = request
            .header("lictor-idempotency-key")
            .map_or("", |_| known(status));
        log.lock().unwrap().push(request);
        if status == 0 {
            return Ok(());
        }
        let body = body.as_ref();
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Said\r\n{known}Content-Length: {length}\r\n\r\n");
        stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        stream.get_mut().flush()?;
    }
}

/// A body that comes in chunks, each with its length in hexadecimal digits before it.
fn chunked(stream: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        stream.read_exact(&mut chunk)?;
        if length == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..length]);
    }
}
