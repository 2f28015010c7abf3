//! What the server puts up with.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use lictor_http::{Config, Limits, Listener};

use crate::support::{Client, LONG, Memory, Site, eventually, start};

const PAGE: &str = "https://www.consul.io/docs/agent/options.html";

#[test]
fn values_up_to_the_limit() {
    let site = Site::new();
    let mut client = site.connect();
    let put = |length: usize| format!("PUT /v1/kv/a\n\n{}", "x".repeat(length));
    client.ask(&put(524_288)).assert_text(200, "true");
    assert_eq!(client.ask("GET /v1/kv/a?raw").body.len(), 524_288);
    client.ask(&put(524_289)).assert_is(&format!(
        "HTTP/1.1 413 Payload Too Large\n\
         Connection: close\n\
         Content-Length: 130\n\
         Content-Type: text/plain; charset=utf-8\n\
         Vary: Accept-Encoding\n\
         \n\
         Request body(524289 bytes) too large, max size: 524288 bytes. See {PAGE}#kv_max_value_size."
    ));
}

#[test]
fn the_limit_holds_for_chunks_too() {
    let site = Site::with(
        Config {
            kv_max_value_size: 1000,
            ..Config::default()
        },
        Limits::default(),
    );
    let mut client = site.connect();
    client.send_raw(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        client.send_raw(format!("190\r\n{}\r\n", "x".repeat(0x190)).as_bytes());
    }
    client.receive(false).assert_text(
        413,
        &format!("Request body too large, max size: 1000 bytes. See {PAGE}#kv_max_value_size."),
    );
    assert_eq!(site.ask("GET /v1/kv/a").status(), 404);
}

#[test]
fn a_client_that_sends_too_much_hears_so_while_it_sends() {
    let site = Site::new();
    let mut client = site.connect();
    let length = 8 << 20;
    client
        .send_raw(format!("PUT /v1/txn HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").as_bytes());
    client.send_raw(&vec![b' '; 1 << 16]);
    let response = client.receive(false);
    response.assert_text(
        413,
        &format!(
            "Request body({length} bytes) too large, max size: 524288 bytes. See {PAGE}#txn_max_req_len."
        ),
    );
    assert_eq!(response.header("Connection"), Some("close"));
    // The connection is not reset: all of the rest can be sent, to its orderly end.
    client.send_raw(&vec![b' '; length - (1 << 16)]);
    client.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_closed());
}

#[test]
fn expectations_are_answered() {
    let site = Site::new();
    let mut client = site.connect();
    let head = "HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n";
    client.send_raw(format!("PUT /v1/kv/a {head}Content-Length: 3\r\n\r\n").as_bytes());
    let mut go_on = [0; 25];
    client.0.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send_raw(b"abc");
    client.receive(false).assert_text(200, "true");
    client.send_raw(format!("PUT /v1/kv/a {head}Content-Length: 600000\r\n\r\n").as_bytes());
    assert_eq!(client.receive(false).status(), 413, "without reading any of it");
}

#[test]
fn large_bodies_that_nobody_reads_end_the_connection() {
    let site = Site::new();
    for target in ["/v1/nope", "/v1/status/leader", "/v1/kv//x", "/v1/kv/a?index=zz"] {
        let mut client = site.connect();
        client.send_raw(
            format!("PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n").as_bytes(),
        );
        assert_eq!(
            client.receive(false).header("Connection"),
            Some("close"),
            "{target}"
        );
    }
    let mut client = site.connect();
    assert_eq!(client.ask("PUT /v1/nope\n\nsmall").header("Connection"), None);
    assert_eq!(client.ask("GET /v1/kv/a").status(), 404, "the connection goes on");
}

#[test]
fn slow_bodies_are_given_up() {
    let config = Config {
        body_timeout: Duration::from_millis(20),
        ..Config::default()
    };
    let site = Site::with(config, Limits::default());
    let mut client = site.connect();
    client.send_raw(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    let response = client.receive(false);
    assert_eq!(
        (response.status(), response.header("Connection")),
        (408, Some("close"))
    );
}

#[test]
fn slow_heads_and_idle_connections_are_closed() {
    let short = Duration::from_millis(20);
    let site = Site::with(
        Config::default(),
        Limits {
            head_timeout: short,
            ..Limits::default()
        },
    );
    let mut client = site.connect();
    client.send_raw(b"GET /v1/kv/a HT");
    assert!(client.is_closed());
    let site = Site::with(
        Config::default(),
        Limits {
            idle_timeout: short,
            ..Limits::default()
        },
    );
    assert!(site.connect().is_closed());
}

#[test]
fn heads_are_bounded() {
    let site = Site::with(
        Config::default(),
        Limits {
            head_bytes: 4096,
            ..Limits::default()
        },
    );
    assert_eq!(
        site.ask(&format!("GET /v1/kv/{}", "x".repeat(3000))).status(),
        404
    );
    assert_eq!(
        site.ask(&format!("GET /v1/kv/{}", "x".repeat(8000))).status(),
        414
    );
    assert_eq!(
        site.ask(&format!("GET /v1/kv/a\nX-Long: {}", "x".repeat(8000)))
            .status(),
        431
    );
}

#[test]
fn one_connection_too_many_from_a_client_is_told_so() {
    let site = Site::with(
        Config::default(),
        Limits {
            connections_per_client: 3,
            ..Limits::default()
        },
    );
    let mut clients: Vec<_> = (0..3).map(|_| site.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("GET /v1/kv/a").status(), 404);
    }
    let mut refused = site.connect();
    let response = refused.ask("GET /v1/kv/a");
    assert_eq!(
        (response.first.as_str(), response.header("Retry-After")),
        ("HTTP/1.1 429 Too Many Requests", Some("1"))
    );
    assert!(
        response.text().contains("http_max_conns_per_client is 3"),
        "{}",
        response.text()
    );
    assert!(refused.is_closed());
    drop(clients);
    eventually("places come back", || site.ask("GET /v1/kv/a").status() == 404);
}

