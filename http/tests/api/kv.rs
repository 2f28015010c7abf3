//! Keys and values.

use lictor_http::{Config, Limits};

use crate::support::Site;

const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

#[test]
fn values_come_back() {
    let site = Site::new();
    let mut client = site.connect();
    client.ask("PUT /v1/kv/a?flags=18446744073709551615\nContent-Type: application/x-www-form-urlencoded\n\na=b&c").assert_text(200, "true");
    client.ask("GET /v1/kv/a").assert_text(
        200,
        "[{\"LockIndex\":0,\"Key\":\"a\",\"Flags\":18446744073709551615,\"Value\":\"YT1iJmM=\",\"CreateIndex\":1,\"ModifyIndex\":1}]",
    );
    client.ask("PUT /v1/kv/a").assert_text(200, "true");
    client.ask("GET /v1/kv/a").assert_text(
        200,
        "[{\"LockIndex\":0,\"Key\":\"a\",\"Flags\":0,\"Value\":null,\"CreateIndex\":1,\"ModifyIndex\":2}]",
    );
    let empty = client.ask("GET /v1/kv/a?raw");
    empty.assert_text(200, "");
    assert_eq!(
        (empty.header("Content-Length"), empty.header("Content-Type")),
        (Some("0"), Some("text/plain"))
    );
    client.ask("DELETE /v1/kv/a").assert_text(200, "true");
    client.ask("DELETE /v1/kv/a").assert_text(200, "true");
    assert_eq!(client.ask("GET /v1/kv/a").status(), 404);
}

