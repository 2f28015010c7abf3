//! Sessions, locks, fences, and changes that happen once.

use std::time::Duration;

use lictor_http::{Config, Limits};
use serde_json::{Value, json};

use crate::support::{Client, Response, Site};

/// A site whose catalog has the agent's own node, with the check that sessions depend on, and another check.
fn site() -> Site {
    let site = Site::new();
    let registered = site.ask(
        "PUT /v1/catalog/register\n\n{\"Node\":\"n1\",\"Address\":\"1.1.1.1\",\"Checks\":[\
         {\"Node\":\"n1\",\"CheckID\":\"serfHealth\",\"Status\":\"passing\"},{\"Node\":\"n1\",\"CheckID\":\"ck1\",\"Status\":\"warning\"},\
         {\"Node\":\"n1\",\"CheckID\":\"bad\",\"Status\":\"critical\"}]}",
    );
    registered.assert_text(200, "true");
    site
}

fn json(response: &Response) -> Value {
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    serde_json::from_slice(&response.body).unwrap()
}

fn create(site: &Site, body: &str) -> String {
    let made = json(&site.ask(&format!("PUT /v1/session/create\n\n{body}")));
    let id = made["ID"].as_str().unwrap().to_owned();
    assert_eq!(made, json!({ "ID": id }));
    id
}

/// A session as it is told, without its name and indexes.
fn told(site: &Site, body: &str) -> Value {
    let id = create(site, body);
    let info = site.ask(&format!("GET /v1/session/info/{id}"));
    let mut found = json(&info);
    let session = found[0].as_object_mut().unwrap();
    assert_eq!(session.remove("ID"), Some(id.into()));
    let created = session.remove("CreateIndex").unwrap();
    assert_eq!(session.remove("ModifyIndex").unwrap(), created);
    assert_eq!(info.index(), created.as_u64().unwrap());
    Value::Object(std::mem::take(session))
}

#[test]
fn a_session_has_its_members_in_their_order() {
    let site = site();
    let id = create(&site, "{}");
    let expected = format!(
        "[{{\"ID\":\"{id}\",\"Name\":\"\",\"Node\":\"n1\",\"LockDelay\":15000000000,\"Behavior\":\"release\",\"TTL\":\"\",\
         \"NodeChecks\":[\"serfHealth\"],\"ServiceChecks\":null,\"CreateIndex\":2,\"ModifyIndex\":2}}]"
    );
    for target in [
        &format!("info/{id}"),
        &format!("info/{}", id.to_uppercase()),
        "node/N1",
        "list",
    ] {
        let found = site.ask(&format!("GET /v1/session/{target}"));
        found.assert_text(200, &expected);
        assert_eq!(found.index(), 2);
        assert_eq!(found.header("X-Consul-Knownleader"), Some("true"));
        assert_eq!(found.header("X-Consul-Effective-Consistency"), None);
    }
    let renewed = site.ask(&format!("PUT /v1/session/renew/{id}"));
    renewed.assert_text(200, &expected);
    assert_eq!(renewed.header("X-Consul-Index"), None);
    let full = create(
        &site,
        r#"{"name":"x","LOCKDELAY":"5s","Behavior":"delete","TTL":"15.5s","NodeChecks":["serfHealth"],
            "ServiceChecks":[{"ID":"ck1","Namespace":"z"}],"Checks":["ck1"],"ID":"zz","Bogus":1,"CreateIndex":7}"#,
    );
    site.ask(&format!("GET /v1/session/info/{full}")).assert_text(
        200,
        &format!(
            "[{{\"ID\":\"{full}\",\"Name\":\"x\",\"Node\":\"n1\",\"LockDelay\":5000000000,\"Behavior\":\"delete\",\"TTL\":\"15.5s\",\
             \"NodeChecks\":[\"serfHealth\"],\"ServiceChecks\":[{{\"ID\":\"ck1\",\"Namespace\":\"z\"}}],\"Checks\":[\"ck1\"],\
             \"CreateIndex\":3,\"ModifyIndex\":3}}]"
        ),
    );
    let listed = json(&site.ask("GET /v1/session/list"));
    let ids: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["ID"].as_str().unwrap())
        .collect();
    assert!(ids.len() == 2 && ids.is_sorted(), "{ids:?}");
}

