//! Prepared queries.

use std::time::Duration;

use lictor_catalog::Target;
use lictor_http::{Failure, ReadMode};
use serde_json::{Value, json};

use crate::support::{Response, Site};

/// A site with two instances of `web`, of which one is down, and one of `bare`.
fn site() -> Site {
    let site = Site::new();
    for body in [
        r#"{"Node":"a","Address":"10.0.0.1","Service":{"Service":"web","Port":1,"Tags":["x"]},"Check":{"Name":"up","Status":"passing"}}"#,
        r#"{"Node":"b","Address":"10.0.0.2","Service":{"Service":"web","Port":2},"Check":{"Name":"down","ServiceID":"web"}}"#,
        r#"{"Node":"c","Address":"10.0.0.3","Service":{"Service":"bare","Port":3}}"#,
    ] {
        let registered = site.ask(&format!("PUT /v1/catalog/register\n\n{body}"));
        registered.assert_text(200, "true");
    }
    site
}

fn json(response: &Response) -> Value {
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    serde_json::from_slice(&response.body).unwrap()
}

fn create(site: &Site, body: &str) -> String {
    let made = json(&site.ask(&format!("POST /v1/query\n\n{body}")));
    let id = made["ID"].as_str().unwrap().to_owned();
    assert_eq!(made, json!({ "ID": id }));
    id
}

/// The nodes that a query finds.
fn nodes(site: &Site, target: &str) -> Vec<String> {
    let found = json(&site.ask(&format!("GET /v1/query/{target}")));
    let nodes = found["Nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| node["Node"]["Node"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_query_has_its_members_in_their_order() {
    let site = site();
    let full = r#"{"Name":"q9","Token":"tok","Template":{"Type":"","Regexp":"(","RemoveEmptyTags":true},
        "Service":{"Service":"web","Failover":{"NearestN":3,"Datacenters":["dc2","dc3"]},"OnlyPassing":true,"IgnoreCheckIDs":["c"],
        "Near":"_agent","Tags":["x","!y"],"NodeMeta":{"a":"b"},"ServiceMeta":{"c d":"e"},"Connect":true},"DNS":{"TTL":"10s"},"CreateIndex":99}"#;
    let id = create(&site, full);
    let expected = format!(
        "[{{\"ID\":\"{id}\",\"Name\":\"q9\",\"Session\":\"\",\"Token\":\"tok\",\"Template\":{{\"Type\":\"\",\"Regexp\":\"(\",\
         \"RemoveEmptyTags\":true}},\"Service\":{{\"Service\":\"web\",\"Failover\":{{\"NearestN\":3,\"Datacenters\":[\"dc2\",\"dc3\"]}},\
         \"OnlyPassing\":true,\"IgnoreCheckIDs\":[\"c\"],\"Near\":\"_agent\",\"Tags\":[\"x\",\"!y\"],\"NodeMeta\":{{\"a\":\"b\"}},\
         \"ServiceMeta\":{{\"c d\":\"e\"}},\"Connect\":true}},\"DNS\":{{\"TTL\":\"10s\"}},\"CreateIndex\":4,\"ModifyIndex\":4}}]"
    );
    for target in ["", &format!("/{id}"), &format!("/{}", id.to_uppercase())] {
        let found = site.ask(&format!("GET /v1/query{target}"));
        found.assert_text(200, &expected);
        assert_eq!(found.index(), 4);
        assert_eq!(found.header("X-Consul-Effective-Consistency"), Some("leader"));
    }
    let updated = site.ask(&format!(
        "PUT /v1/query/{id}\n\n{{\"id\":\"zz\",\"name\":\"Q9\",\"service\":{{\"service\":\"web\",\"Tags\":[],\"NodeMeta\":{{}},\
         \"Failover\":{{\"Datacenters\":[]}}}}}}"
    ));
    updated.assert_text(200, "");
    assert_eq!(updated.header("Content-Type"), None);
    let expected = format!(
        "[{{\"ID\":\"{id}\",\"Name\":\"Q9\",\"Session\":\"\",\"Token\":\"\",\"Template\":{{\"Type\":\"\",\"Regexp\":\"\",\
         \"RemoveEmptyTags\":false}},\"Service\":{{\"Service\":\"web\",\"Failover\":{{\"NearestN\":0,\"Datacenters\":[]}},\
         \"OnlyPassing\":false,\"IgnoreCheckIDs\":null,\"Near\":\"\",\"Tags\":[],\"NodeMeta\":{{}},\"ServiceMeta\":null,\
         \"Connect\":false}},\"DNS\":{{\"TTL\":\"\"}},\"CreateIndex\":4,\"ModifyIndex\":5}}]"
    );
    site.ask("GET /v1/query?index=4&wait=20s")
        .assert_text(200, &expected);
    site.ask(&format!("DELETE /v1/query/{id}")).assert_text(200, "");
    let again = site.ask(&format!("DELETE /v1/query/{id}"));
    again.assert_text(500, &format!("Cannot modify non-existent prepared query: '{id}'"));
    let gone = site.ask(&format!("GET /v1/query/{id}"));
    gone.assert_text(404, "Query not found");
    assert_eq!(gone.header("X-Consul-Index"), None);
    site.ask("GET /v1/query").assert_text(200, "[]");
}