#[test]
fn bodies_in_chunks() {
    let site = Site::new();
    let mut client = site.connect();
    client.send_raw(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    client.receive(false).assert_text(200, "true");
    client.ask("GET /v1/kv/a?raw").assert_text(200, "abcde");
}

#[test]
fn keys_and_prefixes() {
    let site = Site::new();
    let mut client = site.connect();
    client.ask("GET /v1/kv/?keys").assert_text(200, "[]");
    client.ask("GET /v1/kv/?recurse").assert_text(404, "");
    client.ask("GET /v1/kv/none?keys").assert_text(404, "");
    for key in ["web/", "web/a", "web/b", "web/c/d", "web/c/e", "webx"] {
        client
            .ask(&format!("PUT /v1/kv/{key}\n\nv"))
            .assert_text(200, "true");
    }
    for (target, expected) in [
        ("web/?keys&separator=/", r#"["web/","web/a","web/b","web/c/"]"#),
        (
            "web/?keys&separator=%2F&raw&recurse",
            r#"["web/","web/a","web/b","web/c/"]"#,
        ),
        ("web?keys&separator=/", r#"["web/","webx"]"#),
        ("web?keys&seperator=/", r#"["web/","webx"]"#),
        ("web/?keys&separator=c", r#"["web/","web/a","web/b","web/c"]"#),
        ("web/c?keys=false&separator=", r#"["web/c/d","web/c/e"]"#),
    ] {
        client
            .ask(&format!("GET /v1/kv/{target}"))
            .assert_text(200, expected);
    }
    let listed = client.ask("GET /v1/kv/web/c?recurse=false&raw");
    assert_eq!(listed.text().matches("\"Key\":\"web/c/").count(), 2);
    assert_eq!(listed.index(), 5);
    client
        .ask("DELETE /v1/kv/web/c?recurse=None")
        .assert_text(200, "true");
    client
        .ask("GET /v1/kv/?keys")
        .assert_text(200, r#"["web/","web/a","web/b","webx"]"#);
    client.ask("DELETE /v1/kv/?recurse").assert_text(200, "true");
    client.ask("GET /v1/kv/?keys").assert_text(200, "[]");
}

#[test]
fn strange_keys() {
    let site = Site::new();
    let mut client = site.connect();
    client
        .ask("PUT /v1/kv/a%20b%2Bc+d%3F%3C%26%3E%C3%A7\n\n1")
        .assert_text(200, "true");
    client
        .ask("GET /v1/kv/?keys")
        .assert_text(200, "[\"a b+c+d?\\u003c\\u0026\\u003e\u{e7}\"]");
    client.ask("PUT /v1/kv/x%2Fy\n\n2").assert_text(200, "true");
    client.ask("GET /v1/kv/x/y?raw").assert_text(200, "2");
    site.memory.set_bytes(b"/lead//x", b"3", 0);
    site.memory.set_bytes(b"\xff", b"4", 0);
    client.ask("GET /v1/kv/%ff?raw").assert_text(200, "4");
    assert!(
        client
            .ask("GET /v1/kv/?keys")
            .text()
            .starts_with("[\"/lead//x\",\"a b")
    );
    let lenient = Site::with(
        Config {
            allow_unprintable: true,
            ..Config::default()
        },
        Limits::default(),
    );
    lenient.ask("PUT /v1/kv/a%01b").assert_text(200, "true");
    lenient
        .ask("GET /v1/kv/?keys")
        .assert_text(200, "[\"a\\u0001b\"]");
}

#[test]
fn missing_key_name() {
    let site = Site::new();
    let mut client = site.connect();
    for request in [
        "GET /v1/kv/",
        "GET /v1/kv/?raw",
        "GET /v1/kv/?separator=/",
        "PUT /v1/kv/\n\nx",
        "PUT /v1/kv/?cas=1&acquire=2\n\nx",
        "DELETE /v1/kv/",
        "DELETE /v1/kv/?cas=1",
    ] {
        client.ask(request).assert_text(400, "Missing key name");
    }
}

#[test]
fn conditions() {
    let site = Site::new();
    let mut client = site.connect();
    for (request, expected) in [
        ("PUT /v1/kv/a?cas=0\n\n1", "true"),
        ("PUT /v1/kv/a?cas=0\n\n1", "false"),
        ("PUT /v1/kv/a?cas=1\n\n2", "true"),
        ("PUT /v1/kv/a?cas=1\n\n3", "false"),
        ("DELETE /v1/kv/a?cas=1", "false"),
        ("DELETE /v1/kv/a?cas=0", "false"),
        ("DELETE /v1/kv/a?cas=3", "true"),
        ("DELETE /v1/kv/a?cas=3", "true"),
    ] {
        client.ask(request).assert_text(200, expected);
    }
    client
        .ask(&format!("PUT /v1/kv/a?release={NOBODY}"))
        .assert_text(200, "false");
    for (request, expected) in [
        ("PUT /v1/kv/a?acquire=", "missing session".to_owned()),
        (
            "PUT /v1/kv/a?acquire=x",
            "failed session lookup: index error: UUID must be 36 characters".to_owned(),
        ),
        (
            &format!("PUT /v1/kv/a?acquire={NOBODY}"),
            format!("invalid session \"{NOBODY}\""),
        ),
    ] {
        client.ask(request).assert_text(500, &expected);
    }
}

#[test]
fn conflicts_and_malformed_numbers() {
    let site = Site::new();
    let mut client = site.connect();
    client
        .ask("PUT /v1/kv/foo?cas=1&acquire=a%20b%2f%26&zed=1&zed=2")
        .assert_text(400, "Conflicting flags: acquire=a+b%2F%26&cas=1&zed=1&zed=2");
    client
        .ask("PUT /v1/kv/foo?acquire=x&release=x")
        .assert_text(400, "Conflicting flags: acquire=x&release=x");
    client
        .ask("DELETE /v1/kv/?cas=3&recurse")
        .assert_text(400, "Conflicting flags: cas=3&recurse=");
    for (request, value, why) in [
        ("PUT /v1/kv/a?flags=zz", "zz", "invalid syntax"),
        ("PUT /v1/kv/a?flags=", "", "invalid syntax"),
        ("PUT /v1/kv/a?cas=", "", "invalid syntax"),
        ("PUT /v1/kv/a?cas=-1", "-1", "invalid syntax"),
        ("DELETE /v1/kv/a?cas=x%22", "x\\\"", "invalid syntax"),
        (
            "PUT /v1/kv/a?flags=99999999999999999999",
            "99999999999999999999",
            "value out of range",
        ),
    ] {
        client
            .ask(request)
            .assert_text(500, &format!("strconv.ParseUint: parsing \"{value}\": {why}"));
    }
    assert_eq!(client.ask("GET /v1/kv/a").status(), 404, "nothing was written");
}
