//! Nodes, services and checks.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::support::{Response, Site, eventually};

const REGISTER: &str = "PUT /v1/catalog/register\n\n";
const DEREGISTER: &str = "PUT /v1/catalog/deregister\n\n";

#[track_caller]
fn register(site: &Site, body: &Value) {
    site.ask(&format!("{REGISTER}{body}")).assert_text(200, "true");
}

/// The value of an answer that is one.
#[track_caller]
fn value(response: &Response) -> Value {
    assert_eq!(response.status(), 200, "{}", response.text());
    serde_json::from_str(response.text()).unwrap()
}

#[track_caller]
fn get(site: &Site, target: &str) -> Value {
    value(&site.ask(&format!("GET {target}")))
}

/// A field of each item.
#[track_caller]
fn each(site: &Site, target: &str, pointer: &str) -> Vec<String> {
    let items = get(site, target);
    let items = items.as_array().unwrap().iter();
    items
        .map(|item| item.pointer(pointer).unwrap().as_str().unwrap().to_owned())
        .collect()
}

/// Two nodes with instances of `web`, one of which fails, and a proxy.
fn site() -> Site {
    let site = Site::new();
    register(
        &site,
        &json!({
            "ID": "11111111-1111-1111-1111-111111111111", "Node": "n1", "Address": "1.2.3.4",
            "TaggedAddresses": {"lan": "1.1.1.1"}, "NodeMeta": {"rack": "r1"},
            "Service": {
                "ID": "w1", "Service": "web", "Tags": ["a", "B"], "Port": 80, "Meta": {"m": "<1>"},
                "TaggedAddresses": {"lan": {"Address": "9.9.9.9", "Port": 5}},
                "Weights": {"Passing": 3, "Warning": 2}, "EnableTagOverride": true,
            },
            "Checks": [
                {"CheckID": "c1", "Name": "C", "Status": "passing", "ServiceID": "w1", "Notes": "nn", "Output": "oo",
                 "Definition": {"HTTP": "http://x", "Header": {"A": ["b", "c"]}, "Method": "POST", "Body": "bb",
                                "TLSSkipVerify": true, "TCP": "t:1", "Interval": "10s", "Timeout": 5_000_000_000_u64,
                                "DeregisterCriticalServiceAfter": "1h"}},
                {"Name": "alive", "status": "passing"},
            ],
        }),
    );
    register(
        &site,
        &json!({
            "Node": "n2", "Address": "1.2.3.5", "Service": {"ID": "w2", "Service": "web", "Tags": ["a"]},
            "Check": {"Name": "failing", "ServiceID": "w2"},
        }),
    );
    register(
        &site,
        &json!({
            "Node": "n2", "SkipNodeUpdate": true,
            "Service": {
                "Service": "web-proxy", "Kind": "connect-proxy", "Port": 1,
                "Proxy": {"DestinationServiceName": "web", "Config": {"b": 1, "a": "x"},
                          "Upstreams": [{"DestinationName": "db", "LocalBindPort": 99}],
                          "Expose": {"Checks": true}},
            },
        }),
    );
    site
}

#[test]
fn an_instance_with_all_about_it() {
    let site = site();
    let answer = site.ask("GET /v1/health/service/WEB?tag=A&tag=b");
    let expected = concat!(
        r#"[{"Node":{"ID":"11111111-1111-1111-1111-111111111111","Node":"n1","Address":"1.2.3.4","Datacenter":"dc1","#,
        r#""TaggedAddresses":{"lan":"1.1.1.1"},"Meta":{"rack":"r1"},"CreateIndex":1,"ModifyIndex":1},"#,
        r#""Service":{"ID":"w1","Service":"web","Tags":["a","B"],"Address":"","#,
        r#""TaggedAddresses":{"lan":{"Address":"9.9.9.9","Port":5}},"Meta":{"m":"\u003c1\u003e"},"Port":80,"#,
        r#""Weights":{"Passing":3,"Warning":2},"EnableTagOverride":true,"Proxy":{"MeshGateway":{},"Expose":{}},"#,
        r#""Connect":{},"CreateIndex":1,"ModifyIndex":1},"#,
        r#""Checks":[{"Node":"n1","CheckID":"alive","Name":"alive","Status":"passing","Notes":"","Output":"","#,
        r#""ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"","Definition":{},"CreateIndex":1,"ModifyIndex":1},"#,
        r#"{"Node":"n1","CheckID":"c1","Name":"C","Status":"passing","Notes":"nn","Output":"oo","ServiceID":"w1","#,
        r#""ServiceName":"web","ServiceTags":["a","B"],"Type":"http","Definition":{"Interval":"10s","Timeout":"5s","#,
        r#""DeregisterCriticalServiceAfter":"1h0m0s","HTTP":"http://x","TLSSkipVerify":true,"Header":{"A":["b","c"]},"#,
        r#""Method":"POST","Body":"bb","TCP":"t:1"},"CreateIndex":1,"ModifyIndex":1}]}]"#,
    );
    answer.assert_text(200, expected);
    for (name, expected) in [
        ("X-Consul-Knownleader", "true"),
        ("X-Consul-Lastcontact", "0"),
        ("X-Consul-Effective-Consistency", "leader"),
        ("Content-Type", "application/json"),
        ("Vary", "Accept-Encoding"),
    ] {
        assert_eq!(answer.header(name), Some(expected), "{name}");
    }
    assert_eq!(answer.header("X-Cache"), None);
}