#[test]
fn what_a_query_finds() {
    let site = site();
    create(
        &site,
        r#"{"Name":"q1","Service":{"Service":"web"},"DNS":{"TTL":"7s"}}"#,
    );
    let found = site.ask("GET /v1/query/Q1/execute?index=1&passing");
    found.assert_text(
        200,
        "{\"Service\":\"web\",\"Nodes\":[{\"Node\":{\"ID\":\"\",\"Node\":\"a\",\"Address\":\"10.0.0.1\",\"Datacenter\":\"dc1\",\
         \"TaggedAddresses\":null,\"Meta\":null,\"CreateIndex\":1,\"ModifyIndex\":1},\"Service\":{\"ID\":\"web\",\"Service\":\"web\",\
         \"Tags\":[\"x\"],\"Address\":\"\",\"Meta\":null,\"Port\":1,\"Weights\":{\"Passing\":1,\"Warning\":1},\
         \"EnableTagOverride\":false,\"Proxy\":{\"MeshGateway\":{},\"Expose\":{}},\"Connect\":{},\"CreateIndex\":1,\"ModifyIndex\":1},\
         \"Checks\":[{\"Node\":\"a\",\"CheckID\":\"up\",\"Name\":\"up\",\"Status\":\"passing\",\"Notes\":\"\",\"Output\":\"\",\
         \"ServiceID\":\"\",\"ServiceName\":\"\",\"ServiceTags\":null,\"Type\":\"\",\"Definition\":{},\"CreateIndex\":1,\
         \"ModifyIndex\":1}]}],\"DNS\":{\"TTL\":\"7s\"},\"Datacenter\":\"dc1\",\"Failovers\":0,\"Index\":0,\"LastContact\":0,\
         \"KnownLeader\":true,\"ConsistencyLevel\":\"leader\"}",
    );
    assert_eq!(found.index(), 1);
    assert_eq!(found.header("X-Consul-Effective-Consistency"), Some("leader"));
    assert_eq!(
        (found.header("X-Cache"), found.header("X-Consul-Knownleader")),
        (None, Some("true"))
    );
    let stale = site.ask("GET /v1/query/q1/execute?stale&cached");
    assert_eq!(stale.header("X-Consul-Effective-Consistency"), Some("stale"));
    assert_eq!(stale.header("X-Cache"), Some("MISS"));
    assert_eq!(json(&stale)["ConsistencyLevel"], "stale");
    let nothing = json(&site.ask("GET /v1/query/q1/execute?connect=true"));
    assert_eq!(nothing["Nodes"], json!([]));
    create(&site, r#"{"Name":"bare","Service":{"Service":"BARE"}}"#);
    let bare = json(&site.ask("GET /v1/query/bare/execute"));
    assert_eq!(bare["Service"], "BARE");
    assert_eq!(bare["Nodes"][0]["Checks"], Value::Null);
    assert_eq!(bare["Nodes"][0]["Service"]["Tags"], Value::Null);
    create(
        &site,
        r#"{"Name":"a/b","Service":{"Service":"web","IgnoreCheckIDs":["down"],"Tags":["!X"]}}"#,
    );
    assert_eq!(nodes(&site, "a/b/execute"), ["b"]);
    create(&site, r#"{"Name":"execute","Service":{"Service":"web"}}"#);
    assert_eq!(nodes(&site, "execute"), ["a"], "a query of this name");
}

#[test]
fn what_is_asked_of_the_cluster() {
    let site = site();
    create(
        &site,
        r#"{"Name":"q1","Service":{"Service":"web","IgnoreCheckIDs":["down"]}}"#,
    );
    let asked = || site.memory.last_execute.lock().unwrap().take().unwrap();
    assert_eq!(nodes(&site, "q1/execute?limit=1&near=_ip&max_stale=3s").len(), 1);
    let execute = asked();
    assert_eq!(execute.target, Target::Named("q1".to_owned()));
    assert_eq!((&*execute.near, &*execute.agent), ("_ip", "n1"));
    assert_eq!((execute.limit, execute.connect), (1, false));
    assert_eq!(execute.client, Some([127, 0, 0, 1].into()));
    let mode = site.memory.last_read.lock().unwrap().take().unwrap().mode;
    let max = Some(Duration::from_secs(3));
    assert_eq!(mode, ReadMode::Stale { max });
    let forwarded =
        site.ask("GET /v1/query/q1/execute?limit=-1&connect=f\nX-Forwarded-For: 10.9.8.7, 1.1.1.1\n");
    assert_eq!(forwarded.status(), 200);
    let other = asked();
    assert_eq!(other.client, Some([10, 9, 8, 7].into()));
    assert_eq!(other.limit, 0);
    assert_ne!(other.seed, execute.seed);
}

#[test]
fn templates_are_explained() {
    let site = site();
    let id = create(
        &site,
        r#"{"Name":"geo-","Template":{"Type":"name_prefix_match","Regexp":"^geo-(.)"},
            "Service":{"Service":"${name.suffix}","Tags":["${match(1)}"]}}"#,
    );
    let explained = site.ask("GET /v1/query/geo-web/explain?index=1");
    let found = json(&explained);
    assert_eq!(found["Query"]["Service"]["Service"], "web");
    assert_eq!(found["Query"]["Service"]["Tags"], json!(["w"]));
    assert_eq!(found["Query"]["ID"], json!(id));
    assert!(
        explained
            .text()
            .ends_with("\"Index\":0,\"LastContact\":0,\"KnownLeader\":true,\"ConsistencyLevel\":\"leader\"}")
    );
    assert_eq!(explained.index(), 1);
    assert_eq!(explained.header("X-Consul-Effective-Consistency"), Some("leader"));
    let by_id = "prepared query templates can only be resolved up by name, not by ID";
    for verb in ["explain", "execute"] {
        let refused = site.ask(&format!("GET /v1/query/{id}/{verb}"));
        refused.assert_text(500, by_id);
        assert_eq!(refused.header("X-Consul-Knownleader"), Some("false"));
        site.ask(&format!("GET /v1/query/none/{verb}"))
            .assert_text(404, "Query not found");
    }
}

#[test]
fn bodies_that_are_none() {
    let site = site();
    let unmarshal = |what: &str| format!("Request decode failed: json: cannot unmarshal {what}");
    let field = |found: &str, name: &str, kind: &str| {
        unmarshal(&format!("{found} into Go struct field {name} of type {kind}"))
    };
    for (body, why) in [
        ("", "Request decode failed: EOF".to_owned()),
        ("{", "Request decode failed: unexpected EOF".to_owned()),
        (
            "[]",
            unmarshal("array into Go value of type structs.PreparedQuery"),
        ),
        (
            r#"{"Bogus":1}"#,
            "Request decode failed: json: unknown field \"Bogus\"".to_owned(),
        ),
        (
            r#"{"Service":{"Bogus":1}}"#,
            "Request decode failed: json: unknown field \"Bogus\"".to_owned(),
        ),
        (r#"{"Name":1}"#, field("number", "PreparedQuery.Name", "string")),
        (
            r#"{"Service":1}"#,
            field("number", "PreparedQuery.Service", "structs.ServiceQuery"),
        ),
        (
            r#"{"Service":{"Tags":[1]}}"#,
            field("number", "ServiceQuery.Service.Tags", "string"),
        ),
        (
            r#"{"Service":{"NodeMeta":[1]}}"#,
            field("array", "ServiceQuery.Service.NodeMeta", "map[string]string"),
        ),
        (
            r#"{"Service":{"Failover":{"NearestN":"x"}}}"#,
            field(
                "string",
                "QueryDatacenterOptions.Service.Failover.NearestN",
                "int",
            ),
        ),
        (
            r#"{"Service":{"Failover":1}}"#,
            field(
                "number",
                "ServiceQuery.Service.Failover",
                "structs.QueryDatacenterOptions",
            ),
        ),
        (
            r#"{"Template":1}"#,
            field("number", "PreparedQuery.Template", "structs.QueryTemplateOptions"),
        ),
        (
            r#"{"DNS":{"TTL":1}}"#,
            field("number", "QueryDNSOptions.DNS.TTL", "string"),
        ),
        (
            r#"{"CreateIndex":"a"}"#,
            field("string", "PreparedQuery.CreateIndex", "uint64"),
        ),
    ] {
        site.ask(&format!("POST /v1/query\n\n{body}"))
            .assert_text(400, &why);
    }
    site.ask("PUT /v1/query/zz\n\n{")
        .assert_text(400, "Request decode failed: unexpected EOF");
}

#[test]
fn queries_that_make_no_sense() {
    let site = site();
    create(&site, r#"{"Name":"taken","Service":{"Service":"web"}}"#);
    let invalid = |why: &str| format!("Invalid prepared query: {why}");
    let template = |why: &str| format!("failed compiling template: {why}");
    for (body, why) in [
        (
            r#"{"ID":"x"}"#,
            "ID must be empty when creating a new prepared query".to_owned(),
        ),
        ("{}", invalid("Must be bound to a session")),
        (r#"{"Name":"q"}"#, invalid("Must provide a Service name to query")),
        (
            r#"{"Name":"q","Service":{"Service":"s"},"DNS":{"TTL":"zz"}}"#,
            invalid("Bad DNS TTL 'zz': time: invalid duration \"zz\""),
        ),
        (
            r#"{"Name":"q","Service":{"Service":"s"},"DNS":{"TTL":"-1ms"}}"#,
            invalid("DNS TTL '-1000000', must be >=0"),
        ),
        (
            r#"{"Name":"q","Service":{"Service":"s"},"Session":"zz"}"#,
            "invalid session: index error: UUID must be 36 characters".to_owned(),
        ),
        (
            r#"{"Name":"TAKEN","Service":{"Service":"s"}}"#,
            "name 'TAKEN' aliases an existing query name".to_owned(),
        ),
        (
            r#"{"Name":"q","Service":{"Service":"s"},"Template":{"Type":"bogus"}}"#,
            template("Bad Template.Type 'bogus'"),
        ),
        (
            r#"{"Name":"q","Service":{"Service":"s"},"Template":{"Type":"name_prefix_match","Regexp":"("}}"#,
            template("Bad Regexp: error parsing regexp: missing closing ): `(`"),
        ),
        (
            r#"{"Name":"q","Service":{"Service":"${bogus("},"Template":{"Type":"name_prefix_match"}}"#,
            template("Bad format '${bogus(' in Service.Service: parse error: syntax error"),
        ),
    ] {
        site.ask(&format!("POST /v1/query\n\n{body}"))
            .assert_text(500, &why);
    }
    let none = "00000000-0000-0000-0000-000000000000";
    let missing = format!("Cannot modify non-existent prepared query: '{none}'");
    for body in ["", "{}", r#"{"Name":"q","Service":{"Service":"s"}}"#] {
        site.ask(&format!("PUT /v1/query/{none}\n\n{body}"))
            .assert_text(500, &missing);
    }
    let malformed = "failed prepared query lookup: index error: UUID must be 36 characters";
    for id in ["zz", ""] {
        let refused = format!("Prepared Query lookup failed: {malformed}");
        site.ask(&format!("PUT /v1/query/{id}\n\n{{}}"))
            .assert_text(500, &refused);
        site.ask(&format!("DELETE /v1/query/{id}"))
            .assert_text(500, &refused);
        let found = site.ask(&format!("GET /v1/query/{id}"));
        found.assert_text(500, malformed);
        assert_eq!(found.header("X-Consul-Knownleader"), Some("false"));
    }
    let kept = create(&site, r#"{"Name":"kept","Service":{"Service":"s"}}"#);
    site.ask(&format!("PUT /v1/query/{kept}\n\n{{}}"))
        .assert_text(500, &invalid("Must be bound to a session"));
}

#[test]
fn parameters_that_make_no_sense() {
    let site = site();
    create(&site, r#"{"Name":"q","Service":{"Service":"web"}}"#);
    for (query, status, why) in [
        (
            "limit=zz",
            500,
            "Bad limit: strconv.Atoi: parsing \"zz\": invalid syntax",
        ),
        (
            "limit=99999999999999999999",
            500,
            "Bad limit: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
        ),
        ("limit=zz&index=zz", 400, "Invalid index"),
        (
            "connect=zz",
            500,
            "Error parsing 'connect' value: strconv.ParseBool: parsing \"zz\": invalid syntax",
        ),
        ("dc=mars", 500, "No path to datacenter"),
        (
            "stale&consistent",
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
    ] {
        site.ask(&format!("GET /v1/query/q/execute?{query}"))
            .assert_text(status, why);
    }
    site.ask("GET /v1/query/q/explain?limit=zz")
        .assert_text(500, "Bad limit: strconv.Atoi: parsing \"zz\": invalid syntax");
    *site.memory.failure.lock().unwrap() = Some(Failure::NoLeader);
    let failed = site.ask("GET /v1/query/q/execute");
    failed.assert_text(500, "No cluster leader");
    assert_eq!(failed.header("X-Consul-Knownleader"), Some("false"));
}

#[test]
fn methods() {
    let site = site();
    for (request, allow) in [
        ("PUT /v1/query", "OPTIONS,GET,POST"),
        ("POST /v1/query/x", "GET,PUT,DELETE"),
        ("PUT /v1/query/x/execute", "GET"),
        ("DELETE /v1/query/x/explain", "GET"),
    ] {
        let refused = site.ask(&format!("{request}\n\n{{}}"));
        assert_eq!(
            (refused.status(), refused.header("Allow")),
            (405, Some(allow)),
            "{request}"
        );
    }
    for (path, allow) in [
        ("/v1/query", "OPTIONS,GET,POST"),
        ("/v1/query/x", "OPTIONS,GET,PUT,DELETE"),
        ("/v1/query/x/execute", "OPTIONS,GET"),
        ("/v1/query/x/explain", "OPTIONS,GET"),
    ] {
        assert_eq!(
            site.ask(&format!("OPTIONS {path}")).header("Allow"),
            Some(allow),
            "{path}"
        );
    }
}
