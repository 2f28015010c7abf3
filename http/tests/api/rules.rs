//! What holds for every endpoint.

use std::time::Duration;

use lictor_http::{Config, Failure, Limits, ReadMode};

use crate::support::Site;

#[test]
fn exchanges_as_they_are_on_the_wire() {
    let site = Site::new();
    let mut client = site.connect();
    client.ask("GET /v1/kv/missing").assert_is(
        "HTTP/1.1 404 Not Found\n\
         Content-Length: 0\n\
         Vary: Accept-Encoding\n\
         X-Consul-Index: 1\n\
         X-Consul-Knownleader: true\n\
         X-Consul-Lastcontact: 0\n\
         \n",
    );
    site.memory.skip_to(13);
    site.memory.set("foo", "bar");
    client.ask("GET /v1/kv/foo").assert_is(
        "HTTP/1.1 200 OK\n\
         Content-Length: 88\n\
         Content-Type: application/json\n\
         Vary: Accept-Encoding\n\
         X-Consul-Index: 14\n\
         X-Consul-Knownleader: true\n\
         X-Consul-Lastcontact: 0\n\
         \n\
         [{\"LockIndex\":0,\"Key\":\"foo\",\"Flags\":0,\"Value\":\"YmFy\",\"CreateIndex\":14,\"ModifyIndex\":14}]",
    );
    client.ask("GET /v1/kv/foo?raw").assert_is(
        "HTTP/1.1 200 OK\n\
         Content-Length: 3\n\
         Content-Security-Policy: sandbox\n\
         Content-Type: text/plain\n\
         Vary: Accept-Encoding\n\
         X-Consul-Index: 14\n\
         X-Consul-Knownleader: true\n\
         X-Consul-Lastcontact: 0\n\
         X-Content-Type-Options: nosniff\n\
         \n\
         bar",
    );
    client.ask("POST /v1/kv/foo").assert_is(
        "HTTP/1.1 405 Method Not Allowed\n\
         Allow: OPTIONS,GET,PUT,DELETE\n\
         Content-Length: 23\n\
         Content-Type: text/plain; charset=utf-8\n\
         Vary: Accept-Encoding\n\
         \n\
         method POST not allowed",
    );
    client.ask("PUT /v1/kv/foo\n\nbar").assert_is(
        "HTTP/1.1 200 OK\n\
         Content-Length: 4\n\
         Content-Type: application/json\n\
         Vary: Accept-Encoding\n\
         \n\
         true",
    );
    client.ask("GET /v1/status/leader?index=zz").assert_is(
        "HTTP/1.1 400 Bad Request\n\
         Content-Length: 13\n\
         Content-Type: text/plain; charset=utf-8\n\
         Vary: Accept-Encoding\n\
         \n\
         Invalid index",
    );
    client.ask("OPTIONS /v1/status/leader").assert_is(
        "HTTP/1.1 200 OK\n\
         Allow: OPTIONS,GET\n\
         Content-Length: 0\n\
         Vary: Accept-Encoding\n\
         \n",
    );
    client.ask("HEAD /v1/kv/foo").assert_is(
        "HTTP/1.1 405 Method Not Allowed\n\
         Allow: OPTIONS,GET,PUT,DELETE\n\
         Content-Length: 23\n\
         Content-Type: text/plain; charset=utf-8\n\
         Vary: Accept-Encoding\n\
         \n",
    );
    client
        .ask("GET /v1/nope")
        .assert_is("HTTP/1.1 404 Not Found\nContent-Length: 0\n\n");
    client.ask("GET /").assert_is(
        "HTTP/1.1 200 OK\nContent-Length: 12\nContent-Type: text/plain; charset=utf-8\n\nConsul Agent",
    );
    client
        .ask("GET /v1/kv/%00")
        .assert_is("HTTP/1.1 400 Bad Request\nContent-Length: 0\n\n");
    client
        .ask("GET /v1/kv/foo?a=%zz")
        .assert_is("HTTP/1.1 500 Internal Server Error\nContent-Length: 0\nVary: Accept-Encoding\n\n");
    client.ask("GET /v1/kv/%zz").assert_is(
        "HTTP/1.1 400 Bad Request\n\
         Connection: close\n\
         Content-Length: 15\n\
         Content-Type: text/plain; charset=utf-8\n\
         \n\
         400 Bad Request",
    );
    assert!(client.is_closed());
}