#[test]
fn instances_in_the_catalog() {
    let site = site();
    site.ask("GET /v1/catalog/service/web?node-meta=rack:r1").assert_text(
        200,
        concat!(
            r#"[{"ID":"11111111-1111-1111-1111-111111111111","Node":"n1","Address":"1.2.3.4","Datacenter":"dc1","#,
            r#""TaggedAddresses":{"lan":"1.1.1.1"},"NodeMeta":{"rack":"r1"},"ServiceKind":"","ServiceID":"w1","#,
            r#""ServiceName":"web","ServiceTags":["a","B"],"ServiceAddress":"","#,
            r#""ServiceTaggedAddresses":{"lan":{"Address":"9.9.9.9","Port":5}},"#,
            r#""ServiceWeights":{"Passing":3,"Warning":2},"ServiceMeta":{"m":"\u003c1\u003e"},"ServicePort":80,"#,
            r#""ServiceEnableTagOverride":true,"ServiceProxy":{"MeshGateway":{},"Expose":{}},"ServiceConnect":{},"#,
            r#""CreateIndex":1,"ModifyIndex":1}]"#,
        ),
    );
    let proxies = get(&site, "/v1/catalog/connect/web");
    assert_eq!(
        proxies[0]["ServiceProxy"].to_string(),
        concat!(
            r#"{"DestinationServiceName":"web","Config":{"a":"x","b":1},"Upstreams":[{"DestinationType":"","#,
            r#""DestinationName":"db","Datacenter":"","LocalBindPort":99,"MeshGateway":{}}],"MeshGateway":{},"#,
            r#""Expose":{"Checks":true}}"#,
        )
    );
    assert_eq!(
        each(&site, "/v1/health/connect/web", "/Service/ID"),
        ["web-proxy"]
    );
    let sparse = &get(&site, "/v1/catalog/service/web?filter=Node==n2")[0];
    assert_eq!(
        (
            &sparse["ID"],
            &sparse["TaggedAddresses"],
            &sparse["NodeMeta"],
            &sparse["ServiceMeta"]
        ),
        (&json!(""), &Value::Null, &Value::Null, &json!({}))
    );
    assert_eq!(sparse["ServiceTaggedAddresses"], Value::Null);
}

