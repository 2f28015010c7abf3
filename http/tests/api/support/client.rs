//! A client that sees every byte.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};

use super::LONG;

/// A connection.
pub(crate) struct Client<S>(pub(crate) BufReader<S>);

impl Client<TcpStream> {
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }
}

impl<S: std::io::Read + std::io::Write> Client<S> {
    /// Sends `METHOD TARGET`, maybe further lines as headers, and, behind an empty line, maybe a body.
    pub(crate) fn ask(&mut self, request: &str) -> Response {
        self.send(request);
        let head = request.starts_with("HEAD ");
        self.receive(head)
    }

    pub(crate) fn send(&mut self, request: &str) {
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        let mut lines: Vec<_> = head.lines().map(str::to_owned).collect();
        lines[0] += " HTTP/1.1";
        lines.push("Host: x".to_owned());
        if !body.is_empty() {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        let text = lines.join("\r\n") + "\r\n\r\n";
        self.send_raw(&(text + body).into_bytes());
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn receive(&mut self, head: bool) -> Response {
        let mut line = || {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let line = line
                .strip_suffix("\r\n")
                .unwrap_or_else(|| panic!("not a line: {line:?}"));
            line.to_owned()
        };
        let first = line();
        let mut headers = Vec::new();
        loop {
            let text = line();
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(": ").unwrap();
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut response = Response {
            first,
            headers,
            body: Vec::new(),
        };
        let length = response
            .header("Content-Length")
            .expect("all our answers have a length")
            .parse()
            .unwrap();
        if !head {
            response.body.resize(length, 0);
            self.0.read_exact(&mut response.body).unwrap();
        }
        response
    }

    /// Whether the server has closed the connection, without sending anything more.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.0.read(&mut [0]).is_ok_and(|count| count == 0)
    }
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.first.strip_prefix("HTTP/1.1 ").unwrap()[..3]
            .parse()
            .unwrap()
    }

    /// A header by its exact spelling.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn index(&self) -> u64 {
        self.header("X-Consul-Index").unwrap().parse().unwrap()
    }

    /// Compares everything but the date with an answer as it is written in a book: status line, headers sorted by name,
    /// an empty line, and the body.
    #[track_caller]
    pub(crate) fn assert_is(&self, expected: &str) {
        let mut headers: Vec<String> = self
            .headers
            .iter()
            .filter(|(name, _)| name != "Date")
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect();
        headers.sort();
        assert!(self.header("Date").is_some());
        assert_eq!(
            format!("{}\n{}\n{}", self.first, headers.concat(), self.text()),
            expected
        );
    }

    #[track_caller]
    pub(crate) fn assert_text(&self, status: u16, body: &str) {
        assert_eq!((self.status(), self.text()), (status, body));
    }
}