#[test]
fn redirects() {
    let site = Site::new();
    let mut client = site.connect();
    client.ask("GET /v1/kv?recurse&a=%3C%26").assert_is(
        "HTTP/1.1 301 Moved Permanently\n\
         Content-Length: 63\n\
         Content-Type: text/html; charset=utf-8\n\
         Location: /v1/kv/?recurse&a=%3C%26\n\
         \n\
         <a href=\"/v1/kv/?recurse&amp;a=%3C%26\">Moved Permanently</a>.\n\n",
    );
    client.ask("PUT /v1/kv/%2Fabs\n\nx").assert_is(
        "HTTP/1.1 301 Moved Permanently\n\
         Content-Length: 0\n\
         Location: /v1/kv/abs\n\
         \n",
    );
    client
        .ask("DELETE /v1/kv/a/../c")
        .assert_is("HTTP/1.1 301 Moved Permanently\nContent-Length: 0\nLocation: /v1/kv/c\n\n");
}

#[test]
fn methods_per_path() {
    let site = Site::new();
    let mut client = site.connect();
    for (request, allow) in [
        ("HEAD /v1/status/peers", "OPTIONS,GET"),
        ("PUT /v1/status/peers\n\nx", "OPTIONS,GET"),
        ("GET /v1/txn", "OPTIONS,PUT"),
        ("POST /v1/txn\n\n[]", "OPTIONS,PUT"),
        ("PATCH /v1/kv/", "OPTIONS,GET,PUT,DELETE"),
    ] {
        let response = client.ask(request);
        assert_eq!(
            (response.status(), response.header("Allow")),
            (405, Some(allow)),
            "{request}"
        );
    }
    for (request, allow) in [
        ("OPTIONS /v1/kv/a/b", "OPTIONS,GET,PUT,DELETE"),
        ("OPTIONS /v1/txn?token=x", "OPTIONS,PUT"),
    ] {
        let response = client.ask(request);
        assert_eq!(
            (response.status(), response.header("Allow")),
            (200, Some(allow)),
            "{request}"
        );
        assert_eq!(response.header("Content-Type"), None);
    }
}

#[test]
fn malformed_options_are_refused_on_reads_and_on_kv_writes() {
    let site = Site::new();
    let mut client = site.connect();
    for (query, text) in [
        ("index=zz", "Invalid index"),
        ("index=-1", "Invalid index"),
        ("index=18446744073709551616", "Invalid index"),
        ("wait=zz", "Invalid wait time"),
        ("wait=5", "Invalid wait time"),
        ("max_stale=zz", "Invalid max_stale value \"zz\""),
        (
            "stale&consistent",
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
        (
            "cached&consistent",
            "Cannot specify ?cached with ?consistent, conflicting semantics.",
        ),
        ("ns=x&index=zz", "Invalid index"),
        (
            "ns=x",
            "Bad request: Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature",
        ),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            client
                .ask(&format!("{method} /v1/kv/foo?{query}"))
                .assert_text(400, text);
        }
    }
    client.ask("GET /v1/kv/foo\nX-Consul-Namespace: x").assert_text(
        400,
        "Bad request: Invalid header: \"X-Consul-Namespace\" - Namespaces are a Consul Enterprise feature",
    );
    client
        .ask("GET /v1/kv/foo?cached\nCache-Control: max-age=zz")
        .assert_text(400, "Invalid Cache-Control header.");
    assert_eq!(client.ask("GET /v1/kv/foo?ns=&partition=x&unknown").status(), 404);
    assert_eq!(client.ask("GET /v1/status/leader?ns=x").status(), 200);
}

#[test]
fn options_reach_the_agent() {
    let site = Site::new();
    let mut client = site.connect();
    let read = || site.memory.last_read.lock().unwrap().take().unwrap();
    client.ask("GET /v1/kv/a?consistent=&dc=dc1&token=t%201\nX-Consul-Token: other");
    let options = read();
    assert_eq!(
        (options.mode, options.datacenter.as_deref()),
        (ReadMode::Consistent, Some("dc1"))
    );
    assert_eq!(options.token.unwrap().expose(), "t 1");
    client.ask("GET /v1/kv/a?stale=false&max_stale=2s&dc=\nAuthorization: bearer abc");
    let options = read();
    assert_eq!(
        options.mode,
        ReadMode::Stale {
            max: Some(Duration::from_secs(2))
        }
    );
    assert_eq!(
        (options.datacenter, options.token.unwrap().expose()),
        (None, "abc")
    );
    client.ask("GET /v1/kv/a?wait=10s\nAuthorization: Basic Og==");
    let options = read();
    assert_eq!(
        (options.mode, options.min_index.0, options.token),
        (ReadMode::Default, 0, None)
    );

    client.ask("PUT /v1/kv/a?dc=dc2&wait=60s\nX-Consul-Token: abc\n\nx");
    let options = site.memory.last_write.lock().unwrap().take().unwrap();
    assert_eq!(
        (options.datacenter.as_deref(), options.token.unwrap().expose()),
        (Some("dc2"), "abc")
    );
}

