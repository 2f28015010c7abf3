//! What dashboards show.

use serde_json::{Value, json};

use crate::support::Site;

fn register(site: &Site, body: &Value) {
    site.ask(&format!("PUT /v1/catalog/register\n\n{body}"))
        .assert_text(200, "true");
}

/// Two nodes; `web` runs on both, with a proxy on one.
fn site() -> Site {
    let site = Site::new();
    register(
        &site,
        &json!({
            "ID": "11111111-1111-1111-1111-111111111111", "Node": "n1", "Address": "1.2.3.4",
            "NodeMeta": {"rack": "r1"},
            "Service": {"ID": "w1", "Service": "web", "Tags": ["b", "a"], "Port": 80,
                        "Meta": {"external-source": "nomad"}},
            "Checks": [
                {"CheckID": "alive", "Name": "alive", "Status": "passing"},
                {"CheckID": "web", "Name": "web", "Status": "critical", "ServiceID": "w1"},
            ],
        }),
    );
    register(
        &site,
        &json!({
            "Node": "n2", "Address": "1.2.3.5", "TaggedAddresses": {"lan": "1.1.1.1"},
            "Service": {"ID": "w2", "Service": "web", "Tags": ["c", "a"]},
            "Check": {"CheckID": "web", "Name": "web", "Status": "warning", "ServiceID": "w2"},
        }),
    );
    register(
        &site,
        &json!({
            "Node": "n2", "Address": "1.2.3.5", "TaggedAddresses": {"lan": "1.1.1.1"},
            "Service": {"ID": "p", "Service": "web-proxy", "Kind": "connect-proxy", "Port": 1,
                        "Proxy": {"DestinationServiceName": "web"}},
        }),
    );
    site
}

#[track_caller]
fn get(site: &Site, target: &str) -> Value {
    let response = site.ask(&format!("GET {target}"));
    assert_eq!(response.status(), 200, "{}", response.text());
    serde_json::from_str(response.text()).unwrap()
}

#[test]
fn services_with_how_well_they_are() {
    let site = site();
    let response = site.ask("GET /v1/internal/ui/services");
    response.assert_is(
        "HTTP/1.1 200 OK\n\
         Content-Length: 382\n\
         Content-Type: application/json\n\
         Vary: Accept-Encoding\n\
         X-Consul-Index: 3\n\
         X-Consul-Knownleader: true\n\
         X-Consul-Lastcontact: 0\n\
         \n\
         [{\"Name\":\"web\",\"Tags\":[\"a\",\"b\",\"c\"],\"Nodes\":[\"n1\",\"n2\"],\"InstanceCount\":2,\
         \"ChecksPassing\":1,\"ChecksWarning\":1,\"ChecksCritical\":1,\"ExternalSources\":[\"nomad\"],\"GatewayConfig\":{}},\
         {\"Kind\":\"connect-proxy\",\"Name\":\"web-proxy\",\"Tags\":null,\"Nodes\":[\"n2\"],\"InstanceCount\":1,\
         \"ProxyFor\":[\"web\"],\"ChecksPassing\":0,\"ChecksWarning\":0,\"ChecksCritical\":0,\"ExternalSources\":null,\
         \"GatewayConfig\":{}}]",
    );
    let names = |filter: &str| -> Vec<String> {
        let found = get(&site, &format!("/v1/internal/ui/services?filter={filter}"));
        let found = found.as_array().unwrap().iter();
        found
            .map(|service| {
                format!(
                    "{} {}",
                    service["Name"].as_str().unwrap(),
                    service["InstanceCount"]
                )
            })
            .collect()
    };
    assert_eq!(names("Service.Port==80"), ["web 1"]);
    assert_eq!(names("Node.Node==n2"), ["web 1", "web-proxy 1"]);
    assert_eq!(names("Checks.Status==passing"), ["web 1"]);
}

#[test]
fn nodes_with_all_that_is_known_of_them() {
    let site = site();
    let nodes = get(&site, "/v1/internal/ui/nodes");
    let nodes = nodes.as_array().unwrap();
    assert_eq!(nodes.len(), 2);
    let keys: Vec<_> = nodes[0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "ID",
            "Node",
            "Address",
            "TaggedAddresses",
            "Meta",
            "Services",
            "Checks"
        ]
    );
    assert_eq!(nodes[0]["ID"], "11111111-1111-1111-1111-111111111111");
    assert_eq!(nodes[0]["Meta"], json!({"rack": "r1"}));
    assert_eq!(nodes[0]["Services"][0]["Tags"], json!(["b", "a"]));
    assert_eq!(nodes[0]["Checks"][0]["CheckID"], "alive");
    assert_eq!(nodes[0]["Checks"][0]["ServiceTags"], Value::Null);
    assert_eq!(nodes[0]["Checks"][1]["ServiceTags"], json!(["b", "a"]));
    assert_eq!(nodes[1]["ID"], "");
    assert_eq!(nodes[1]["Services"][0]["ID"], "p");
    assert_eq!(nodes[1]["Services"][0]["Tags"], Value::Null);
    assert_eq!(get(&site, "/v1/internal/ui/node/n2"), nodes[1]);
    for (filter, expected) in [
        ("Meta.rack==r1", &["n1"][..]),
        ("Services.Service==\"web-proxy\"", &["n2"]),
        ("Checks.Status==warning", &["n2"]),
        ("Checks+is+not+empty", &["n1", "n2"]),
        ("Node+matches+n", &["n1", "n2"]),
    ] {
        let found = get(&site, &format!("/v1/internal/ui/nodes?filter={filter}"));
        let found: Vec<_> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|node| &node["Node"])
            .collect();
        assert_eq!(found, expected, "{filter}");
    }
}

#[test]
fn what_is_not_there() {
    let site = Site::new();
    for list in ["services", "nodes", "gateway-services-nodes/x"] {
        let response = site.ask(&format!("GET /v1/internal/ui/{list}"));
        response.assert_text(200, "[]");
        assert_eq!(response.index(), 1, "{list}");
        assert_eq!(response.header("X-Consul-Effective-Consistency"), None);
    }
    let response = site.ask("GET /v1/internal/ui/node/x");
    response.assert_text(404, "");
    assert_eq!(response.header("X-Consul-Index"), None);
    site.ask("GET /v1/internal/ui/node/")
        .assert_text(400, "Missing node name");
    site.ask("GET /v1/internal/ui/gateway-services-nodes/")
        .assert_text(400, "Missing gateway name");
    assert_eq!(site.ask("GET /v1/internal/ui/oidc-auth-methods").status(), 404);
    let wrong = site.ask("GET /v1/internal/ui/nodes?filter=Bogus==1");
    wrong.assert_text(
        500,
        "Failed to create boolean expression evaluator: Selector \"Bogus\" is not valid",
    );
    assert_eq!(wrong.index(), 1);
}
