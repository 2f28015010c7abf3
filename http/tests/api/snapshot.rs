//! `/v1/snapshot`

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use lictor_http::{Failure, ReadMode};

use crate::support::Site;

/// Whatever a server says until it ends the connection.
fn raw(site: &Site, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(site.address).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

const GET: &str = "GET /v1/snapshot HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[test]
fn an_archive_comes_as_it_is_with_the_index_that_it_is_of() {
    let site = Site::new();
    site.memory.archive.lock().unwrap().0 = b"an archive".to_vec();
    let asked = GET.replace("\r\n\r\n", "\r\nAccept-Encoding: gzip\r\n\r\n");
    let answer = raw(&site, asked.as_bytes()).to_lowercase();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for header in [
        "content-type: application/x-gzip",
        "x-consul-index: 96",
        "x-consul-knownleader: true",
        "x-consul-lastcontact: 4",
        "transfer-encoding: chunked",
    ] {
        assert!(head.contains(header), "{header} in {head}");
    }
    assert!(!head.contains("content-encoding"), "{head}");
    assert_eq!(body, "a\r\nan archive\r\n0\r\n\r\n");
}

#[test]
fn one_that_breaks_off_is_not_taken_for_a_whole_one() {
    let site = Site::new();
    *site.memory.archive.lock().unwrap() = (b"half of it".to_vec(), true);
    let answer = raw(&site, GET.as_bytes());
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[test]
fn who_asks_for_one_says_how_fresh_it_must_be_and_no_more() {
    let site = Site::new();
    for (query, mode) in [
        ("", ReadMode::Default),
        ("?stale", ReadMode::Stale { max: None }),
        ("?consistent", ReadMode::Consistent),
        // Unlike elsewhere.
        ("?stale&consistent", ReadMode::Stale { max: None }),
        ("?index=5&wait=5s", ReadMode::Default),
    ] {
        let answer = raw(&site, GET.replace(" HTTP", &format!("{query} HTTP")).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200"), "{query}: {answer}");
        let read = site.memory.last_read.lock().unwrap().take().unwrap();
        assert_eq!((read.mode, read.min_index.0), (mode, 0), "{query}");
    }
    *site.memory.failure.lock().unwrap() = Some(Failure::NoLeader);
    let answer = site.ask("GET /v1/snapshot");
    assert_eq!((answer.status(), answer.text()), (500, "No cluster leader"));
    let answer = site.ask("GET /v1/snapshot?dc=nope");
    assert_eq!((answer.status(), answer.text()), (500, "No path to datacenter"));
}

#[test]
fn what_is_put_is_restored() {
    let site = Site::new();
    // More than other requests may have.
    let archive = vec![b'x'; 3 << 20];
    let head = format!(
        "PUT /v1/snapshot?consistent HTTP/1.1\r\nHost: x\r\nX-Consul-Token: secret\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        archive.len()
    );
    let answer = raw(&site, &[head.as_bytes(), &archive].concat());
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    assert_eq!(
        site.memory.restored.lock().unwrap().as_deref(),
        Some(&archive[..])
    );
    let write = site.memory.last_write.lock().unwrap().take().unwrap();
    assert_eq!(write.token.unwrap().expose(), "secret");
}

#[test]
fn what_is_not_restored_is_said() {
    let site = Site::new();
    let put = |query: &str| {
        let head = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
        raw(&site, format!("PUT /v1/snapshot{query} {head}").as_bytes())
    };
    for query in ["?stale", "?stale&consistent"] {
        let answer = put(query);
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
        assert!(
            answer.ends_with("\r\n\r\nstale not allowed for restore"),
            "{answer}"
        );
    }
    assert!(put("?dc=nope").ends_with("No path to datacenter"));
    let refused = "failed to decompress snapshot: unexpected EOF";
    *site.memory.failure.lock().unwrap() = Some(Failure::Refused(refused.into()));
    let answer = put("");
    assert!(
        answer.starts_with("HTTP/1.1 500") && answer.ends_with(refused),
        "{answer}"
    );
    assert_eq!(*site.memory.restored.lock().unwrap(), None);
    // A body that ends before its end is none.
    let mut stream = TcpStream::connect(site.address).unwrap();
    stream
        .write_all(b"PUT /v1/snapshot HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // It may be cut without a word.
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(*site.memory.restored.lock().unwrap(), None);
}

#[test]
fn it_takes_two_methods() {
    let site = Site::new();
    let answer = site.ask("DELETE /v1/snapshot");
    assert_eq!(
        (answer.status(), answer.header("Allow")),
        (405, Some("OPTIONS,GET,PUT"))
    );
    assert_eq!(
        site.ask("OPTIONS /v1/snapshot").header("Allow"),
        Some("OPTIONS,GET,PUT")
    );
    assert_eq!(site.ask("GET /v1/snapshot/").status(), 404);
}
