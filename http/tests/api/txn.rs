//! Transactions.

use lictor_http::{Config, Limits};

use crate::support::Site;

const READ: &str = r#","Index":0,"LastContact":0,"KnownLeader":true,"ConsistencyLevel":""}"#;

fn put(body: &str) -> String {
    format!("PUT /v1/txn\n\n{body}")
}

#[test]
fn writes() {
    let site = Site::new();
    let mut client = site.connect();
    let response = client.ask(&put(
        r#"[{"KV":{"Verb":"set","Key":"tx/1","Value":"YWJj","Flags":3}},{"kv":{"VERB":"get","key":"tx/1","index":null}},
            {"KV":{"Verb":"check-not-exists","Key":"zz"}},{},{"KV":null}] garbage"#,
    ));
    response.assert_text(
        200,
        r#"{"Results":[{"KV":{"LockIndex":0,"Key":"tx/1","Flags":3,"Value":null,"CreateIndex":1,"ModifyIndex":1}},{"KV":{"LockIndex":0,"Key":"tx/1","Flags":3,"Value":"YWJj","CreateIndex":1,"ModifyIndex":1}}],"Errors":null}"#,
    );
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    for header in ["X-Consul-Index", "X-Consul-Knownleader", "X-Consul-Lastcontact"] {
        assert_eq!(response.header(header), None);
    }
    // Writes do not even look at the options of reads.
    let ignored =
        client.ask("PUT /v1/txn?index=zz&stale&consistent\n\n[{\"KV\":{\"Verb\":\"delete\",\"Key\":\"a\"}}]");
    ignored.assert_text(200, r#"{"Results":[],"Errors":null}"#);
}

