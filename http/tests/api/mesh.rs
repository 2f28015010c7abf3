//! Proxies and sidecars; and the mesh and the access control lists that there are none of.

use serde_json::{Value, json};

use crate::support::{Response, Site};

const DISABLED: &str = "Connect must be enabled in order to use this endpoint";

fn register(site: &Site, body: &Value) -> Response {
    site.ask(&format!("PUT /v1/agent/service/register\n\n{body}"))
}

#[track_caller]
fn service(site: &Site, id: &str) -> Value {
    let response = site.ask("GET /v1/agent/services");
    let services: Value = serde_json::from_str(response.text()).unwrap();
    services[id].clone()
}

#[test]
fn a_proxy_as_it_was_said() {
    let site = Site::new();
    let body = json!({
        "Name": "pp", "Kind": "connect-proxy", "Port": 5,
        "Proxy": {
            "destination_service_name": "web", "destination_service_id": "w1", "local_service_address": "9.9.9.9",
            "local_service_port": 80, "Config": {"z": [1, 2.5, "x", null], "a": {"y": 1, "b": 2}},
            "Upstreams": [
                {"destination_name": "u", "local_bind_port": 7},
                {"destination_type": "prepared_query", "DestinationNamespace": "ns", "DestinationName": "q", "Datacenter": "dc9",
                 "local_bind_address": "1.1.1.1", "LocalBindPort": 8, "Config": {"k": "v"}, "MeshGateway": {"Mode": "local"}},
            ],
            "MeshGateway": {"mode": "remote"},
            "Expose": {"Checks": true, "Paths": [{"listener_port": 1, "Path": "/x", "local_path_port": 2, "Protocol": "http"}]},
        },
    });
    register(&site, &body).assert_text(200, "");
    let response = site.ask("GET /v1/agent/services");
    let expected = concat!(
        r#""Proxy":{"DestinationServiceName":"web","DestinationServiceID":"w1","LocalServiceAddress":"9.9.9.9","LocalServicePort":80,"#,
        r#""Config":{"a":{"b":2,"y":1},"z":[1,2.5,"x",null]},"#,
        r#""Upstreams":[{"DestinationType":"service","DestinationName":"u","LocalBindPort":7,"MeshGateway":{}},"#,
        r#"{"DestinationType":"prepared_query","DestinationNamespace":"ns","DestinationName":"q","Datacenter":"dc9","#,
        r#""LocalBindAddress":"1.1.1.1","LocalBindPort":8,"Config":{"k":"v"},"MeshGateway":{"Mode":"local"}}],"#,
        r#""MeshGateway":{"Mode":"remote"},"Expose":{"Checks":true,"#,
        r#""Paths":[{"ListenerPort":1,"Path":"/x","LocalPathPort":2,"Protocol":"http","ParsedFromCheck":false}]}}"#
    );
    assert!(response.text().contains(expected), "{}", response.text());

    for (kind, proxy) in [
        ("mesh-gateway", json!({"MeshGateway": {}, "Expose": {}})),
        ("ingress-gateway", json!({"MeshGateway": {}, "Expose": {}})),
        ("typical", Value::Null),
    ] {
        register(&site, &json!({"Name": "g", "Kind": kind, "Port": 5, "Proxy": {}})).assert_text(200, "");
        assert_eq!(service(&site, "g")["Proxy"], proxy, "{kind}");
    }
    register(
        &site,
        &json!({"Name": "native", "Connect": {"Native": true, "Bogus": 1}}),
    )
    .assert_text(200, "");
    assert_eq!(service(&site, "native")["Connect"], json!({"Native": true}));
}