#[test]
fn what_is_wanted() {
    let site = site();
    for (query, expected) in [
        ("", &["w1", "w2"][..]),
        ("?passing", &["w1"]),
        ("?passing=True", &["w1"]),
        ("?passing=0", &["w1", "w2"]),
        ("?tag=a", &["w1", "w2"]),
        ("?tag=a&tag=b", &["w1"]),
        ("?tag=", &[]),
        ("?tag=none", &[]),
        ("?node-meta=rack:r1", &["w1"]),
        ("?node-meta=rack", &[]),
        ("?node-meta=rack:r1&node-meta=x:y", &[]),
        ("?filter=Node.Meta.rack==r1", &["w1"]),
        ("?filter=Checks.Status==critical", &["w2"]),
        ("?filter=Checks.CheckID==c1+and+Service.Port==80", &["w1"]),
        (
            "?filter=Service.Tags+contains+B+or+Checks.Name==failing",
            &["w1", "w2"],
        ),
        ("?filter=Service.TaggedAddresses.lan.Port==5", &["w1"]),
        ("?filter=Service.Proxy.DestinationServiceName!=x", &["w1", "w2"]),
        ("?filter=", &["w1", "w2"]),
    ] {
        let target = format!("/v1/health/service/web{query}");
        assert_eq!(each(&site, &target, "/Service/ID"), expected, "{query}");
    }
    let filtered = |target: &str, pointer: &str| each(&site, target, pointer);
    assert_eq!(
        filtered("/v1/catalog/nodes?filter=Address+matches+`5$`", "/Node"),
        ["n2"]
    );
    assert_eq!(filtered("/v1/catalog/nodes?node-meta=rack:r1", "/Node"), ["n1"]);
    assert_eq!(
        filtered("/v1/catalog/service/web?filter=ServicePort==80", "/ServiceID"),
        ["w1"]
    );
    assert_eq!(
        filtered(
            "/v1/catalog/connect/web?filter=ServiceProxy.Upstreams.DestinationName==db",
            "/ServiceID"
        ),
        ["web-proxy"]
    );
    assert_eq!(
        filtered("/v1/health/node/n1?filter=Type==http", "/CheckID"),
        ["c1"]
    );
    assert_eq!(filtered("/v1/health/checks/web", "/CheckID"), ["c1", "failing"]);
    assert_eq!(
        filtered("/v1/health/checks/web?node-meta=rack:r1", "/CheckID"),
        ["c1"]
    );
    assert_eq!(
        filtered("/v1/health/state/any", "/CheckID"),
        ["alive", "c1", "failing"]
    );
    assert_eq!(filtered("/v1/health/state/critical", "/CheckID"), ["failing"]);
    assert_eq!(filtered("/v1/health/state/ANY", "/CheckID"), [""; 0]);
    let services = get(&site, "/v1/catalog/node/n2?filter=Service==web");
    let ids: Vec<_> = services["Services"].as_object().unwrap().keys().collect();
    assert_eq!(ids, ["w2"]);
    assert_eq!(services["Node"]["Node"], "n2");
}