#[test]
fn failures_become_answers_without_metadata() {
    let site = Site::new();
    let mut client = site.connect();
    for (failure, status, text) in [
        (Failure::NoLeader, 500, "No cluster leader"),
        (
            Failure::LeadershipLost,
            500,
            "leadership lost while committing log; it may have happened, or not; with a Lictor-Idempotency-Key it can be asked for again without harm",
        ),
        (
            Failure::Denied("Permission denied".into()),
            403,
            "Permission denied",
        ),
    ] {
        for request in [
            "GET /v1/kv/a",
            "GET /v1/kv/?recurse",
            "PUT /v1/kv/a",
            "PUT /v1/txn\n\n[]",
            "GET /v1/status/leader",
        ] {
            *site.memory.failure.lock().unwrap() = Some(failure.clone());
            let response = client.ask(request);
            response.assert_text(status, text);
            assert_eq!(response.header("X-Consul-Index"), None);
            assert_eq!(response.header("X-Consul-Knownleader"), None);
            assert_eq!(response.header("Content-Type"), Some("text/plain; charset=utf-8"));
        }
    }
    let busy = Failure::Busy {
        limit: "proposal queue".into(),
        retry_after: Duration::from_secs(3),
    };
    *site.memory.failure.lock().unwrap() = Some(busy);
    let response = client.ask("PUT /v1/kv/a");
    assert_eq!(
        (response.status(), response.header("Retry-After")),
        (429, Some("3"))
    );
    assert!(response.text().contains("proposal queue"));
    client
        .ask("GET /v1/kv/a?dc=nope")
        .assert_text(500, "No path to datacenter");
}

#[test]
fn status() {
    let site = Site::new();
    let mut client = site.connect();
    let response = client.ask("GET /v1/status/leader");
    response.assert_text(200, "\"127.0.0.1:8300\"");
    assert_eq!(response.header("X-Consul-Index"), None);
    client
        .ask("GET /v1/status/leader?dc=empty")
        .assert_text(200, "\"\"");
    client
        .ask("GET /v1/status/leader?dc=nope")
        .assert_text(500, "No path to datacenter");
    client
        .ask("GET /v1/status/peers")
        .assert_text(200, "[\"127.0.0.1:8300\",\"127.0.0.2:8300\"]");
    client.ask("GET /v1/status/peers?dc=empty").assert_text(200, "[]");
    client
        .ask("GET /v1/status/peers?pretty=")
        .assert_text(200, "[\n    \"127.0.0.1:8300\",\n    \"127.0.0.2:8300\"\n]\n");
}

#[test]
fn development_agents_always_indent() {
    let site = Site::with(
        Config {
            always_pretty: true,
            ..Config::default()
        },
        Limits::default(),
    );
    site.ask("PUT /v1/kv/a\n\nx").assert_text(200, "true\n");
    site.ask("GET /v1/kv/?keys").assert_text(200, "[\n    \"a\"\n]\n");
}

#[test]
fn configured_headers_are_on_every_answer_of_an_endpoint() {
    let response_headers =
        [("X-Own", "a b"), ("Vary", "ignored")].map(|(name, value)| (name.into(), value.into()));
    let config = Config {
        response_headers: response_headers.into(),
        ..Config::default()
    };
    let site = Site::with(config, Limits::default());
    for request in [
        "GET /v1/kv/a",
        "OPTIONS /v1/kv/a",
        "POST /v1/kv/a",
        "GET /v1/kv/a?index=zz",
        "PUT /v1/kv/a",
    ] {
        let response = site.ask(request);
        assert_eq!(
            (response.header("X-Own"), response.header("Vary")),
            (Some("a b"), Some("Accept-Encoding"))
        );
    }
    assert_eq!(site.ask("GET /v1/nope").header("X-Own"), None);
}

#[test]
fn gzip_when_asked() {
    use std::io::Read as _;

    let site = Site::new();
    site.memory.set("a", "abc");
    let mut client = site.connect();
    for (request, kind, expected) in [
        ("GET /v1/kv/a?raw", "text/plain", "abc"),
        ("GET /v1/kv/?keys", "application/json", "[\"a\"]"),
        (
            "GET /v1/kv/a?index=zz",
            "text/plain; charset=utf-8",
            "Invalid index",
        ),
    ] {
        let response = client.ask(&format!("{request}\nAccept-Encoding: deflate, gzip"));
        assert_eq!(response.header("Content-Encoding"), Some("gzip"));
        assert_eq!(response.header("Content-Type"), Some(kind));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&response.body[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, expected);
        assert_eq!(
            client
                .ask(&format!("{request}\nAccept-Encoding: gzip;q=0"))
                .text(),
            expected
        );
    }
    let missing = client.ask("GET /v1/kv/none\nAccept-Encoding: gzip");
    assert_eq!(
        (
            missing.header("Content-Encoding"),
            missing.header("Content-Length")
        ),
        (None, Some("0"))
    );
}