#[test]
fn proxies_that_make_no_sense() {
    let site = Site::new();
    let refused = |body: Value, wrong: &[&str]| {
        let plural = if wrong.len() == 1 { "" } else { "s" };
        let list = wrong
            .iter()
            .fold(String::new(), |list, text| list + "\t* " + text + "\n");
        register(&site, &body)
            .assert_text(400, &format!("{} error{plural} occurred:\n{list}\n", wrong.len()));
    };
    refused(
        json!({"Name": "x", "Kind": "connect-proxy", "Connect": {"Native": true, "SidecarService": {"ID": "x"}},
               "Proxy": {"DestinationServiceName": " ", "Upstreams": [{}], "Expose": {"Paths": [{}]}}}),
        &[
            "Proxy.DestinationServiceName must be non-empty for Connect proxy services",
            "Port must be set for a Connect proxy",
            "A Proxy cannot also be Connect Native, only typical services",
            "upstream destination name cannot be empty",
            "expose.paths: empty path exposed",
            "expose.paths: invalid listener port: 0",
            "A SidecarService cannot specify an ID as this is managed by the agent",
        ],
    );
    let proxy = |upstreams: Value, paths: Value| {
        json!({"Name": "x", "Kind": "connect-proxy", "Port": 1,
               "Proxy": {"DestinationServiceName": "a", "Upstreams": upstreams, "Expose": {"Paths": paths}}})
    };
    refused(
        proxy(
            json!([
                {"DestinationName": "a", "LocalBindPort": 1}, {"DestinationName": "b"},
                {"DestinationName": "a", "LocalBindPort": 1}, {"DestinationName": "a", "LocalBindPort": 1, "Datacenter": "x"},
                {"DestinationType": "foo"}
            ]),
            json!([]),
        ),
        &[
            "upstream local bind port cannot be zero",
            r#"upstreams cannot contain duplicates of [type="service", name="a", namespace="", datacenter=""]"#,
            r#"upstreams cannot contain duplicates by local bind address and port; "127.0.0.1:1" is specified twice"#,
            r#"unknown upstream destination type: "foo""#,
        ],
    );
    refused(
        proxy(
            json!([]),
            json!([
                {"ListenerPort": 5, "Protocol": "x"}, {"ListenerPort": 5},
                {"Path": "/x", "ListenerPort": 0, "Protocol": "Q"},
            ]),
        ),
        &[
            "expose.paths: empty path exposed",
            "protocol 'x' not supported for path: , must be in: [http http2]",
            "expose.paths: empty path exposed",
            "expose.paths: duplicate paths exposed",
            "expose.paths: duplicate listener ports exposed",
            "expose.paths: invalid listener port: 0",
            "protocol 'q' not supported for path: /x, must be in: [http http2]",
        ],
    );
    refused(
        json!({"Name": "x", "Kind": "mesh-gateway", "Connect": {"SidecarService": {}},
               "Proxy": {"DestinationServiceName": "a", "DestinationServiceID": "b", "LocalServiceAddress": "1",
                         "LocalServicePort": 5, "Upstreams": [{}]}}),
        &[
            "Port must be non-zero for a mesh-gateway",
            "A mesh-gateway cannot have a sidecar service defined",
            "The Proxy.DestinationServiceName configuration is invalid for a mesh-gateway",
            "The Proxy.DestinationServiceID configuration is invalid for a mesh-gateway",
            "The Proxy.LocalServiceAddress configuration is invalid for a mesh-gateway",
            "The Proxy.LocalServicePort configuration is invalid for a mesh-gateway",
            "The Proxy.Upstreams configuration is invalid for a mesh-gateway",
        ],
    );
    refused(
        json!({"Name": "x", "Connect": {"SidecarService": {"ID": "a", "Connect": {"sidecar_service": {}}}}}),
        &[
            "A SidecarService cannot specify an ID as this is managed by the agent",
            "A SidecarService cannot have a nested SidecarService",
        ],
    );
}