#[test]
fn what_is_not_said_has_its_default_and_what_is_has_its_quirks() {
    let site = site();
    let usual = json!({
        "Name": "", "Node": "n1", "LockDelay": 15_000_000_000_u64, "Behavior": "release", "TTL": "",
        "NodeChecks": ["serfHealth"], "ServiceChecks": null,
    });
    for body in [
        "{}",
        "null",
        r#"{"Behavior":"","Node":""}"#,
        r#"{"Checks":["serfHealth"]}"#,
        r#"{"LockDelay":null}"#,
    ] {
        assert_eq!(told(&site, body), usual, "{body}");
    }
    for (body, member, expected) in [
        (r#"{"NodeChecks":[]}"#, "NodeChecks", json!([])),
        (r#"{"NodeChecks":null}"#, "NodeChecks", json!(null)),
        (r#"{"Checks":[]}"#, "NodeChecks", json!([])),
        (r#"{"Checks":null}"#, "NodeChecks", json!([])),
        (
            r#"{"Checks":[],"NodeChecks":["serfHealth"]}"#,
            "NodeChecks",
            json!([]),
        ),
        (
            r#"{"Checks":["serfHealth"],"NodeChecks":[]}"#,
            "NodeChecks",
            json!([]),
        ),
        (
            r#"{"Checks":["serfHealth","serfHealth"]}"#,
            "Checks",
            json!(["serfHealth", "serfHealth"]),
        ),
        (r#"{"Checks":["ck1"]}"#, "NodeChecks", json!(["serfHealth"])),
        (r#"{"ServiceChecks":[]}"#, "ServiceChecks", json!([])),
        (r#"{"LockDelay":5}"#, "LockDelay", json!(5_000_000_000_u64)),
        (r#"{"LockDelay":1000}"#, "LockDelay", json!(1000)),
        (r#"{"LockDelay":1.5}"#, "LockDelay", json!(1_000_000_000)),
        (
            r#"{"LockDelay":"999ns"}"#,
            "LockDelay",
            json!(999_000_000_000_u64),
        ),
        (r#"{"LockDelay":"0s"}"#, "LockDelay", json!(0)),
        (r#"{"LockDelay":true}"#, "LockDelay", json!(0)),
        (
            r#"{"LockDelay":"-1s"}"#,
            "LockDelay",
            json!(-1_000_000_000_000_000_000_i64),
        ),
        (
            r#"{"LockDelay":"-20s"}"#,
            "LockDelay",
            json!(-1_553_255_926_290_448_384_i64),
        ),
        (r#"{"TTL":"0s"}"#, "TTL", json!("0s")),
        (r#"{"TTL":"0"}"#, "TTL", json!("0")),
        (r#"{"TTL":"24h"}"#, "TTL", json!("24h")),
        (r#"{"Node":"N1"}"#, "Node", json!("N1")),
    ] {
        assert_eq!(told(&site, body)[member], expected, "{body}");
    }
    // Without a body, and with one of which nobody says how long it is.
    let mut client = site.connect();
    assert_eq!(client.ask("PUT /v1/session/create").status(), 200);
    client.send_raw(b"PUT /v1/session/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nzzzz\r\n0\r\n\r\n");
    assert_eq!(client.receive(false).status(), 200);
}

#[test]
fn what_makes_no_session() {
    let site = site();
    let between = "must be between [10s=24h0m0s]";
    let decode = "Request decode failed:";
    let field = "json: cannot unmarshal";
    for (body, status, why) in [
        (r#"{"Node":"nope"}"#, 500, "Missing node registration".to_owned()),
        (
            r#"{"NodeChecks":["nope"]}"#,
            500,
            "Missing check 'nope' registration".to_owned(),
        ),
        (
            r#"{"NodeChecks":[""]}"#,
            500,
            "Missing check '' registration".to_owned(),
        ),
        (
            r#"{"ServiceChecks":[{"Bogus":1}]}"#,
            500,
            "Missing check '' registration".to_owned(),
        ),
        (
            r#"{"NodeChecks":["bad"]}"#,
            500,
            "Check 'bad' is in critical state".to_owned(),
        ),
        (
            r#"{"Behavior":"foo","TTL":"zz","Node":"nope"}"#,
            500,
            "Invalid Behavior setting 'foo'".to_owned(),
        ),
        (
            r#"{"TTL":"zz","Node":"nope"}"#,
            500,
            "Session TTL 'zz' invalid: time: invalid duration \"zz\"".to_owned(),
        ),
        (
            r#"{"TTL":"5s"}"#,
            500,
            format!("Invalid Session TTL '5000000000', {between}"),
        ),
        (
            r#"{"TTL":"25h"}"#,
            500,
            format!("Invalid Session TTL '90000000000000', {between}"),
        ),
        (
            r#"{"TTL":"-15s"}"#,
            500,
            format!("Invalid Session TTL '-15000000000', {between}"),
        ),
        (
            r#"{"TTL":15}"#,
            400,
            format!("{decode} {field} number into Go struct field .TTL of type string"),
        ),
        (
            r#"{"Name":5}"#,
            400,
            format!("{decode} {field} number into Go struct field .Name of type string"),
        ),
        (
            r#"{"ServiceChecks":["serfHealth"]}"#,
            400,
            format!(
                "{decode} {field} string into Go struct field .ServiceChecks of type structs.ServiceCheck"
            ),
        ),
        (
            r#"{"ServiceChecks":{}}"#,
            400,
            format!(
                "{decode} {field} object into Go struct field .ServiceChecks of type []structs.ServiceCheck"
            ),
        ),
        (
            r#"{"Checks":5}"#,
            400,
            format!("{decode} {field} number into Go struct field .Checks of type []types.CheckID"),
        ),
        (
            r#"{"NodeChecks":"x"}"#,
            400,
            format!("{decode} {field} string into Go struct field .NodeChecks of type []string"),
        ),
        (
            "[]",
            400,
            format!(
                "{decode} {field} array into Go value of type struct {{ LockDelay interface {{}}; *structs.Alias }}"
            ),
        ),
        (r#"{"name":"a""#, 400, format!("{decode} unexpected EOF")),
        (
            r#"{"LockDelay":"abc"}"#,
            400,
            format!("{decode} time: invalid duration \"abc\""),
        ),
    ] {
        let response = site.ask(&format!("PUT /v1/session/create\n\n{body}"));
        response.assert_text(status, &why);
        assert_eq!(response.header("X-Consul-Index"), None);
    }
    site.ask("GET /v1/session/list").assert_text(200, "[]");
    let short = Config {
        session_ttl_min: Duration::from_secs(1),
        ..Config::default()
    };
    let lenient = Site::with(short, Limits::default());
    lenient
        .ask("PUT /v1/session/create\n\n{\"TTL\":\"2s\"}")
        .assert_text(500, "Missing node registration");
}

#[test]
fn names_of_sessions() {
    let site = site();
    let nobody = "00000000-0000-0000-0000-000000000000";
    let malformed = "failed session lookup: index error: UUID must be 36 characters";
    for (request, status, text) in [
        (
            "PUT /v1/session/destroy/".to_owned(),
            400,
            "Missing session".to_owned(),
        ),
        ("PUT /v1/session/destroy/x".to_owned(), 500, malformed.to_owned()),
        (
            format!("PUT /v1/session/destroy/{nobody}"),
            200,
            "true".to_owned(),
        ),
        (
            "PUT /v1/session/destroy/x?index=zz".to_owned(),
            500,
            malformed.to_owned(),
        ),
        (
            "PUT /v1/session/renew/".to_owned(),
            400,
            "Missing session".to_owned(),
        ),
        ("PUT /v1/session/renew/x".to_owned(), 500, malformed.to_owned()),
        (
            format!("PUT /v1/session/renew/{nobody}"),
            404,
            format!("Session id '{nobody}' not found"),
        ),
        (
            format!("PUT /v1/session/renew/{nobody}?index=zz"),
            400,
            "Invalid index".to_owned(),
        ),
        (
            "GET /v1/session/info/".to_owned(),
            400,
            "Missing session".to_owned(),
        ),
        ("GET /v1/session/info/x".to_owned(), 500, malformed.to_owned()),
        (format!("GET /v1/session/info/{nobody}"), 200, "[]".to_owned()),
        (
            "GET /v1/session/info/000000000000000000000000000000000000".to_owned(),
            200,
            "[]".to_owned(),
        ),
        (
            "GET /v1/session/node/".to_owned(),
            400,
            "Missing node name".to_owned(),
        ),
        ("GET /v1/session/node/nope".to_owned(), 200, "[]".to_owned()),
        ("GET /v1/session/list".to_owned(), 200, "[]".to_owned()),
    ] {
        site.ask(&request).assert_text(status, &text);
    }
    let unknown = site.ask("GET /v1/session/info/x");
    assert_eq!(
        (unknown.index(), unknown.header("X-Consul-Knownleader")),
        (1, Some("false"))
    );
    let namespaces = "Namespaces are a Consul Enterprise feature";
    for request in [
        "PUT /v1/session/create?ns=x",
        "PUT /v1/session/destroy/x?ns=x",
        "PUT /v1/session/renew/x?ns=x",
        "GET /v1/session/info/x?ns=x",
        "GET /v1/session/list?ns=x",
    ] {
        let response = site.ask(request);
        assert_eq!(response.status(), 400);
        assert!(response.text().ends_with(namespaces));
    }
    assert_eq!(site.ask("GET /v1/session/create").status(), 405);
    assert_eq!(site.ask("GET /v1/session/list/").status(), 404);
    let far = site.ask("GET /v1/session/list?dc=dc2");
    far.assert_text(500, "No path to datacenter");
    assert_eq!(far.index(), 1);
}

#[test]
fn a_lock_is_taken_given_back_and_freed() {
    let site = site();
    let (mine, other) = (create(&site, "{}"), create(&site, r#"{"LockDelay":0}"#));
    let mut client = site.connect();
    let mut put = |target: &str, expected: &str| {
        client
            .ask(&format!("PUT /v1/kv/l?{target}\n\nv"))
            .assert_text(200, expected);
    };
    put(&format!("acquire={other}&flags=3"), "true");
    put(&format!("acquire={other}&flags=3"), "true");
    put(&format!("acquire={mine}"), "false");
    put(&format!("release={mine}"), "false");
    let locked = format!(
        "[{{\"LockIndex\":1,\"Key\":\"l\",\"Flags\":3,\"Value\":\"dg==\",\"Session\":\"{other}\",\"CreateIndex\":4,\"ModifyIndex\":4}}]"
    );
    site.ask("GET /v1/kv/l").assert_text(200, &locked);
    put(&format!("release={other}"), "true");
    put(&format!("acquire={mine}"), "true");
    let conflict = site.ask("PUT /v1/kv/l?acquire=x&cas=0");
    assert_eq!(conflict.status(), 400);
    site.ask(&format!("PUT /v1/session/destroy/{mine}"))
        .assert_text(200, "true");
    site.ask(&format!("PUT /v1/session/destroy/{mine}"))
        .assert_text(200, "true");
    let freed = json(&site.ask("GET /v1/kv/l"));
    assert_eq!(
        (&freed[0]["Session"], &freed[0]["LockIndex"]),
        (&Value::Null, &json!(2))
    );
    // For fifteen seconds nobody gets it.
    let mut client = site.connect();
    client
        .ask(&format!("PUT /v1/kv/l?acquire={other}\n\nv"))
        .assert_text(200, "false");
    let txn = format!(r#"[{{"KV":{{"Verb":"lock","Key":"l","Session":"{other}"}}}}]"#);
    client.ask(&format!("PUT /v1/txn\n\n{txn}")).assert_text(
        409,
        r#"{"Results":null,"Errors":[{"OpIndex":0,"What":"failed to lock key \"l\" due to lock delay"}]}"#,
    );
}

#[test]
fn whoever_waits_for_a_session_hears_of_its_end() {
    let site = site();
    let id = create(&site, "{}");
    let index = site.ask(&format!("GET /v1/session/info/{id}")).index();
    let mut waiting = site.connect();
    waiting.send(&format!("GET /v1/session/info/{id}?index={index}&wait=30s"));
    crate::support::eventually("it waits", || {
        site.memory.waiting.load(std::sync::atomic::Ordering::SeqCst) == 1
    });
    create(&site, "{}");
    site.ask(&format!("PUT /v1/session/destroy/{id}"));
    let woken = waiting.receive(false);
    woken.assert_text(200, "[]");
    assert!(woken.index() > index);
}

#[test]
fn fences_are_given_to_those_who_ask() {
    let site = site();
    let id = create(&site, "{}");
    let mut client = site.connect();
    client.ask(&format!("PUT /v1/kv/l?acquire={id}"));
    client.ask("PUT /v1/kv/plain");
    for target in ["l", "l?recurse", "?recurse"] {
        let plain = client.ask(&format!("GET /v1/kv/{target}"));
        assert!(!plain.text().contains("Fence"), "{}", plain.text());
    }
    let fence_of = |response: &Response| json(response)[0]["LictorFence"].as_u64().unwrap();
    let fence = fence_of(&client.ask("GET /v1/kv/l?fence"));
    assert_eq!(fence_of(&client.ask("GET /v1/kv/l?recurse&fence")), fence);
    assert!(fence >= 3);
    let unlocked = json(&client.ask("GET /v1/kv/plain?fence"));
    assert_eq!(unlocked[0].get("LictorFence"), None);
    let guarded = |client: &mut Client<_>, fence: u64| {
        client.ask(&format!(
            r#"PUT /v1/txn?fence

[{{"KV":{{"Verb":"check-fence","Key":"l","Index":{fence}}}}},{{"KV":{{"Verb":"set","Key":"data"}}}}]"#
        ))
    };
    let written = json(&guarded(&mut client, fence));
    assert_eq!(written["Results"][0]["KV"]["LictorFence"], json!(fence));
    assert_eq!(written["Results"][1]["KV"].get("LictorFence"), None);
    client.ask(&format!("PUT /v1/kv/l?release={id}"));
    client.ask(&format!("PUT /v1/kv/l?acquire={id}"));
    let late = guarded(&mut client, fence);
    assert_eq!(late.status(), 409);
    assert!(
        late.text().contains("failed fence check for key"),
        "{}",
        late.text()
    );
    let reading = client.ask(&format!(
        r#"PUT /v1/txn

[{{"KV":{{"Verb":"check-fence","Key":"l","Index":{fence}}}}}]"#
    ));
    assert!(
        reading.text().contains("\"KnownLeader\":true"),
        "it reads, and no more"
    );
}

#[test]
fn a_change_with_a_key_is_made_once() {
    let site = site();
    let mut client = site.connect();
    let keyed =
        |key: &str, request: &str, body: &str| format!("{request}\nLictor-Idempotency-Key: {key}\n\n{body}");
    let cas = keyed("k1", "PUT /v1/kv/a?cas=0", "v");
    client.ask(&cas).assert_text(200, "true");
    client.ask("DELETE /v1/kv/a").assert_text(200, "true");
    client.ask(&cas).assert_text(200, "true");
    assert_eq!(client.ask("GET /v1/kv/a").status(), 404, "it was not made again");
    // Another key, another token: another change.
    client
        .ask(&keyed("k2", "PUT /v1/kv/a?cas=0", "v"))
        .assert_text(200, "true");
    client
        .ask(&keyed("k1", "PUT /v1/kv/a?cas=0&token=t", "v"))
        .assert_text(200, "false");
    let reused = client.ask(&keyed("k1", "PUT /v1/kv/a?cas=0", "w"));
    reused.assert_text(
        409,
        "the idempotency key was used for another request before: each needs its own",
    );
    // A session is made once, and has its first name.
    let session = keyed("k3", "PUT /v1/session/create", "{}");
    let first = json(&client.ask(&session));
    assert_eq!(json(&client.ask(&session)), first);
    assert_eq!(
        json(&client.ask("GET /v1/session/list"))
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let txn = keyed(
        "k4",
        "PUT /v1/txn",
        r#"[{"KV":{"Verb":"set","Key":"t","Value":"dg=="}}]"#,
    );
    let first = client.ask(&txn);
    client.ask("PUT /v1/kv/t\n\nother");
    client.ask(&txn).assert_text(200, first.text());
    client.ask("GET /v1/kv/t?raw").assert_text(200, "other");
    for key in [String::new(), "x".repeat(256)] {
        let text = format!(
            "Lictor-Idempotency-Key has {} bytes, and must have 1 to 255",
            key.len()
        );
        client
            .ask(&keyed(&key, "PUT /v1/kv/a", "v"))
            .assert_text(400, &text);
    }
}

#[test]
fn a_key_is_understood_or_refused() {
    const HEADER: &str = "Lictor-Idempotency-Key";
    let site = site();
    let mut client = site.connect();
    let mut ask = |request: &str| {
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        client.ask(&format!("{head}\n{HEADER}: k\n\n{body}"))
    };
    for request in [
        "PUT /v1/agent/service/register\n\n{\"Name\":\"web\"}",
        "PUT /v1/agent/check/deregister/c",
        "PUT /v1/agent/maintenance?enable=true",
        "PUT /v1/event/fire/deploy",
        "PUT /v1/session/renew/6c1d5a2e-0000-0000-0000-000000000000",
        "PUT /v1/coordinate/update\n\n{}",
        "PUT /v1/snapshot\n\nx",
        "DELETE /v1/operator/raft/peer?id=a",
    ] {
        let refused = ask(request);
        assert_eq!(refused.status(), 400, "{request}");
        assert!(
            refused
                .text()
                .starts_with(&format!("{HEADER} is not for this endpoint")),
            "{request}"
        );
        assert_eq!(refused.header(HEADER), Some("understood"), "{request}");
    }
    for request in [
        "PUT /v1/kv/a\n\nv",
        "GET /v1/kv/none",
        "GET /v1/status/leader",
        "GET /v1/agent/services",
    ] {
        assert_eq!(ask(request).header(HEADER), Some("understood"), "{request}");
    }
    // What is no change, or asks for nothing that there is.
    for (request, status) in [
        ("GET /", 200),
        ("GET /v1/none", 404),
        ("PUT /none/at/all\n\nv", 404),
        ("PUT /v1//kv/a\n\nv", 301),
        ("POST /v1/kv/a\n\nv", 405),
        ("OPTIONS /v1/kv/a", 200),
    ] {
        let answer = ask(request);
        assert_eq!(
            (answer.status(), answer.header(HEADER)),
            (status, Some("understood")),
            "{request}"
        );
    }
    let plain = client.ask("PUT /v1/kv/a\n\nv");
    assert_eq!(plain.header(HEADER), None, "who does not ask is not told");
}