#[test]
fn lists_and_what_is_not_there() {
    let site = site();
    for (target, expected) in [
        ("/v1/catalog/services", r#"{"web":["B","a"],"web-proxy":[]}"#),
        ("/v1/catalog/services?node-meta=rack:r1", r#"{"web":["B","a"]}"#),
        ("/v1/catalog/service/none", "[]"),
        ("/v1/catalog/connect/none", "[]"),
        ("/v1/catalog/node/none", "null"),
        (
            "/v1/catalog/node-services/none",
            r#"{"Node":null,"Services":null}"#,
        ),
        ("/v1/catalog/gateway-services/none", "null"),
        ("/v1/health/node/none", "[]"),
        ("/v1/health/checks/none", "[]"),
        ("/v1/health/service/none", "[]"),
        ("/v1/health/connect/none", "[]"),
        ("/v1/health/ingress/none", "[]"),
        ("/v1/health/state/none", "[]"),
    ] {
        let answer = site.ask(&format!("GET {target}"));
        answer.assert_text(200, expected);
        assert!(answer.index() > 0, "{target}");
        assert_eq!(
            answer.header("X-Consul-Effective-Consistency"),
            Some("leader"),
            "{target}"
        );
    }
    let list = get(&site, "/v1/catalog/node-services/N2");
    let ids: Vec<_> = list["Services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["ID"])
        .collect();
    assert_eq!(ids, ["w2", "web-proxy"]);
}

#[test]
fn questions_that_make_no_sense() {
    let site = site();
    for (target, status, text) in [
        ("/v1/catalog/service/", 400, "Missing service name"),
        ("/v1/catalog/connect/", 400, "Missing service name"),
        ("/v1/catalog/node/", 400, "Missing node name"),
        ("/v1/catalog/node-services/", 400, "Missing node name"),
        ("/v1/catalog/gateway-services/", 400, "Missing gateway name"),
        ("/v1/health/node/", 400, "Missing node name"),
        ("/v1/health/checks/", 400, "Missing service name"),
        ("/v1/health/service/", 400, "Missing service name"),
        ("/v1/health/connect/", 400, "Missing service name"),
        ("/v1/health/ingress/", 400, "Missing service name"),
        ("/v1/health/state/", 400, "Missing check state"),
        (
            "/v1/health/service/web?passing=zz",
            400,
            "Invalid value for ?passing",
        ),
        ("/v1/health/service/?index=zz", 400, "Invalid index"),
        (
            "/v1/health/service/web?ns=x",
            400,
            "Bad request: Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature",
        ),
    ] {
        let answer = site.ask(&format!("GET {target}"));
        answer.assert_text(status, text);
        assert_eq!(answer.header("X-Consul-Index"), None, "{target}");
    }
    for (target, text) in [
        ("/v1/health/service/web?dc=none", "No path to datacenter"),
        (
            "/v1/catalog/nodes?filter=Bogus==a",
            "Failed to create boolean expression evaluator: Selector \"Bogus\" is not valid",
        ),
        (
            "/v1/health/service/none?filter=Node==a",
            "Failed to create boolean expression evaluator: Invalid match operator \"Equal\" for selector \"Node\"",
        ),
    ] {
        let answer = site.ask(&format!("GET {target}"));
        answer.assert_text(500, text);
        assert_eq!(
            (answer.index(), answer.header("X-Consul-Knownleader")),
            (1, Some("false"))
        );
        assert_eq!(answer.header("X-Consul-Effective-Consistency"), None);
    }
}

#[test]
fn the_nearest_first() {
    let site = site();
    register(&site, &json!({"Node": "n3", "Address": "x"}));
    for (node, at) in [("n1", "0.5"), ("n2", "0.1")] {
        let body = format!(
            r#"{{"Node":"{node}","Coord":{{"Vec":[{at},0,0,0,0,0,0,0],"Error":1,"Adjustment":0,"Height":0}}}}"#
        );
        assert_eq!(
            site.ask(&format!("PUT /v1/coordinate/update\n\n{body}")).status(),
            200
        );
    }
    let near = |target: &str, pointer: &str| each(&site, target, pointer);
    assert_eq!(near("/v1/health/service/web?near=n2", "/Node/Node"), ["n2", "n1"]);
    assert_eq!(
        near("/v1/health/service/web?near=_agent", "/Node/Node"),
        ["n1", "n2"]
    );
    assert_eq!(near("/v1/catalog/nodes?near=N2", "/Node"), ["n2", "n1", "n3"]);
    assert_eq!(near("/v1/catalog/service/web?near=n2", "/Node"), ["n2", "n1"]);
    assert_eq!(near("/v1/health/checks/web?near=n2", "/Node"), ["n2", "n1"]);
    assert_eq!(near("/v1/catalog/nodes?near=none", "/Node"), ["n1", "n2", "n3"]);
}

#[test]
fn answers_are_kept_as_long_as_they_are_true() {
    let site = site();
    let ask = |target: &str| {
        let answer = site.ask(&format!("GET {target}"));
        let of = |name| answer.header(name).map(str::to_owned);
        (of("X-Cache"), of("Age"), answer.text().to_owned())
    };
    let miss = Some("MISS".to_owned());
    let hit = Some("HIT".to_owned());
    let first = ask("/v1/health/service/web?cached");
    assert_eq!((&first.0, &first.1), (&miss, &None));
    let second = ask("/v1/health/service/web?cached");
    assert_eq!((&second.0, second.1.as_deref()), (&hit, Some("0")));
    assert_eq!(first.2, second.2);
    for other in [
        "?cached&passing",
        "?cached&tag=b",
        "?cached&pretty",
        "?cached&dc=dc1&filter=Node.Node==n1",
    ] {
        assert_eq!(ask(&format!("/v1/health/service/web{other}")).0, miss, "{other}");
    }
    // A change of something else changes nothing; one of the service does.
    register(
        &site,
        &json!({"Node": "n9", "Address": "x", "Service": {"Service": "other"}}),
    );
    assert_eq!(ask("/v1/health/service/web?cached").0, hit);
    register(
        &site,
        &json!({"Node": "n9", "Address": "x", "Service": {"Service": "web", "Port": 1}}),
    );
    let changed = ask("/v1/health/service/web?cached");
    assert_eq!(changed.0, miss);
    assert!(changed.2.contains("\"n9\""));
    let zipped = site.ask("GET /v1/health/service/web\nAccept-Encoding: gzip");
    assert_eq!(zipped.header("Content-Encoding"), Some("gzip"));
    let again = site.ask("GET /v1/health/service/web\nAccept-Encoding: gzip");
    assert_eq!(zipped.body, again.body);
}

#[test]
fn a_change_of_the_service_answers_those_who_wait_for_it() {
    let site = site();
    let index = site.ask("GET /v1/health/service/web").index();
    let mut clients: Vec<_> = (0..3).map(|_| site.connect()).collect();
    for client in &mut clients {
        client.send(&format!(
            "GET /v1/health/service/web?passing&index={index}&wait=5m"
        ));
    }
    eventually("queries wait", || site.memory.waiting.load(Ordering::SeqCst) == 3);
    register(
        &site,
        &json!({"Node": "n3", "Address": "x", "Service": {"Service": "web"}}),
    );
    for client in &mut clients {
        let answer = client.receive(false);
        assert!(answer.index() > index);
        assert_eq!(value(&answer).as_array().unwrap().len(), 2);
    }
}

#[test]
fn what_cannot_change_is_waited_for_all_the_same() {
    let site = site();
    let answer = site.ask("GET /v1/health/ingress/web?index=1&wait=1ms");
    answer.assert_text(200, "[]");
    assert_eq!(answer.index(), 1);
}

#[test]
fn deregistrations() {
    let site = site();
    let nodes = || each(&site, "/v1/catalog/nodes", "/Node");
    for (body, left) in [
        (json!({"Node": "N1", "CheckID": "c1"}), vec!["alive", "failing"]),
        (
            json!({"Node": "n2", "ServiceID": "w2", "CheckID": "alive", "Address": "x"}),
            vec!["alive"],
        ),
        (json!({"Node": "none", "ServiceID": "none"}), vec!["alive"]),
        (json!({"Node": "n1"}), vec![]),
    ] {
        site.ask(&format!("{DEREGISTER}{body}")).assert_text(200, "true");
        assert_eq!(each(&site, "/v1/health/state/any", "/CheckID"), left, "{body}");
    }
    assert_eq!(nodes(), ["n2"]);
    for (body, status, text) in [
        ("{}", 500, "Must provide node"),
        (
            r#"{"Node":"a","Bogus":1}"#,
            400,
            "Request decode failed: json: unknown field \"Bogus\"",
        ),
    ] {
        site.ask(&format!("{DEREGISTER}{body}")).assert_text(status, text);
    }
    site.ask("PUT /v1/catalog/deregister")
        .assert_text(400, "Request decode failed: EOF");
}

#[test]
fn registrations_that_make_no_sense() {
    let site = site();
    let node = |more: &str| format!(r#"{{"Node":"n1","Address":"a",{more}}}"#);
    for (body, status, text) in [
        ("{".to_owned(), 400, "Request decode failed: unexpected EOF"),
        ("{}".to_owned(), 500, "Must provide node"),
        (
            r#"{"Node":"n"}"#.to_owned(),
            500,
            "Must provide address if SkipNodeUpdate is not set",
        ),
        (
            node(r#""ID":"x""#),
            500,
            "Bad node ID: uuid string is wrong length",
        ),
        (
            node(r#""ID":"zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz""#),
            500,
            "Bad node ID: uuid is improperly formatted",
        ),
        (
            node(r#""Bogus":1"#),
            400,
            "Request decode failed: json: unknown field \"Bogus\"",
        ),
        (
            node(r#""Service":{"Bogus":1}"#),
            400,
            "Request decode failed: json: unknown field \"Bogus\"",
        ),
        (
            node(r#""Check":{"Definition":{"Interval":"10"}}"#),
            400,
            "Request decode failed: time: missing unit in duration \"10\"",
        ),
        (
            node(r#""Service":{"Service":"x","Port":70000}"#),
            400,
            "Request decode failed: a port must be in 0 to 65535, and one is 70000",
        ),
        (
            node(r#""Service":{"ID":"x"}"#),
            500,
            "Must provide service name with ID",
        ),
        (
            node(r#""Service":{}"#),
            500,
            "failed inserting service: failed inserting service: object missing primary index",
        ),
        (
            node(r#""Check":{}"#),
            500,
            "failed inserting check: failed inserting check: object missing primary index on node \"n1\"",
        ),
        (
            node(r#""Checks":[{"Name":"c","ServiceID":"none"}]"#),
            500,
            "failed inserting check: Missing service registration on node \"n1\"",
        ),
        (
            node(r#""Check":{"Name":"c","Node":"other"}"#),
            500,
            "check node \"other\" does not match node \"n1\"",
        ),
        (
            node(r#""Check":{"Name":"c","Status":"weird"}"#),
            500,
            "invalid check status \"weird\": not a status: it must be passing, warning or critical",
        ),
    ] {
        site.ask(&format!("{REGISTER}{body}")).assert_text(status, text);
    }
    let before = get(&site, "/v1/catalog/services");
    assert_eq!(
        before,
        json!({"web": ["B", "a"], "web-proxy": []}),
        "nothing was changed"
    );
    let options = || site.memory.last_write.lock().unwrap().take().unwrap();
    options();
    let body = json!({"Node": "n", "Address": "a", "Datacenter": "dc1", "NodeMeta": null, "Check": null});
    let request = format!("PUT /v1/catalog/register?dc=ignored&index=zz&token=t\n\n{body}");
    site.ask(&request).assert_text(200, "true");
    let asked = options();
    assert_eq!(asked.datacenter.as_deref(), Some("dc1"));
    assert_eq!(asked.token.as_ref().map(lictor_http::Secret::expose), Some("t"));
}
