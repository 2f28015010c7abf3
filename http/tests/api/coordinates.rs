//! Where nodes are.

use std::sync::atomic::Ordering;

use lictor_http::{Config, Limits};

use crate::support::{Site, eventually};

const COORD: &str = r#"{"Vec":[0.1,0,0,0,0,0,0,0],"Error":1.5,"Adjustment":0,"Height":0.0001}"#;

fn put(body: &str) -> String {
    format!("PUT /v1/coordinate/update\n\n{body}")
}

#[test]
fn an_empty_table() {
    let site = Site::new();
    let nodes = site.ask("GET /v1/coordinate/nodes");
    nodes.assert_text(200, "[]");
    assert_eq!(nodes.index(), 1);
    assert_eq!(nodes.header("X-Consul-Knownleader"), Some("true"));
    for target in ["n1", "n1?segment=x", ""] {
        let response = site.ask(&format!("GET /v1/coordinate/node/{target}"));
        response.assert_text(404, "");
        assert_eq!(response.header("X-Consul-Index"), None);
        assert_eq!(response.header("Content-Type"), None);
    }
}

#[test]
fn updates_are_seen() {
    let site = Site::new();
    site.memory.skip_to(4);
    let response = site.ask(&put(&format!(r#"{{"node":"n1","Segment":"","coord":{COORD}}}"#)));
    response.assert_text(200, "");
    assert_eq!(
        (response.header("Content-Type"), response.header("Content-Length")),
        (None, Some("0"))
    );
    let one = |node: &str| format!(r#"[{{"Node":"{node}","Segment":"","Coord":{COORD}}}]"#);
    for target in [
        "nodes",
        "nodes?segment=",
        "nodes?stale",
        "nodes?ns=x",
        "node/n1",
        "node/n1?segment=",
    ] {
        let response = site.ask(&format!("GET /v1/coordinate/{target}"));
        response.assert_text(200, &one("n1"));
        assert_eq!(response.index(), 5, "{target}");
    }
    site.ask("GET /v1/coordinate/node/N1")
        .assert_text(200, &one("N1"));
    site.ask("GET /v1/coordinate/nodes?segment=x")
        .assert_text(200, "[]");
    site.ask("GET /v1/coordinate/node/n1?segment=x")
        .assert_text(404, "");

    // Of nodes that nobody knows nothing is kept, and nothing said.
    for node in ["ghost", ""] {
        site.ask(&put(&format!(r#"{{"Node":"{node}","Coord":{COORD}}}"#)))
            .assert_text(200, "");
    }
    site.ask("GET /v1/coordinate/nodes").assert_text(200, &one("n1"));
}

#[test]
fn an_agent_without_coordinates_says_so() {
    let config = Config {
        coordinates: false,
        ..Config::default()
    };
    let site = Site::with(config, Limits::default());
    for request in [
        "GET /v1/coordinate/datacenters",
        "GET /v1/coordinate/nodes",
        "GET /v1/coordinate/node/a",
        "PUT /v1/coordinate/update",
    ] {
        site.ask(request).assert_text(401, "Coordinate support disabled");
    }
}

#[test]
fn where_updates_go() {
    let site = Site::new();
    let put = |query: &str, more: &str| {
        site.ask(&format!(
            "PUT /v1/coordinate/update{query}\n\n{{\"Node\":\"n1\",\"Coord\":{COORD}{more}}}"
        ))
    };
    put("?stale&consistent&index=zz", "").assert_text(200, "");
    put("?dc=mars", "").assert_text(500, "No path to datacenter");
    put("", r#","Datacenter":"mars""#).assert_text(500, "No path to datacenter");
    put("?dc=dc1", r#","Datacenter":"mars","Token":"body""#).assert_text(200, "");
    let token = || {
        let options = site.memory.last_write.lock().unwrap().take().unwrap();
        options.token.map(|token| token.expose().to_owned())
    };
    assert_eq!(token().as_deref(), Some("body"));
    put("?token=query", r#","Token":"body""#).assert_text(200, "");
    assert_eq!(token().as_deref(), Some("query"));
}

#[test]
fn bad_updates() {
    let site = Site::new();
    let field = "json: cannot unmarshal";
    for (body, why) in [
        ("", "EOF".to_owned()),
        ("{", "unexpected EOF".to_owned()),
        (
            "[]",
            format!("{field} array into Go value of type structs.CoordinateUpdateRequest"),
        ),
        (
            r#"{"Node":5}"#,
            format!("{field} number into Go struct field CoordinateUpdateRequest.Node of type string"),
        ),
        (r#"{"Bogus":5}"#, "json: unknown field \"Bogus\"".to_owned()),
        (
            r#"{"Coord":5}"#,
            format!(
                "{field} number into Go struct field CoordinateUpdateRequest.Coord of type coordinate.Coordinate"
            ),
        ),
        (
            r#"{"Coord":{"Vec":["a"]}}"#,
            format!("{field} string into Go struct field Coordinate.Coord.Vec of type float64"),
        ),
        (
            r#"{"Coord":{"Vec":5}}"#,
            format!("{field} number into Go struct field Coordinate.Coord.Vec of type []float64"),
        ),
        (
            r#"{"Coord":{"Error":"a"}}"#,
            format!("{field} string into Go struct field Coordinate.Coord.Error of type float64"),
        ),
        (
            r#"{"Coord":{"Bogus":"a"}}"#,
            "json: unknown field \"Bogus\"".to_owned(),
        ),
        (
            r#"{"Node":"n1"}"#,
            "there is no Coord: it must have Vec, Error, Adjustment and Height".to_owned(),
        ),
    ] {
        site.ask(&put(body))
            .assert_text(400, &format!("Request decode failed: {why}"));
    }
    let huge = site.ask(&put(r#"{"Coord":{"Vec":[1e400]}}"#));
    assert_eq!(huge.status(), 400);
    for (coord, why) in [
        (r#"{"Vec":[0],"Error":1}"#, "incompatible coordinate"),
        (
            r#"{"Vec":[0,0,0,0,0,0,0,0,0],"Error":1}"#,
            "incompatible coordinate",
        ),
        ("{}", "incompatible coordinate"),
        (r#"{"Vec":[0,0,0,0,0,0,0,1e300]}"#, "invalid coordinate"),
        (r#"{"Vec":[0,0,0,0,0,0,0,0],"Error":77}"#, "invalid coordinate"),
        (r#"{"Vec":[0,0,0,0,0,0,0,0],"Height":-5}"#, "invalid coordinate"),
    ] {
        site.ask(&put(&format!(r#"{{"Node":"n1","Coord":{coord}}}"#)))
            .assert_text(500, why);
    }
    let long = put(&" ".repeat(70_000));
    site.ask(&long)
        .assert_text(413, "Request body(70000 bytes) too large, max size: 65536 bytes.");
    site.ask("GET /v1/coordinate/nodes").assert_text(200, "[]");
}

#[test]
fn queries_can_wait() {
    let site = Site::new();
    let update = |node: &str, height: &str| {
        let coord = COORD.replace("0.0001", height);
        site.ask(&put(&format!(r#"{{"Node":"{node}","Coord":{coord}}}"#)))
            .assert_text(200, "");
    };
    update("n1", "1");
    let mut clients = ["nodes", "node/n1", "node/n2"].map(|target| {
        let mut client = site.connect();
        client.send(&format!("GET /v1/coordinate/{target}?index=1"));
        client
    });
    eventually("queries wait", || site.memory.waiting.load(Ordering::SeqCst) == 3);
    update("n2", "1");
    let [nodes, n1, n2] = &mut clients;
    let response = nodes.receive(false);
    assert_eq!((response.status(), response.index()), (200, 2));
    assert_eq!(n2.receive(false).index(), 2);
    eventually("one query waits", || {
        site.memory.waiting.load(Ordering::SeqCst) == 1
    });
    update("n1", "2");
    let response = n1.receive(false);
    assert_eq!(response.index(), 3);
    assert!(response.text().contains("\"Height\":2}"));
}

#[test]
fn failures_tell_that_nothing_is_known() {
    let site = Site::new();
    for target in ["nodes?index=zz", "node/n1?index=zz"] {
        let response = site.ask(&format!("GET /v1/coordinate/{target}"));
        response.assert_text(400, "Invalid index");
        assert_eq!(response.header("X-Consul-Index"), None);
    }
    let response = site.ask("GET /v1/coordinate/nodes?dc=mars");
    response.assert_is(
        "HTTP/1.1 500 Internal Server Error\nContent-Length: 21\nContent-Type: text/plain; charset=utf-8\nVary: Accept-Encoding\nX-Consul-Index: 1\nX-Consul-Knownleader: false\nX-Consul-Lastcontact: 0\n\nNo path to datacenter",
    );
}

#[test]
fn the_servers_of_all_data_centers() {
    let site = Site::with(
        Config {
            always_pretty: true,
            ..Config::default()
        },
        Limits::default(),
    );
    let response = site.ask("GET /v1/coordinate/datacenters?dc=mars&index=zz");
    let numbers = "                        0,\n".repeat(4) + "                        0\n";
    response.assert_text(
        200,
        &format!(
            r#"[
    {{
        "Datacenter": "dc1",
        "AreaID": "wan",
        "Coordinates": [
            {{
                "Node": "n1",
                "Segment": "",
                "Coord": {{
                    "Vec": [
                        0,
                        0.1,
                        -2,
{numbers}                    ],
                    "Error": 1.5,
                    "Adjustment": 0,
                    "Height": 0.00001
                }}
            }}
        ]
    }}
]
"#
        ),
    );
    assert_eq!(response.header("X-Consul-Index"), None);
    assert_eq!(response.header("X-Consul-Knownleader"), None);
}