#[test]
fn reads() {
    let site = Site::new();
    site.memory.set("foo", "bar");
    let mut client = site.connect();
    let response = client.ask(&put(r#"[{"KV":{"Verb":"get","Key":"foo"}}]"#));
    response.assert_text(
        200,
        &format!(
            r#"{{"Results":[{{"KV":{{"LockIndex":0,"Key":"foo","Flags":0,"Value":"YmFy","CreateIndex":1,"ModifyIndex":1}}}}],"Errors":null{READ}"#
        ),
    );
    assert_eq!(response.header("X-Consul-Knownleader"), Some("true"));
    assert_eq!(response.header("X-Consul-Lastcontact"), Some("0"));
    assert_eq!(response.header("X-Consul-Index"), None);
    for nothing in [
        "[]",
        "null",
        "[{}]",
        "[null]",
        r#"[{"KV":{"Verb":"get-tree","Key":"zz"}}]"#,
    ] {
        client
            .ask(&put(nothing))
            .assert_text(200, &format!(r#"{{"Results":[],"Errors":null{READ}"#));
    }
    client
        .ask("PUT /v1/txn?index=zz\n\n[]")
        .assert_text(400, "Invalid index");
    client.ask("PUT /v1/txn?index=7\n\n[]");
    assert_eq!(
        site.memory
            .last_read
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .min_index
            .0,
        0,
        "never blocks"
    );
}

#[test]
fn every_verb_is_known() {
    let site = Site::new();
    let mut client = site.connect();
    let session = "00000000-0000-0000-0000-000000000000";
    for (verb, status) in [
        ("set", 200),
        ("cas", 409),
        ("lock", 409),
        ("unlock", 409),
        ("get", 200),
        ("get-or-empty", 200),
        ("get-tree", 200),
        ("check-index", 409),
        ("check-session", 409),
        ("check-not-exists", 409),
        ("delete-cas", 409),
        ("delete", 200),
        ("delete-tree", 200),
    ] {
        let op = format!(r#"[{{"KV":{{"Verb":"{verb}","Key":"a","Index":99,"Session":"{session}"}}}}]"#);
        let response = client.ask(&put(&op));
        assert_eq!(response.status(), status, "{verb}: {}", response.text());
        assert!(!response.text().contains("unknown"), "{verb}");
    }
}

#[test]
fn failed_operations() {
    let site = Site::new();
    let mut client = site.connect();
    let conflict = |errors: &str, end: &str| format!(r#"{{"Results":null,"Errors":[{errors}]{end}"#);
    for (body, errors, end) in [
        (
            r#"[{"KV":{"Verb":"set","Key":"a"}},{"KV":{"Verb":"get","Key":"nope"}},{"KV":{"Verb":"check-index","Key":"a","Index":3}}]"#,
            r#"{"OpIndex":1,"What":"key \"nope\" doesn't exist"},{"OpIndex":2,"What":"failed index check for key \"a\", current modify index 1 != 3"}"#,
            "}",
        ),
        (
            r#"[{"KV":{"Verb":"get","Key":"<"}}]"#,
            r#"{"OpIndex":0,"What":"key \"\u003c\" doesn't exist"}"#,
            READ,
        ),
        (
            r#"[{"KV":{}}]"#,
            r#"{"OpIndex":0,"What":"Must provide key"}"#,
            READ,
        ),
        (
            r#"[{"KV":{"Verb":"zap","Key":"a"}}]"#,
            r#"{"OpIndex":0,"What":"unknown KV verb \"zap\""}"#,
            READ,
        ),
        (
            r#"[{"KV":{"Verb":"zap"}},{},{"KV":{"Verb":"set"}},{"KV":{"Verb":"zap","Key":"a"}}]"#,
            r#"{"OpIndex":0,"What":"Must provide key"},{"OpIndex":1,"What":"Must provide key"}"#,
            "}",
        ),
        (
            r#"[{"KV":{"Verb":"delete-tree"}},{"KV":{"Verb":"get-tree"}}]"#,
            r#"{"OpIndex":1,"What":"Must provide key"}"#,
            "}",
        ),
    ] {
        let response = client.ask(&put(body));
        response.assert_text(409, &conflict(errors, end));
        assert_eq!(response.header("Content-Type"), Some("application/json"));
    }
    client.ask("GET /v1/kv/?keys").assert_text(200, "[]");
}

#[test]
fn malformed_bodies() {
    let site = Site::new();
    let mut client = site.connect();
    let field = "json: cannot unmarshal";
    for (body, why) in [
        ("", "EOF".to_owned()),
        ("{}", format!("{field} object into Go value of type api.TxnOps")),
        ("[5]", format!("{field} number into Go value of type api.TxnOp")),
        (
            r#"[{"KV":[]}]"#,
            format!("{field} array into Go struct field TxnOp.KV of type api.KVTxnOp"),
        ),
        (
            r#"[{"KV":{"Verb":true}}]"#,
            format!("{field} bool into Go struct field KVTxnOp.KV.Verb of type api.KVOp"),
        ),
        (
            r#"[{"KV":{"Key":5}}]"#,
            format!("{field} number into Go struct field KVTxnOp.KV.Key of type string"),
        ),
        (
            r#"[{"KV":{"Flags":-5}}]"#,
            format!("{field} number -5 into Go struct field KVTxnOp.KV.Flags of type uint64"),
        ),
        (
            r#"[{"KV":{"Value":5}}]"#,
            format!("{field} number into Go struct field KVTxnOp.KV.Value of type []uint8"),
        ),
        (
            r#"[{"KV":{"Verb":"set","Key":"a","Value":"YmF"}}]"#,
            "illegal base64 data at input byte 0".to_owned(),
        ),
        (r#"[{"Bogus":1}]"#, "json: unknown field \"Bogus\"".to_owned()),
        (
            r#"[{"KV":{"Verb":"set","Key":"a","Bogus":{}}}]"#,
            "json: unknown field \"Bogus\"".to_owned(),
        ),
        (r#"[{"KV":{"Verb":"set""#, "unexpected EOF".to_owned()),
    ] {
        client
            .ask(&put(body))
            .assert_text(400, &format!("Failed to parse body: {why}"));
    }
    assert!(
        client
            .ask(&put("[x]"))
            .text()
            .starts_with("Failed to parse body: invalid JSON: ")
    );
    client.ask(&put(r#"[{"KV":{"Verb":"set","Key":"a","Namespace":"x"}}]"#)).assert_text(
        200,
        r#"{"Results":[{"KV":{"LockIndex":0,"Key":"a","Flags":0,"Value":null,"CreateIndex":1,"ModifyIndex":1}}],"Errors":null}"#,
    );
}

#[test]
fn what_is_not_supported_is_refused() {
    let site = Site::new();
    for kind in ["Node", "Service", "Check"] {
        let body = format!(r#"[{{"KV":{{"Verb":"set","Key":"a"}}}},{{"{kind}":{{"Verb":"get"}}}}]"#);
        let response = site.ask(&put(&body));
        assert_eq!(response.status(), 400);
        assert!(
            response
                .text()
                .contains(&format!("is on a {kind}, which is not supported yet"))
        );
    }
    site.ask("GET /v1/kv/?keys").assert_text(200, "[]");
}

#[test]
fn limits() {
    let config = Config {
        kv_max_value_size: 1000,
        txn_max_req_len: 10_000,
        ..Config::default()
    };
    let site = Site::with(config, Limits::default());
    let op = r#"{"KV":{"Verb":"get","Key":"a"}}"#;
    let many = |count| put(&format!("[{}]", vec![op; count].join(",")));
    assert_eq!(site.ask(&many(64)).status(), 409);
    site.ask(&many(65))
        .assert_text(413, "Transaction contains too many operations (65 > 64)");
    let value = |length: usize| {
        // Four letters of base64 are three bytes.
        put(&format!(
            r#"[{{"KV":{{"Verb":"set","Key":"m","Value":"{}"}}}}]"#,
            "YWFh".repeat(length / 3)
        ))
    };
    assert_eq!(site.ask(&value(999)).status(), 200);
    site.ask(&value(1002))
        .assert_text(413, "Value for key \"m\" is too large (1002 > 1000 bytes)");
    let long = put(&" ".repeat(10_001));
    site.ask(&long).assert_text(
        413,
        "Request body(10001 bytes) too large, max size: 10000 bytes. See https://www.consul.io/docs/agent/options.html#txn_max_req_len.",
    );
}