#[test]
fn a_sidecar_follows_from_its_service() {
    let site = Site::new();
    let body = json!({
        "Name": "web", "ID": "w1", "Port": 80, "Tags": ["a"], "Meta": {"k": "v"}, "Token": "t", "Address": "10.0.0.1",
        "Weights": {"Passing": 5, "Warning": 2}, "EnableTagOverride": true, "Connect": {"SidecarService": {}},
    });
    register(&site, &body).assert_text(200, "");
    let sidecar = json!({
        "Kind": "connect-proxy", "ID": "w1-sidecar-proxy", "Service": "web-sidecar-proxy", "Tags": ["a"], "Meta": {"k": "v"},
        "Port": 21_000, "Address": "10.0.0.1",
        "TaggedAddresses": {"lan_ipv4": {"Address": "10.0.0.1", "Port": 21_000}, "wan_ipv4": {"Address": "10.0.0.1", "Port": 21_000}},
        "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false,
        "Proxy": {"DestinationServiceName": "web", "DestinationServiceID": "w1", "LocalServiceAddress": "127.0.0.1",
                  "LocalServicePort": 80, "MeshGateway": {}, "Expose": {}},
    });
    assert_eq!(service(&site, "w1-sidecar-proxy"), sidecar);
    let response = site.ask("GET /v1/agent/checks");
    let checks: Value = serde_json::from_str(response.text()).unwrap();
    let names: Vec<_> = checks
        .as_object()
        .unwrap()
        .iter()
        .map(|(id, check)| format!("{id} {} {}", check["Name"], check["Type"]))
        .collect();
    assert_eq!(
        names,
        [
            r#"service:w1-sidecar-proxy:1 "Connect Sidecar Listening" "tcp""#,
            r#"service:w1-sidecar-proxy:2 "Connect Sidecar Aliasing w1" "alias""#
        ]
    );
    // Once more it keeps its port; the next one gets another.
    register(&site, &body).assert_text(200, "");
    assert_eq!(service(&site, "w1-sidecar-proxy"), sidecar);
    let body = json!({
        "Name": "db", "Port": 81,
        "Connect": {"sidecar_service": {
            "Name": "foo", "Port": 5000, "Meta": {"z": "y"}, "Address": "1.2.3.4", "Check": {"TTL": "5s"},
            "Proxy": {"Upstreams": [{"DestinationName": "web", "LocalBindPort": 9}], "local_service_address": "1.1.1.1"},
        }},
    });
    register(&site, &body).assert_text(200, "");
    let sidecar = service(&site, "db-sidecar-proxy");
    assert_eq!(
        [
            &sidecar["Service"],
            &sidecar["Port"],
            &sidecar["Meta"],
            &sidecar["Proxy"]["LocalServiceAddress"]
        ],
        [&json!("foo"), &json!(5000), &json!({"z": "y"}), &json!("1.1.1.1")]
    );
    register(&site, &json!({"Name": "c", "Connect": {"SidecarService": {}}})).assert_text(200, "");
    assert_eq!(service(&site, "c-sidecar-proxy")["Port"], 21_001);

    // It stays when its service is registered without it, and goes with it.
    register(&site, &json!({"Name": "c"})).assert_text(200, "");
    assert_eq!(service(&site, "c-sidecar-proxy")["Port"], 21_001);
    site.ask("PUT /v1/agent/service/deregister/C")
        .assert_text(200, "");
    site.ask("PUT /v1/agent/service/deregister/w1")
        .assert_text(200, "");
    let ids: Vec<String> = site
        .memory
        .running
        .ids()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ids, ["db", "db-sidecar-proxy"]);
    // A service that only has such a name is nobody's sidecar.
    register(&site, &json!({"Name": "x", "ID": "e-sidecar-proxy"})).assert_text(200, "");
    register(&site, &json!({"Name": "e"})).assert_text(200, "");
    site.ask("PUT /v1/agent/service/deregister/e")
        .assert_text(200, "");
    assert_eq!(service(&site, "e-sidecar-proxy")["Service"], "x");

    for (sidecar, text) in [
        (
            json!({"Meta": {"a.b": "c"}}),
            "Invalid SidecarService: Couldn't load metadata pair ('a.b', 'c'): Key contains invalid characters",
        ),
        (
            json!({"Checks": [{}]}),
            "Invalid check in sidecar_service: TTL must be > 0 for TTL checks",
        ),
    ] {
        register(
            &site,
            &json!({"Name": "f", "Connect": {"SidecarService": sidecar}}),
        )
        .assert_text(500, &format!("Bad request: {text}"));
    }
    assert_eq!(
        service(&site, "f"),
        Value::Null,
        "neither of the two is registered"
    );
}

#[test]
fn sidecars_run_out_of_ports() {
    let site = Site::new();
    let mut client = site.connect();
    for port in 21_000..=21_255 {
        let body = json!({"Name": format!("s{port}"), "Port": port});
        let response = client.ask(&format!("PUT /v1/agent/service/register\n\n{body}"));
        assert_eq!(response.status(), 200);
    }
    register(&site, &json!({"Name": "x", "Connect": {"SidecarService": {}}})).assert_text(
        500,
        "Bad request: Invalid SidecarService: no port provided for sidecar_service and none left in the configured range [21000, 21255]",
    );
}

