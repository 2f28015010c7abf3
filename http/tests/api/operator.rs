//! The servers, and how they look after themselves.

use std::net::SocketAddr;
use std::time::Duration;

use lictor_gossip::MemberState;
use lictor_http::{Failure, RaftServer, ServerHealth, ServersHealth};
use lictor_machine::{Index, NodeId, UnixMillis};

use crate::support::Site;
use crate::support::agent::ME;

const CONFIG: &str = "/v1/operator/autopilot/configuration";

fn servers() -> [RaftServer; 2] {
    let me = RaftServer {
        id: ME,
        name: Some("n1".to_owned()),
        address: Some(SocketAddr::from(([127, 0, 0, 1], 8300))),
        leader: true,
        voter: true,
    };
    let stranger = RaftServer {
        id: NodeId(2),
        name: None,
        address: None,
        leader: false,
        voter: false,
    };
    [me, stranger]
}

#[test]
fn the_raft_configuration() {
    let site = Site::new();
    let target = "/v1/operator/raft/configuration";
    site.ask(&format!("GET {target}"))
        .assert_text(200, r#"{"Servers":null,"Index":0}"#);
    *site.memory.servers.lock().unwrap() = servers().into();
    let response = site.ask(&format!("GET {target}?stale"));
    response.assert_text(
        200,
        r#"{"Servers":[{"ID":"603577f4-8b5a-2e6a-ad92-5a6ea4f8c8de","Node":"n1","Address":"127.0.0.1:8300","Leader":true,"ProtocolVersion":"3","Voter":true},{"ID":"00000000-0000-0000-0000-000000000002","Node":"(unknown)","Address":"","Leader":false,"ProtocolVersion":"3","Voter":false}],"Index":0}"#,
    );
    assert_eq!(response.header("X-Consul-Index"), None);
    assert_eq!(site.memory.take_asked(), ["raft servers", "raft servers, stale"]);
    for (query, status, why) in [
        ("dc=mars", 500, "No path to datacenter"),
        (
            "stale&consistent",
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
        ("index=zz", 400, "Invalid index"),
    ] {
        site.ask(&format!("GET {target}?{query}"))
            .assert_text(status, why);
    }
}

#[test]
fn removing_a_server() {
    let site = Site::new();
    let remove = |query: &str| site.ask(&format!("DELETE /v1/operator/raft/peer{query}"));
    let id = format!("?id={ME}");
    for query in [&id[..], "?address=127.0.0.1:8300&index=zz&stale&consistent"] {
        let response = remove(query);
        response.assert_text(200, "");
        assert_eq!(response.header("Content-Type"), None);
    }
    assert_eq!(
        site.memory.take_asked(),
        [format!("remove {ME}"), "remove 127.0.0.1:8300".to_owned()]
    );
    remove("").assert_text(
        400,
        "Bad request: Must specify either ?id with the server's ID or ?address with IP:port of peer to remove",
    );
    for query in ["?id=a&address=b", "?id=&address=1.2.3.4:5", "?id=&address="] {
        remove(query).assert_text(400, "Bad request: Must specify only one of ?id or ?address");
    }
    for (query, why) in [
        ("?id=nope", "id \"nope\" was not found in the Raft configuration"),
        (
            "?address=1.2.3.4:5",
            "address \"1.2.3.4:5\" was not found in the Raft configuration",
        ),
        ("?id=nope&dc=mars", "No path to datacenter"),
    ] {
        remove(query).assert_text(500, why);
    }
    let response = site.ask("GET /v1/operator/raft/peer");
    response.assert_text(405, "method GET not allowed");
    assert_eq!(response.header("Allow"), Some("OPTIONS,DELETE"));
}

#[test]
fn autopilot_is_set_as_a_whole() {
    let site = Site::new();
    let get = || site.ask(&format!("GET {CONFIG}")).text().to_owned();
    let put = |body: &str| site.ask(&format!("PUT {CONFIG}?index=zz&stale&consistent\n\n{body}"));
    assert_eq!(
        get(),
        r#"{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,"MinQuorum":0,"ServerStabilizationTime":"10s","RedundancyZoneTag":"","DisableUpgradeMigration":false,"UpgradeVersionTag":"","CreateIndex":0,"ModifyIndex":0}"#
    );
    put(r#"{"ServerStabilizationTime":"1h2m3.5s","lastcontactthreshold":1500000,"CreateIndex":77,"ModifyIndex":99,"UpgradeVersionTag":"<b>"}"#)
        .assert_text(200, "true");
    let expected = |create: u64, modify: u64| {
        format!(
            r#"{{"CleanupDeadServers":false,"LastContactThreshold":"1.5ms","MaxTrailingLogs":0,"MinQuorum":0,"ServerStabilizationTime":"1h2m3.5s","RedundancyZoneTag":"","DisableUpgradeMigration":false,"UpgradeVersionTag":"\u003cb\u003e","CreateIndex":{create},"ModifyIndex":{modify}}}"#
        )
    };
    assert_eq!(get(), expected(1, 1));
    let response = site.ask(&format!("GET {CONFIG}?index=1&wait=10m"));
    response.assert_text(200, &expected(1, 1));
    assert_eq!(
        response.header("X-Consul-Index"),
        None,
        "there is nothing to wait on"
    );
    put(&get()).assert_text(200, "true");
    assert_eq!(get(), expected(1, 1), "what changes nothing is no change");
    put("{}").assert_text(200, "true");
    put(&expected(0, 0)).assert_text(200, "true");
    assert_eq!(get(), expected(1, 4));
}

#[test]
fn autopilot_is_set_on_a_condition() {
    let site = Site::new();
    let put = |query: &str, body: &str| site.ask(&format!("PUT {CONFIG}{query}\n\n{body}"));
    put("?cas=7", "{}").assert_text(200, "false");
    put("?cas=0", "{}").assert_text(200, "true");
    put("?cas=0", r#"{"MinQuorum":3}"#).assert_text(200, "false");
    put("?cas=2", r#"{"MinQuorum":3}"#).assert_text(200, "true");
    for value in ["zz", "", "-1"] {
        put(&format!("?cas={value}"), "{}").assert_text(
            400,
            &format!(
                "Bad request: Error parsing cas value: strconv.ParseUint: parsing \"{value}\": invalid syntax"
            ),
        );
    }
    put("?dc=mars", "{}").assert_text(200, "true");
    let asked = site.memory.last_write.lock().unwrap().take().unwrap();
    assert_eq!(asked.datacenter.as_deref(), Some("mars"));
}

#[test]
fn bad_autopilot_settings() {
    let site = Site::new();
    let type_of = |found: &str, field: &str, wanted: &str| {
        format!(
            "json: cannot unmarshal {found} into Go struct field AutopilotConfiguration.{field} of type {wanted}"
        )
    };
    let long = format!(r#"{{"RedundancyZoneTag":"{}"}}"#, "x".repeat(129));
    for (body, why) in [
        ("", "EOF".to_owned()),
        ("{", "unexpected EOF".to_owned()),
        (
            "[]",
            "json: cannot unmarshal array into Go value of type api.AutopilotConfiguration".to_owned(),
        ),
        (
            r#"{"ServerStabilizationTime":"zz"}"#,
            "time: invalid duration \"zz\"".to_owned(),
        ),
        (
            r#"{"ServerStabilizationTime":"10"}"#,
            "time: missing unit in duration \"10\"".to_owned(),
        ),
        (
            r#"{"ServerStabilizationTime":true}"#,
            "strconv.ParseFloat: parsing \"true\": invalid syntax".to_owned(),
        ),
        (
            r#"{"ServerStabilizationTime":"-5s"}"#,
            "ServerStabilizationTime must not be negative, and is \"-5s\"".to_owned(),
        ),
        (
            r#"{"MaxTrailingLogs":-5}"#,
            type_of("number -5", "MaxTrailingLogs", "uint64"),
        ),
        (
            r#"{"MaxTrailingLogs":5.5}"#,
            type_of("number 5.5", "MaxTrailingLogs", "uint64"),
        ),
        (
            r#"{"MaxTrailingLogs":"5"}"#,
            type_of("string", "MaxTrailingLogs", "uint64"),
        ),
        (r#"{"MinQuorum":-5}"#, type_of("number -5", "MinQuorum", "uint")),
        (
            r#"{"CleanupDeadServers":"yes"}"#,
            type_of("string", "CleanupDeadServers", "bool"),
        ),
        (
            r#"{"RedundancyZoneTag":5}"#,
            type_of("number", "RedundancyZoneTag", "string"),
        ),
        (r#"{"Bogus":5}"#, "json: unknown field \"Bogus\"".to_owned()),
        (
            &long,
            "RedundancyZoneTag has 129 bytes, and may have 128".to_owned(),
        ),
    ] {
        for query in ["", "?cas=zz"] {
            site.ask(&format!("PUT {CONFIG}{query}\n\n{body}")).assert_text(
                400,
                &format!("Bad request: Error parsing autopilot config: {why}"),
            );
        }
    }
    for (query, status, why) in [
        ("dc=mars", 500, "No path to datacenter"),
        (
            "stale&consistent",
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
        ("index=zz", 400, "Invalid index"),
    ] {
        site.ask(&format!("GET {CONFIG}?{query}"))
            .assert_text(status, why);
    }
}

#[test]
fn health() {
    let site = Site::new();
    let target = "/v1/operator/autopilot/health";
    let sick = site.ask(&format!("GET {target}?pretty"));
    sick.assert_text(
        429,
        "{\n    \"Healthy\": false,\n    \"FailureTolerance\": 0,\n    \"Servers\": null\n}\n",
    );
    assert_eq!(sick.header("Content-Type"), Some("text/plain; charset=utf-8"));
    let [me, stranger] = servers().map(|server| ServerHealth {
        healthy: server.voter,
        member: server.voter.then_some(MemberState::Alive),
        version: "1.8.7".to_owned(),
        last_contact: server.voter.then_some(Duration::from_micros(1500)),
        last_term: 2,
        last_index: Index(12),
        stable_since: UnixMillis(1_795_296_100_999),
        server,
    });
    let set = |healthy: bool, servers: Vec<ServerHealth>| {
        *site.memory.health.lock().unwrap() = ServersHealth {
            healthy,
            failure_tolerance: 1,
            servers,
        };
    };
    set(true, vec![me.clone()]);
    let mine = r#"{"ID":"603577f4-8b5a-2e6a-ad92-5a6ea4f8c8de","Name":"n1","Address":"127.0.0.1:8300","SerfStatus":"alive","Version":"1.8.7","Leader":true,"LastContact":"1.5ms","LastTerm":2,"LastIndex":12,"Healthy":true,"Voter":true,"StableSince":"2026-11-21T21:21:40Z"}"#;
    let response = site.ask(&format!("GET {target}"));
    response.assert_text(
        200,
        &format!(r#"{{"Healthy":true,"FailureTolerance":1,"Servers":[{mine}]}}"#),
    );
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    assert_eq!(response.header("X-Consul-Index"), None);
    set(false, vec![me.clone(), stranger]);
    let theirs = r#"{"ID":"00000000-0000-0000-0000-000000000002","Name":"(unknown)","Address":"","SerfStatus":"none","Version":"1.8.7","Leader":false,"LastContact":"-1ns","LastTerm":2,"LastIndex":12,"Healthy":false,"Voter":false,"StableSince":"2026-11-21T21:21:40Z"}"#;
    site.ask(&format!("GET {target}")).assert_text(
        429,
        &format!(r#"{{"Healthy":false,"FailureTolerance":1,"Servers":[{mine},{theirs}]}}"#),
    );
    for (state, text) in [
        (MemberState::Suspect, "alive"),
        (MemberState::Leaving, "leaving"),
        (MemberState::Left, "left"),
        (MemberState::Failed, "failed"),
    ] {
        let member = Some(state);
        set(true, vec![ServerHealth { member, ..me.clone() }]);
        let body = site.ask(&format!("GET {target}")).text().to_owned();
        assert!(body.contains(&format!("\"SerfStatus\":\"{text}\"")), "{body}");
    }
    site.ask(&format!("GET {target}?dc=mars"))
        .assert_text(500, "No path to datacenter");
    site.ask(&format!("GET {target}?index=zz"))
        .assert_text(400, "Invalid index");
    *site.memory.failure.lock().unwrap() = Some(Failure::NoLeader);
    site.ask(&format!("GET {target}"))
        .assert_text(500, "No cluster leader");
}