#[test]
fn the_server_has_a_limit_too() {
    let site = Site::with(
        Config::default(),
        Limits {
            connections: 1,
            ..Limits::default()
        },
    );
    let mut client = site.connect();
    assert_eq!(client.ask("GET /v1/kv/a").status(), 404);
    let response = site.ask("GET /v1/kv/a");
    assert_eq!(
        (response.status(), response.header("Retry-After")),
        (429, Some("1"))
    );
    assert!(
        response.text().contains("http_max_conns is 1"),
        "{}",
        response.text()
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let site = Site::new();
    let mut client = site.connect();
    let one =
        |number: usize| format!("PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{number}");
    let all: String = (0..10).map(one).collect();
    client.send_raw((all + "GET /v1/kv/a?raw HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    for _ in 0..10 {
        client.receive(false).assert_text(200, "true");
    }
    client.receive(false).assert_text(200, "9");
}

#[test]
fn other_ways_to_ask() {
    let site = Site::new();
    site.memory.set("a", "1");
    let mut client = site.connect();
    client.send_raw(b"GET http://x/v1/kv/a?raw HTTP/1.1\r\nHost: x\r\n\r\n");
    client.receive(false).assert_text(200, "1");
    client.send_raw(b"GET /v1/kv/a?raw HTTP/1.1\r\n\r\n");
    assert_eq!(client.receive(false).status(), 400, "no host");
    assert!(client.is_closed());
    let mut old = site.connect();
    old.send_raw(b"GET /v1/kv/a?raw HTTP/1.0\r\n\r\n");
    let response = old.receive(false);
    assert_eq!(
        (response.first.as_str(), response.text()),
        ("HTTP/1.0 200 OK", "1")
    );
    assert!(old.is_closed());
}

#[test]
fn several_listeners_and_unix_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let memory = Arc::new(Memory::default());
    let any = || Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let listeners = vec![any(), any(), Listener::unix(&path).unwrap()];
    let addresses: Vec<_> = listeners.iter().filter_map(Listener::address).collect();
    assert_eq!(addresses.len(), 2);
    let taken = Listener::tcp(addresses[0]).unwrap_err().to_string();
    assert!(
        taken.contains(&addresses[0].to_string()) && taken.contains("-http-port"),
        "{taken}"
    );
    assert!(
        Listener::unix(&path)
            .unwrap_err()
            .to_string()
            .contains("http.sock")
    );

    let server = start(listeners, &memory, Config::default(), Limits::default());
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut local = Client(std::io::BufReader::new(stream));
    local.ask("PUT /v1/kv/a\n\nx").assert_text(200, "true");
    for address in addresses {
        Client::tcp(address).ask("GET /v1/kv/a?raw").assert_text(200, "x");
    }
    block_on(server.shut_down(LONG));
    assert!(!path.exists());
}

#[test]
fn whoever_has_the_door_needs_no_address() {
    let (listener, door) = Listener::door();
    assert_eq!(listener.address(), None);
    let memory = Arc::new(Memory::default());
    let server = start(vec![listener], &memory, Config::default(), Limits::default());
    let ask = async || -> std::io::Result<String> {
        let mut stream = door.connect().await?;
        stream
            .write_all(b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    let answer = block_on(ask()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    block_on(server.shut_down(LONG));
    // The listener's task may still be about to end.
    eventually("the door is closed", || {
        let failed = block_on(ask()).map_err(|error| error.to_string());
        failed == Err("this agent's API has stopped".to_owned())
    });
}

#[test]
fn requests_that_do_not_finish_are_cut() {
    let site = Site::new();
    let mut client = site.connect();
    client.send_raw(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    // However far the first request has come by then: it cannot end, and it is not waited for.
    assert_eq!(site.ask("GET /v1/kv/a").status(), 404);
    block_on(site.server.shut_down(Duration::from_millis(10)));
    let end = client.0.get_mut().read(&mut [0]);
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    client.0.get_mut().flush().unwrap();
}