#[test]
fn there_is_no_mesh() {
    let site = Site::new();
    for (request, status, text) in [
        ("GET /v1/agent/connect/ca/roots", 500, DISABLED),
        ("GET /v1/agent/connect/ca/leaf/web", 500, DISABLED),
        (
            "GET /v1/agent/connect/ca/leaf/web?wait=zz",
            400,
            "Invalid wait time",
        ),
        ("GET /v1/connect/ca/configuration", 500, DISABLED),
        (
            "PUT /v1/connect/ca/configuration\n\n{\"Provider\":\"consul\",\"Config\":{}}",
            500,
            DISABLED,
        ),
        (
            "PUT /v1/connect/ca/configuration",
            400,
            "Bad request: Request decode failed: EOF",
        ),
        ("GET /v1/discovery-chain/", 400, "Bad request: Missing chain name"),
        (
            "POST /v1/discovery-chain/x\n\n{",
            400,
            "Bad request: Request decoding failed: unexpected EOF",
        ),
        (
            "POST /v1/connect/intentions",
            500,
            "Failed to decode request body: EOF",
        ),
        (
            "POST /v1/connect/intentions\n\n{\"Action\":\"x\"}",
            500,
            "3 errors occurred:\n\t* SourceName must be set\n\t* DestinationName must be set\n\t* Action must be set to 'allow' or 'deny'\n\n",
        ),
        (
            "POST /v1/connect/intentions\n\n{\"SourceName\":\"a\",\"DestinationName\":\"b\",\"Action\":\"deny\",\"Meta\":{}}",
            500,
            DISABLED,
        ),
        (
            "GET /v1/connect/intentions/match",
            500,
            "required query parameter 'by' not set",
        ),
        (
            "GET /v1/connect/intentions/match?by=x",
            500,
            "'by' parameter must be one of 'source' or 'destination'",
        ),
        (
            "GET /v1/connect/intentions/match?by=source",
            500,
            "required query parameter 'name' not set",
        ),
        (
            "GET /v1/connect/intentions/match?by=source&name=x&name=y",
            200,
            r#"{"x":null,"y":null}"#,
        ),
        (
            "GET /v1/connect/intentions/check?destination=b",
            500,
            "required query parameter 'source' not set",
        ),
        (
            "GET /v1/connect/intentions/check?source=a",
            500,
            "required query parameter 'destination' not set",
        ),
        (
            "GET /v1/connect/intentions/check?source=a&destination=b",
            200,
            r#"{"Allowed":true}"#,
        ),
        (
            "GET /v1/connect/intentions/check?source=a&destination=b&source-type=x",
            500,
            "unsupported SourceType: \"x\"",
        ),
        (
            "GET /v1/connect/intentions/x",
            400,
            "Bad request: failed intention lookup: index error: UUID must be 36 characters",
        ),
        (
            "GET /v1/connect/intentions/5d2f6a1e-6f0c-4d8e-9f55-1f2a3b4c5d6e",
            404,
            "Intention not found",
        ),
        (
            "PUT /v1/connect/intentions/5d2f6a1e-6f0c-4d8e-9f55-1f2a3b4c5d6e\n\n{}",
            500,
            "Cannot modify non-existent intention: '5d2f6a1e-6f0c-4d8e-9f55-1f2a3b4c5d6e'",
        ),
        (
            "DELETE /v1/connect/intentions/x",
            500,
            "Intention lookup failed: failed intention lookup: index error: UUID must be 36 characters",
        ),
    ] {
        site.ask(request).assert_text(status, text);
    }
    for request in [
        "GET /v1/connect/ca/roots",
        "GET /v1/discovery-chain/x",
        "POST /v1/discovery-chain/x\n\n{}",
    ] {
        let response = site.ask(request);
        response.assert_text(500, DISABLED);
        assert_eq!(response.header("X-Consul-Index"), Some("1"));
        assert_eq!(response.header("X-Consul-Knownleader"), Some("false"));
    }
    let response = site.ask("GET /v1/connect/intentions?filter=SourceName==a");
    response.assert_text(200, "[]");
    assert_eq!(
        (response.index(), response.header("X-Consul-Knownleader")),
        (1, Some("true"))
    );
    let response = site.ask("GET /v1/connect/intentions?filter=Bogus==a");
    assert_eq!((response.status(), response.index()), (500, 1));
    let waited = site.ask("GET /v1/connect/intentions?index=1&wait=10ms");
    assert_eq!((waited.status(), waited.index()), (200, 1));
}

