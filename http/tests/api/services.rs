//! Services of this agent.

use std::sync::atomic::Ordering;
use std::thread;

use lictor_http::Failure;
use serde_json::{Value, json};

use crate::support::{Site, eventually};

const REGISTER: &str = "PUT /v1/agent/service/register";

#[track_caller]
fn register(site: &Site, body: &Value) {
    register_text(site, &body.to_string()).assert_text(200, "");
}

fn register_text(site: &Site, body: &str) -> crate::support::Response {
    site.ask(&format!("{REGISTER}\n\n{body}"))
}

#[track_caller]
fn get(site: &Site, target: &str) -> Value {
    let response = site.ask(&format!("GET {target}"));
    assert_eq!(response.status(), 200, "{}", response.text());
    serde_json::from_str(response.text()).unwrap()
}

/// The service of an id, but for its hash.
#[track_caller]
fn service(site: &Site, id: &str) -> String {
    let response = site.ask(&format!("GET /v1/agent/service/{id}"));
    assert_eq!(response.status(), 200, "{}", response.text());
    let hash = response.header("X-Consul-Contenthash").unwrap();
    let told = format!(r#","ContentHash":"{hash}""#);
    let text = response.text();
    assert!(text.contains(&told), "{text}");
    text.replace(&told, "")
}

#[test]
fn a_service_with_all_about_it() {
    let site = Site::new();
    let response = register_text(
        &site,
        &json!({
            "name": "full", "ID": "f1", "Tags": ["b", "a", "a"], "Address": "10.0.0.9", "Port": 99,
            "tagged_addresses": {"lan": {"Address": "1.1.1.1", "Port": 1}, "wan": {}},
            "Meta": {"B": "2", "a": "<1>"}, "Weights": {"Passing": 3}, "enable_tag_override": true, "Token": "secret",
        })
        .to_string(),
    );
    response.assert_is("HTTP/1.1 200 OK\nContent-Length: 0\nVary: Accept-Encoding\n\n");
    register(&site, &json!({"Name": "Bare"}));
    let full = concat!(
        r#"{"ID":"f1","Service":"full","Tags":["b","a","a"],"Meta":{"B":"2","a":"\u003c1\u003e"},"Port":99,"Address":"10.0.0.9","#,
        r#""TaggedAddresses":{"lan":{"Address":"1.1.1.1","Port":1},"lan_ipv4":{"Address":"10.0.0.9","Port":99},"#,
        r#""wan":{"Address":"","Port":0},"wan_ipv4":{"Address":"10.0.0.9","Port":99}},"#,
        r#""Weights":{"Passing":3,"Warning":0},"EnableTagOverride":true}"#
    );
    let bare = concat!(
        r#"{"ID":"Bare","Service":"Bare","Tags":[],"Meta":{},"Port":0,"Address":"","#,
        r#""Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false}"#
    );
    assert_eq!(service(&site, "f1"), full);
    assert_eq!(service(&site, "Bare"), bare);
    assert_eq!(service(&site, "bARE"), bare, "ids count in any letter case");
    let list = site.ask("GET /v1/agent/services?dc=nope&stale&consistent&index=zz");
    list.assert_text(200, &format!(r#"{{"Bare":{bare},"f1":{full}}}"#));
    assert_eq!(list.header("Content-Type"), Some("application/json"));
    assert_eq!(list.header("X-Consul-Index"), None);
    let [lictor_local::Request::RegisterService { spec, replace_checks }, _] =
        &site.memory.running.take_changes()[..]
    else {
        panic!("two registrations")
    };
    assert_eq!((&*spec.token, *replace_checks), ("secret", false));
}

#[test]
fn what_is_not_said_again_is_gone() {
    let site = Site::new();
    register(
        &site,
        &json!({"Name": "web", "Tags": ["a"], "Meta": {"a": "b"}, "Port": 8}),
    );
    register(&site, &json!({"Name": "web"}));
    assert_eq!(
        get(&site, "/v1/agent/services")["web"],
        json!({
            "ID": "web", "Service": "web", "Tags": [], "Meta": {}, "Port": 0, "Address": "",
            "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false,
        })
    );
    site.ask("PUT /v1/agent/service/deregister/web")
        .assert_text(200, "");
    site.ask("PUT /v1/agent/service/deregister/web")
        .assert_text(200, "");
    site.ask("GET /v1/agent/services").assert_text(200, "{}");
    site.ask("PUT /v1/agent/service/deregister/")
        .assert_text(500, "ServiceID missing");
}

#[test]
fn registrations_that_make_no_sense() {
    let site = Site::new();
    let long = "k".repeat(129);
    let value = "v".repeat(513);
    let labels: Value = (0..65)
        .map(|n| (format!("k{n}"), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    for (body, text) in [
        (json!(null), "Missing service name"),
        (json!({}), "Missing service name"),
        (
            json!({"Address": "::", "Check": {"HTTP": "x"}}),
            "Missing service name",
        ),
        (
            json!({"Name": "x", "Address": "0.0.0.0", "Weights": {}}),
            "Invalid service address",
        ),
        (
            json!({"Name": "x", "Address": "[::]", "Meta": {"": ""}}),
            "Invalid service address",
        ),
        (
            json!({"Name": "x", "Weights": {}, "Meta": {"": ""}}),
            "Invalid Weights: Passing must be greater than 0",
        ),
        (
            json!({"Name": "x", "Weights": {"Passing": 1, "Warning": -1}}),
            "Invalid Weights: Warning must be greater or equal than 0",
        ),
        (
            json!({"Name": "x", "Weights": {"Passing": 70_000}}),
            "Invalid Weights: DNS Weight must be between 0 and 65535",
        ),
        (
            json!({"Name": "x", "Weights": {"Passing": 1, "Warning": 65_536}}),
            "Invalid Weights: DNS Weight must be between 0 and 65535",
        ),
        (
            json!({"Name": "x", "Meta": {"": "x"}, "Check": {"HTTP": "x"}}),
            "Invalid Service Meta: Couldn't load metadata pair ('', 'x'): Key cannot be blank",
        ),
        (
            json!({"Name": "x", "Meta": {"a.b": "x"}}),
            "Invalid Service Meta: Couldn't load metadata pair ('a.b', 'x'): Key contains invalid characters",
        ),
        (
            json!({"Name": "x", "Meta": {"consul-foo": "x"}}),
            "Invalid Service Meta: Couldn't load metadata pair ('consul-foo', 'x'): Key prefix 'consul-' is reserved for internal use",
        ),
        (
            json!({"Name": "x", "Meta": {&long: "x"}}),
            &format!(
                "Invalid Service Meta: Couldn't load metadata pair ('{long}', 'x'): Key is too long (limit: 128 characters)"
            ),
        ),
        (
            json!({"Name": "x", "Meta": {"k": value}}),
            &format!(
                "Invalid Service Meta: Couldn't load metadata pair ('k', '{value}'): Value is too long (limit: 512 characters)"
            ),
        ),
        (
            json!({"Name": "x", "Meta": labels}),
            "Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs",
        ),
        (
            json!({"Name": "x", "Tags": ["t".repeat(513)]}),
            "A name, id, address or tag of a service is too long (limit: 512 bytes)",
        ),
        (
            json!({"Name": "x", "Tags": vec!["t"; 1025]}),
            "A service has too many tags (limit: 1024)",
        ),
        (
            json!({"Name": "x", "Checks": vec![json!({"TTL": "5s"}); 257]}),
            "A service has too many checks (limit: 256)",
        ),
    ] {
        register_text(&site, &body.to_string()).assert_text(400, text);
    }
    assert_eq!(site.memory.running.take_changes(), []);
}

#[test]
fn registrations_that_cannot_be_read() {
    let site = Site::new();
    for (body, text) in [
        ("", "EOF"),
        (" {", "unexpected EOF"),
        (r#"{"Bogus":1}"#, r#"json: unknown field "Bogus""#),
        (
            r#"{"Name":"x","Namespace":"a"}"#,
            r#"json: unknown field "Namespace""#,
        ),
        (
            r#"{"Name":"x","SocketPath":"a"}"#,
            r#"json: unknown field "SocketPath""#,
        ),
        (
            r#"{"Name":5}"#,
            "json: cannot unmarshal number into Go struct field .Name of type string",
        ),
        (
            r#"{"Name":"x","Tags":[1]}"#,
            "json: cannot unmarshal number into Go struct field .Tags of type string",
        ),
        (
            r#"{"Name":"x","Port":1.5}"#,
            "json: cannot unmarshal number 1.5 into Go struct field .Port of type int",
        ),
        (
            r#"{"Name":"x","Port":70000}"#,
            "a port must be in 0 to 65535, and one is 70000",
        ),
        (
            r#"{"Name":"x","Kind":1}"#,
            "json: cannot unmarshal number into Go struct field .Kind of type structs.ServiceKind",
        ),
        (
            r#"{"Name":"x","TaggedAddresses":{"lan":"1.2.3.4"}}"#,
            "json: cannot unmarshal string into Go struct field .TaggedAddresses of type structs.ServiceAddress",
        ),
        (
            r#"{"Name":"x","Weights":{"Bogus":1}}"#,
            r#"json: unknown field "Bogus""#,
        ),
        (
            r#"{"Name":"x","Checks":{}}"#,
            "json: cannot unmarshal object into Go struct field .Checks of type structs.CheckTypes",
        ),
        (
            r#"{"Name":"x","Check":{"ID":"a"}}"#,
            r#"json: unknown field "ID""#,
        ),
        (
            r#"{"Name":"x","Check":{"Token":"a"}}"#,
            r#"json: unknown field "Token""#,
        ),
        (
            r#"{"Name":"x","Check":{"TTL":"10"}}"#,
            r#"time: missing unit in duration "10""#,
        ),
        (
            r#"{"Name":"x","Connect":{"SidecarService":{"Bogus":1}}}"#,
            r#"json: unknown field "Bogus""#,
        ),
        (
            r#"{"Name":"x","Proxy":{"Bogus":5}}"#,
            r#"json: unknown field "Bogus""#,
        ),
    ] {
        register_text(&site, body).assert_text(400, &format!("Request decode failed: {text}"));
    }
    let deep = register_text(&site, &"[".repeat(20_000));
    assert_eq!(deep.status(), 400);
    assert!(
        deep.text().starts_with("Request decode failed: "),
        "{}",
        deep.text()
    );
    let nested = r#"{"Connect":{"SidecarService":"#.repeat(60);
    assert_eq!(register_text(&site, &nested).status(), 400);
    let large = format!(r#"{{"Name":"{}"}}"#, "x".repeat(600_000));
    assert_eq!(register_text(&site, &large).status(), 413);
    site.ask(&format!("{REGISTER}?ns=x\n\n{{}}")).assert_text(
        400,
        "Bad request: Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature",
    );
    site.ask("GET /v1/agent/service/register")
        .assert_text(405, "method GET not allowed");
    assert_eq!(site.memory.running.take_changes(), []);
}

#[test]
fn what_an_agent_may_have_is_bounded() {
    let site = Site::new();
    let mut client = site.connect();
    for number in 0..300 {
        let response = client.ask(&format!("{REGISTER}\n\n{{\"Name\":\"s{number}\"}}"));
        assert_eq!(response.status(), 200, "{number}");
    }
    client
        .ask(&format!("{REGISTER}\n\n{{\"Name\":\"more\"}}"))
        .assert_text(
            429,
            "this agent has 300 services, which is as many as it may have",
        );
    assert_eq!(site.memory.running.ids().len(), 300);
    *site.memory.failure.lock().unwrap() = Some(Failure::Stopping);
    client
        .ask(&format!("{REGISTER}\n\n{{\"Name\":\"s1\"}}"))
        .assert_text(503, "The agent is shutting down; ask another one");
}

#[test]
fn filters() {
    let site = Site::new();
    register(
        &site,
        &json!({"Name": "web", "ID": "w1", "Tags": ["a"], "Meta": {"m": "1"}, "Port": 80}),
    );
    register(
        &site,
        &json!({"Name": "web", "ID": "w2", "Connect": {"Native": true}}),
    );
    register(
        &site,
        &json!({"Name": "p", "Kind": "connect-proxy", "Port": 1, "Proxy": {"DestinationServiceName": "web"}}),
    );
    for (filter, ids) in [
        ("Service==web", &["w1", "w2"][..]),
        ("a+in+Tags+or+Port==1", &["p", "w1"]),
        ("Meta.m==1", &["w1"]),
        ("Connect.Native==true", &["w2"]),
        ("Proxy.DestinationServiceName==web", &["p"]),
        ("Weights.Passing==2", &[]),
        ("", &["p", "w1", "w2"]),
    ] {
        let found = get(&site, &format!("/v1/agent/services?filter={filter}"));
        let found: Vec<_> = found.as_object().unwrap().keys().collect();
        assert_eq!(found, ids, "{filter}");
    }
    site.ask("GET /v1/agent/services?filter=Bogus==1").assert_text(
        500,
        "Failed to create boolean expression evaluator: Selector \"Bogus\" is not valid",
    );
}

#[test]
fn waiting_for_another_version_of_a_service() {
    let site = Site::new();
    register(&site, &json!({"Name": "web", "Port": 1}));
    let hash = |site: &Site| {
        let response = site.ask("GET /v1/agent/service/web?wait=1s&index=5");
        response.header("X-Consul-Contenthash").unwrap().to_owned()
    };
    let first = hash(&site);
    register(&site, &json!({"Name": "web", "Port": 1}));
    assert_eq!(hash(&site), first, "the same again");

    let known = format!("GET /v1/agent/service/web?hash={first}&wait=30s");
    let mut client = site.connect();
    client.send(&known);
    let answered = thread::spawn(move || client.receive(false));
    eventually("it waits", || site.memory.waiting.load(Ordering::SeqCst) == 1);
    register(&site, &json!({"Name": "other"}));
    register(&site, &json!({"Name": "web", "Port": 2}));
    let response = answered.join().unwrap();
    assert_eq!(response.status(), 200);
    let second = response.header("X-Consul-Contenthash").unwrap();
    assert_ne!(second, first);
    assert!(response.text().contains(r#""Port":2"#));

    let in_vain = site.ask(&format!("GET /v1/agent/service/web?hash={second}&wait=10ms"));
    assert_eq!(in_vain.header("X-Consul-Contenthash"), Some(second));
    assert_eq!(in_vain.status(), 200);

    let mut client = site.connect();
    client.send(&format!("GET /v1/agent/service/web?hash={second}&wait=30s"));
    let answered = thread::spawn(move || client.receive(false));
    eventually("it waits", || site.memory.waiting.load(Ordering::SeqCst) == 1);
    site.ask("PUT /v1/agent/service/deregister/web")
        .assert_text(200, "");
    answered
        .join()
        .unwrap()
        .assert_text(404, "unknown service ID: web");

    for (target, status, text) in [
        ("nope?hash=abc&wait=1s", 404, "unknown service ID: nope"),
        ("", 404, "unknown service ID: "),
        ("x/y", 404, "unknown service ID: x/y"),
        ("nope?wait=zz", 400, "Invalid wait time"),
    ] {
        site.ask(&format!("GET /v1/agent/service/{target}"))
            .assert_text(status, text);
    }
}

#[test]
fn waiting_ends_with_the_client_and_with_the_server() {
    let site = Site::new();
    register(&site, &json!({"Name": "web"}));
    let response = site.ask("GET /v1/agent/service/web");
    let hash = response.header("X-Consul-Contenthash").unwrap();
    let request = format!("GET /v1/agent/service/web?hash={hash}&wait=5m");
    let mut gone = site.connect();
    gone.send(&request);
    eventually("it waits", || site.memory.waiting.load(Ordering::SeqCst) == 1);
    drop(gone);
    eventually("nobody waits", || site.memory.waiting.load(Ordering::SeqCst) == 0);
    let mut client = site.connect();
    client.send(&request);
    eventually("it waits", || site.memory.waiting.load(Ordering::SeqCst) == 1);
    let runtime = lictor_runtime_smol::runtime();
    let stopping = thread::spawn(move || runtime.block_on(site.server.shut_down(crate::support::LONG)));
    let response = client.receive(false);
    assert_eq!(
        (response.status(), response.header("X-Consul-Contenthash")),
        (200, Some(hash))
    );
    stopping.join().unwrap();
}

#[test]
fn maintenance() {
    let site = Site::new();
    register(&site, &json!({"Name": "web", "ID": "w1", "Tags": ["a"]}));
    for (target, status, text) in [
        ("service/maintenance/?enable=true", 400, "Missing service ID"),
        ("service/maintenance/w1", 400, "Missing value for enable"),
        (
            "service/maintenance/w1?enable",
            400,
            "Invalid value for enable: \"\"",
        ),
        (
            "service/maintenance/w1?enable=maybe",
            400,
            "Invalid value for enable: \"maybe\"",
        ),
        (
            "service/maintenance/nope?enable=true",
            404,
            "No service registered with ID \"nope\"",
        ),
        ("maintenance", 400, "Missing value for enable"),
        (
            "maintenance?enable=maybe",
            400,
            "Invalid value for enable: \"maybe\"",
        ),
        ("maintenance?enable=false", 200, ""),
    ] {
        site.ask(&format!("PUT /v1/agent/{target}"))
            .assert_text(status, text);
    }
    site.ask("GET /v1/agent/checks").assert_text(200, "{}");
    for target in [
        "service/maintenance/w1?enable=T&reason=be+cause",
        "service/maintenance/w1?enable=1&reason=other",
        "maintenance?enable=TRUE",
    ] {
        site.ask(&format!("PUT /v1/agent/{target}")).assert_text(200, "");
    }
    site.ask("GET /v1/agent/checks").assert_text(
        200,
        concat!(
            r#"{"_node_maintenance":{"Node":"n1","CheckID":"_node_maintenance","Name":"Node Maintenance Mode","Status":"critical","#,
            r#""Notes":"Maintenance mode is enabled for this node, but no reason was provided. This is a default message.","#,
            r#""Output":"","ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"maintenance","Definition":{},"#,
            r#""CreateIndex":0,"ModifyIndex":0},"#,
            r#""_service_maintenance:w1":{"Node":"n1","CheckID":"_service_maintenance:w1","Name":"Service Maintenance Mode","#,
            r#""Status":"critical","Notes":"be cause","Output":"","ServiceID":"w1","ServiceName":"web","ServiceTags":["a"],"#,
            r#""Type":"maintenance","Definition":{},"CreateIndex":0,"ModifyIndex":0}}"#,
        ),
    );
    for target in ["service/maintenance/w1?enable=f", "maintenance?enable=0"] {
        site.ask(&format!("PUT /v1/agent/{target}")).assert_text(200, "");
    }
    site.ask("GET /v1/agent/checks").assert_text(200, "{}");
}

#[test]
fn reloading() {
    let site = Site::new();
    site.ask("PUT /v1/agent/reload").assert_text(200, "");
    assert_eq!(site.memory.take_asked(), ["reload"]);
    let failed = Failure::Refused("failed to parse x.json: line 1".to_owned());
    *site.memory.failure.lock().unwrap() = Some(failed);
    site.ask("PUT /v1/agent/reload")
        .assert_text(500, "failed to parse x.json: line 1");
    site.ask("GET /v1/agent/reload")
        .assert_text(405, "method GET not allowed");
}
