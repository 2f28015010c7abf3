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
fn nodes_services_and_checks() {
    let site = Site::new();
    let mut client = site.connect();
    let node = r#"{"ID":"11111111-1111-1111-1111-111111111111","Node":"tn","Address":"1.2.3.4","Datacenter":"dc1","TaggedAddresses":null,"Meta":{"a":"b"},"CreateIndex":1,"ModifyIndex":1}"#;
    let service = r#"{"ID":"web","Service":"web","Tags":["a"],"Address":"","Meta":null,"Port":80,"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Proxy":{"MeshGateway":{},"Expose":{}},"Connect":{},"CreateIndex":1,"ModifyIndex":1}"#;
    let check = r#"{"Node":"tn","CheckID":"c1","Name":"c1","Status":"passing","Notes":"n","Output":"o","ServiceID":"web","ServiceName":"web","ServiceTags":["a"],"Type":"","Definition":{"Interval":"10s","Timeout":"1s","DeregisterCriticalServiceAfter":"1m0s","HTTP":"http://x","TLSSkipVerify":true,"Header":{"a":["b"]},"Method":"PUT","TCP":"1:2"},"CreateIndex":1,"ModifyIndex":1}"#;
    let write = put(
        r#"[{"Node":{"Verb":"set","Node":{"ID":"11111111-1111-1111-1111-111111111111","Node":"tn","Address":"1.2.3.4","Datacenter":"zz","TaggedAddresses":{},"Meta":{"a":"b"},"CreateIndex":7}}},
            {"Service":{"Verb":"set","Node":"tn","Service":{"Service":"web","Tags":["a"],"Port":80,"Kind":"connect-proxy","Proxy":{"DestinationServiceName":"x"},"Connect":{"Native":true},"TaggedAddresses":{"lan":{"Address":"1","Port":2}},"Weights":{"Passing":0,"Warning":-3}}}},
            {"Check":{"Verb":"set","Check":{"Node":"tn","Name":"c1","Status":"passing","Notes":"n","Output":"o","ServiceID":"web","Type":"zz","ServiceName":"zz","Definition":{"HTTP":"http://x","TCP":"1:2","Method":"PUT","Header":{"a":["b"]},"TLSSkipVerify":true,"Interval":"10s","Timeout":1000000000,"DeregisterCriticalServiceAfter":"1m"}}}}]"#,
    );
    let results = format!(
        r#"{{"Results":[{{"Node":{node}}},{{"Service":{service}}},{{"Check":{check}}}],"Errors":null"#
    );
    client.ask(&write).assert_text(200, &format!("{results}}}"));
    let read = put(
        r#"[{"Node":{"Verb":"get","Node":{"ID":"11111111-1111-1111-1111-111111111111"}}},
            {"Service":{"Verb":"get","Node":"TN","Service":{"ID":"WEB"}}},{"Check":{"Verb":"get","Check":{"Node":"tn","CheckID":"C1"}}}]"#,
    );
    client.ask(&read).assert_text(200, &format!("{results}{READ}"));
    let other = client.ask(&read.replace("/v1/txn", "/v1/txn?dc=dc2"));
    assert!(other.text().contains(r#""Datacenter":"dc2""#), "{}", other.text());
    // What has no tags has none, and a check without a status is critical.
    let bare = client.ask(&put(
        r#"[{"Service":{"Verb":"cas","Node":"tn","Service":{"ID":"w2","Service":"web","Tags":[]}}},{"Check":{"Verb":"cas","Check":{"Node":"tn","CheckID":"c2"}}}]"#,
    ));
    assert!(
        bare.text().contains(r#""Service":"web","Tags":null,"#),
        "{}",
        bare.text()
    );
    assert!(
        bare.text()
            .contains(r#""CheckID":"c2","Name":"","Status":"critical""#)
    );
    assert!(
        bare.text()
            .contains(r#""ServiceTags":null,"Type":"","Definition":{},"#)
    );
    let gone = client.ask(&put(
        r#"[{"Check":{"Verb":"delete","Check":{"Node":"tn","Name":"c1"}}},{"Check":{"Verb":"delete-cas","Check":{"Node":"tn","CheckID":"c2","ModifyIndex":2}}},
            {"Service":{"Verb":"delete","Node":"tn","Service":{"Service":"web"}}},{"Service":{"Verb":"delete-cas","Node":"tn","Service":{"ID":"w2","Service":"web","ModifyIndex":2}}},
            {"Node":{"Verb":"delete-cas","Node":{"Node":"tn","ModifyIndex":1}}},{"Node":{"Verb":"delete","Node":{"Node":"tn"}}}]"#,
    ));
    gone.assert_text(200, r#"{"Results":[],"Errors":null}"#);
    client.ask("GET /v1/catalog/nodes").assert_text(200, "[]");
}

/// A transaction, the operations that are refused with the reasons, and how the answer ends.
type Refused<'a> = (&'a str, &'a [(u64, &'a str)], &'a str);

#[test]
fn what_is_wrong_with_nodes_services_and_checks() {
    let site = Site::new();
    let mut client = site.connect();
    client.ask(&put(r#"[{"Node":{"Verb":"set","Node":{"Node":"tn"}}}]"#));
    let conflict = |errors: &[(u64, &str)], end: &str| {
        let errors: Vec<String> = errors
            .iter()
            .map(|(op, what)| {
                format!(
                    r#"{{"OpIndex":{op},"What":{}}}"#,
                    serde_json::to_string(what).unwrap()
                )
            })
            .collect();
        format!(r#"{{"Results":null,"Errors":[{}]{end}"#, errors.join(","))
    };
    let refused: [Refused<'_>; 9] = [
        (
            r#"[{"Node":{"Verb":"set","Node":{}}},{"Node":{"Verb":"delete","Node":{"ID":"11111111-1111-1111-1111-111111111111"}}},{"Node":{}},
                {"Node":{"Verb":"set","Node":{"ID":"x","Node":"q"}}},{"Service":{"Verb":"delete","Node":"tn","Service":{"ID":"web"}}},
                {"Service":{"Verb":"set","Node":"tn","Service":{"Service":"w","Address":"0.0.0.0"}}},{"KV":{"Verb":"zz"}},
                {"Check":{"Verb":"set","Check":{"Node":"tn","CheckID":"c","Status":"bogus"}}},{"Node":{"Verb":"zz","Node":{"Node":"tn"}}}]"#,
            &[
                (0, "Must provide node"),
                (1, "Must provide node"),
                (2, "Must provide node"),
                (3, "Bad node ID: uuid string is wrong length"),
                (4, "Must provide service name with ID"),
                (5, "Invalid service address"),
                (6, "Must provide key"),
                (
                    7,
                    "invalid check status \"bogus\": not a status: it must be passing, warning or critical",
                ),
            ],
            "}",
        ),
        (
            r#"[{"Node":{"Verb":"zz","Node":{"Node":"tn"}}},{"Service":{"Verb":"","Node":"tn","Service":{"Service":"a"}}},{"Check":{}}]"#,
            &[
                (0, "unknown Node verb \"zz\""),
                (1, "unknown Service verb \"\""),
                (2, "unknown Check verb \"\""),
            ],
            "}",
        ),
        (
            r#"[{"Node":{"Verb":"get","Node":{"Node":"nope"}}},{"Service":{"Verb":"get","Node":"tn","Service":{"Service":"web"}}},{"Check":{"Verb":"get","Check":{"CheckID":"c"}}},
                {"Node":{"Verb":"get","Node":{"ID":"22222222-1111-1111-1111-111111111111","Node":"tn"}}}]"#,
            &[
                (0, "node \"nope\" doesn't exist"),
                (1, "service \"\" on node \"tn\" doesn't exist"),
                (2, "check \"c\" on node \"\" doesn't exist"),
                (3, "node \"tn\" doesn't exist"),
            ],
            READ,
        ),
        (
            r#"[{"Node":{"Verb":"get","Node":{"ID":"x"}}}]"#,
            &[(
                0,
                "node lookup by ID failed, wrong UUID: uuid string is wrong length for 'x'",
            )],
            READ,
        ),
        (
            r#"[{"Node":{"Verb":"get","Node":{"Node":"zzz"}},"KV":{"Verb":"get","Key":"zzz"}}]"#,
            &[(0, "key \"zzz\" doesn't exist")],
            READ,
        ),
        (
            r#"[{"Service":{"Verb":"set","Service":{"Service":"web"}}},{"Service":{"Verb":"set","Node":"tn","Service":{}}},{"Check":{"Verb":"set","Check":{"Node":"tn"}}},
                {"Check":{"Verb":"set","Check":{"Node":"tn","CheckID":"c","ServiceID":"nope"}}}]"#,
            &[
                (0, "Missing node registration"),
                (1, "failed inserting service: object missing primary index"),
                (2, "failed inserting check: object missing primary index"),
                (3, "Missing service registration"),
            ],
            "}",
        ),
        (
            r#"[{"Node":{"Verb":"cas","Node":{"Node":"tn","Address":"5"}}},{"Service":{"Verb":"delete-cas","Node":"tn","Service":{"Service":"web","ModifyIndex":3}}}]"#,
            &[
                (0, "failed to set node \"tn\", index is stale"),
                (
                    1,
                    "failed to delete service \"web\" on node \"tn\", index is stale",
                ),
            ],
            "}",
        ),
        (
            r#"[{"Node":null},{"Service":{}}]"#,
            &[(0, "unknown Service verb \"\"")],
            "}",
        ),
        (
            r#"[{"KV":{"Verb":"set","Key":"k"}},{"Node":{"Verb":"delete","Node":{"Node":"tn"}}},{"Node":{"Verb":"get","Node":{"Node":"tn"}}}]"#,
            &[(2, "node \"tn\" doesn't exist")],
            "}",
        ),
    ];
    for (body, errors, end) in refused {
        client.ask(&put(body)).assert_text(409, &conflict(errors, end));
    }
    client.ask("GET /v1/kv/?keys").assert_text(200, "[]");
    let field = "json: cannot unmarshal";
    for (body, why) in [
        (
            r#"[{"Session":{"Verb":"delete"}}]"#,
            "json: unknown field \"Session\"".to_owned(),
        ),
        (
            r#"[{"Node":{"Verb":"set","Node":{"Node":"a","Bogus":1}}}]"#,
            "json: unknown field \"Bogus\"".to_owned(),
        ),
        (
            r#"[{"Service":{"Verb":"set","Node":"tn","Bogus":1}}]"#,
            "json: unknown field \"Bogus\"".to_owned(),
        ),
        (
            r#"[{"Node":{"Verb":5}}]"#,
            format!("{field} number into Go struct field NodeTxnOp.Node.Verb of type api.NodeOp"),
        ),
        (
            r#"[{"Service":{"Verb":"get","Node":5}}]"#,
            format!("{field} number into Go struct field ServiceTxnOp.Service.Node of type string"),
        ),
        (
            r#"[{"Service":[]}]"#,
            format!("{field} array into Go struct field TxnOp.Service of type api.ServiceTxnOp"),
        ),
        (
            r#"[{"Check":{"Verb":"get","Check":5}}]"#,
            format!("{field} number into Go struct field CheckTxnOp.Check.Check of type api.HealthCheck"),
        ),
    ] {
        client
            .ask(&put(body))
            .assert_text(400, &format!("Failed to parse body: {why}"));
    }
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