#[test]
fn callers_are_let_in() {
    let site = Site::new();
    let ask = |body: &str| site.ask(&format!("POST /v1/agent/connect/authorize\n\n{body}"));
    for (body, text) in [
        ("", "Request decode failed: EOF"),
        ("{}", "Target service must be specified"),
        (
            r#"{"Target":"web","ClientCertURI":"x"}"#,
            "ClientCertURI not a valid Connect identifier",
        ),
        (
            r#"{"Bogus":1}"#,
            r#"Request decode failed: json: unknown field "Bogus""#,
        ),
    ] {
        ask(body).assert_text(400, &format!("Bad request: {text}"));
    }
    let large = format!("{{\"Target\":\"{}\"}}", "x".repeat(600_000));
    assert_eq!(ask(&large).status(), 413);
    let caller = r#"{"Target":"web","ClientCertURI":"spiffe://a.consul/ns/default/dc/dc1/svc/web","ClientCertSerial":"1"}"#;
    ask(caller).assert_text(
        200,
        r#"{"Authorized":true,"Reason":"ACLs disabled, access is allowed by default"}"#,
    );
}

#[test]
fn there_are_no_configuration_entries() {
    let site = Site::new();
    for (request, status, text) in [
        ("GET /v1/config", 405, "method GET not allowed"),
        ("GET /v1/config/", 200, "[]"),
        ("GET /v1/config/service-defaults", 200, "[]"),
        ("GET /v1/config/service-defaults?index=zz", 400, "Invalid index"),
        (
            "GET /v1/config/service-defaults?dc=mars",
            500,
            "No path to datacenter",
        ),
        (
            "GET /v1/config/service-defaults/a/b",
            404,
            r#"Config entry not found for "service-defaults" / "a/b""#,
        ),
        ("GET /v1/config/bogus/x", 500, "invalid config entry kind: bogus"),
        ("DELETE /v1/config/service-defaults/x", 200, "{}"),
        (
            "DELETE /v1/config/service-defaults",
            404,
            "Must provide both a kind and name to delete",
        ),
        (
            "DELETE /v1/config/bogus/x",
            400,
            "invalid config entry kind: bogus",
        ),
        ("PUT /v1/config", 400, "Bad request: Request decoding failed: EOF"),
        (
            "PUT /v1/config\n\n[]",
            400,
            "Bad request: Request decoding failed: '' expected a map, got 'slice'",
        ),
        (
            "PUT /v1/config\n\n{}",
            400,
            "Bad request: Request decoding failed: Payload does not contain a kind/Kind key at the top level",
        ),
        (
            "PUT /v1/config\n\n{\"Kind\":5}",
            400,
            "Bad request: Request decoding failed: Kind value in payload is not a string",
        ),
        (
            "PUT /v1/config\n\n{\"kind\":\"x\"}",
            400,
            "Bad request: Request decoding failed: invalid config entry kind: x",
        ),
        (
            "PUT /v1/config?cas=abc\n\n{\"Kind\":\"service-defaults\"}",
            500,
            "strconv.ParseUint: parsing \"abc\": invalid syntax",
        ),
        (
            "PUT /v1/config\n\n{\"Kind\":\"service-defaults\",\"Name\":\"web\"}",
            500,
            DISABLED,
        ),
    ] {
        site.ask(request).assert_text(status, text);
    }
    assert_eq!(site.ask("GET /v1/config/service-defaults/x").index(), 1);
}

#[test]
fn there_are_no_access_control_lists() {
    let site = Site::new();
    for request in [
        "PUT /v1/agent/token/default\n\n{\"Token\":\"x\"}",
        "PUT /v1/agent/token/",
        "PUT /v1/acl/bootstrap",
        "POST /v1/acl/login\n\n{}",
        "GET /v1/acl/tokens",
        "GET /v1/acl/token/self",
        "GET /v1/acl/token/x",
        "DELETE /v1/acl/policy/x",
        "GET /v1/acl/policy/name/x",
        "PUT /v1/acl/role",
        "PUT /v1/acl/clone/x",
        "POST /v1/acl/rules/translate",
        "GET /v1/acl/rules/translate/x",
        "POST /v1/internal/acl/authorize\n\n[]",
    ] {
        site.ask(request).assert_text(401, "ACL support disabled");
    }
    for (request, status, allow) in [
        ("GET /v1/agent/token/x", 405, Some("OPTIONS,PUT")),
        ("PUT /v1/acl/token/self", 405, Some("OPTIONS,GET")),
        ("OPTIONS /v1/acl/policy", 200, Some("OPTIONS,PUT")),
        ("OPTIONS /v1/acl/policy/", 200, Some("OPTIONS,GET,PUT,DELETE")),
        ("GET /v1/acl/templated-policies", 404, None),
    ] {
        let response = site.ask(request);
        assert_eq!(
            (response.status(), response.header("Allow")),
            (status, allow),
            "{request}"
        );
    }
}
