//! Reading along what the agent logs.

use std::io::{BufRead as _, Read as _};
use std::net::TcpStream;
use std::time::SystemTime;

use futures_lite::future::block_on;
use lictor_http::{LOG_READERS_MAX, LogFormat, LogLevel, LogRecord};

use crate::support::{Client, LONG, Site, eventually};

/// Begins to read along, and reads the answer's head.
fn begin(site: &Site, query: &str, level: LogLevel) -> Client<TcpStream> {
    let mut client = site.connect();
    client.send(&format!("GET /v1/agent/monitor{query}"));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        client.0.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    assert_eq!(head.remove(0), "HTTP/1.1 200 OK");
    head.retain(|line| !line.starts_with("Date: "));
    head.sort();
    assert_eq!(head, ["Transfer-Encoding: chunked", "Vary: Accept-Encoding"]);
    assert_eq!(site.memory.log.wanted(), Some(level));
    client
}

fn chunk(client: &mut Client<TcpStream>) -> String {
    let mut size = String::new();
    client.0.read_line(&mut size).unwrap();
    let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
    let mut chunk = vec![0; size + 2];
    client.0.read_exact(&mut chunk).unwrap();
    assert_eq!(chunk.split_off(size), b"\r\n");
    String::from_utf8(chunk).unwrap()
}

fn say(site: &Site, level: LogLevel, message: &str) {
    let record = LogRecord {
        at: SystemTime::UNIX_EPOCH,
        level,
        module: "agent",
        message,
        fields: &[("a", "1".to_owned())],
    };
    site.memory.log.push(&record, |wanted| level <= wanted);
}

#[test]
fn lines_come_as_they_are_logged() {
    let site = Site::new();
    let mut client = begin(&site, "?loglevel=warn", LogLevel::Warn);
    say(&site, LogLevel::Info, "fine");
    say(&site, LogLevel::Warn, "careful");
    assert_eq!(
        chunk(&mut client),
        "1970-01-01T00:00:00.000Z [WARN]  agent: careful: a=1\n"
    );
    say(&site, LogLevel::Error, "broken");
    assert_eq!(
        chunk(&mut client),
        "1970-01-01T00:00:00.000Z [ERROR] agent: broken: a=1\n"
    );
}

#[test]
fn lines_as_json() {
    let site = Site::new();
    let mut client = begin(&site, "?logjson", LogLevel::Info);
    say(&site, LogLevel::Info, "fine");
    assert_eq!(
        chunk(&mut client),
        "{\"@level\":\"info\",\"@message\":\"fine\",\"@module\":\"agent\",\
         \"@timestamp\":\"1970-01-01T00:00:00.000000Z\",\"a\":\"1\"}\n"
    );
}

#[test]
fn it_ends_when_the_client_leaves_even_if_nothing_is_logged() {
    let site = Site::new();
    let client = begin(&site, "", LogLevel::Info);
    drop(client);
    eventually("nobody reads any more", || site.memory.log.wanted().is_none());
}

#[test]
fn it_ends_in_good_order_when_the_server_stops() {
    let site = Site::new();
    let mut client = begin(&site, "", LogLevel::Info);
    // Now it is being sent, and not only about to be.
    say(&site, LogLevel::Info, "fine");
    assert!(chunk(&mut client).contains("fine"));
    block_on(site.server.shut_down(LONG));
    let mut rest = String::new();
    client.0.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "0\r\n\r\n");
}

#[test]
fn who_asks_wrongly_or_too_often_is_told() {
    let site = Site::new();
    site.ask("GET /v1/agent/monitor?loglevel=nope")
        .assert_text(400, "Bad request: Unknown log level: nope");
    let readers: Vec<_> = (0..LOG_READERS_MAX)
        .map(|_| site.memory.log.read(LogLevel::Error, LogFormat::Text).unwrap())
        .collect();
    let refused = site.ask("GET /v1/agent/monitor");
    assert_eq!(
        (refused.status(), refused.header("Retry-After")),
        (429, Some("1"))
    );
    assert!(refused.text().contains("log readers"), "{}", refused.text());
    drop(readers);
    begin(&site, "", LogLevel::Info);
}
