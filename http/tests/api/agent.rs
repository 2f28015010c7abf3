//! The agent and its members.

use std::sync::atomic::Ordering;

use lictor_http::Failure;

use crate::support::Site;

const MEMBER: &str = r#"{"Name":"n1","Addr":"127.0.0.1","Port":8300,"Tags":{"build":"1.8.7:","dc":"dc1","role":"consul"},"Status":1,"ProtocolMin":1,"ProtocolMax":5,"ProtocolCur":2,"DelegateMin":2,"DelegateMax":5,"DelegateCur":4}"#;

#[test]
fn what_an_agent_says_of_itself() {
    let site = Site::new();
    let response = site.ask("GET /v1/agent/self?dc=nope&stale&consistent&index=zz");
    let text = response.text();
    let config = r#"{"Config":{"Datacenter":"dc1","NodeName":"n1","NodeID":"603577f4-8b5a-2e6a-ad92-5a6ea4f8c8de","Revision":"","Server":true,"Version":"1.8.7"},"DebugConfig":{"#;
    let rest = format!(
        r#"}},"Coord":{{"Vec":[0,0.1,-2,0,0,0,0,0],"Error":1.5,"Adjustment":0,"Height":0.00001}},"Member":{MEMBER},"Stats":{{"agent":{{"checks":"0","services":"\u003c1\u003e"}}}},"Meta":{{"consul-network-segment":"","rack":"1"}}}}"#
    );
    let debug = text
        .strip_prefix(config)
        .and_then(|text| text.strip_suffix(&rest[..]))
        .unwrap_or_else(|| panic!("{text}"));
    assert_eq!(
        debug,
        concat!(
            r#""AdvertiseAddrLAN":"127.0.0.1","AdvertiseAddrWAN":"127.0.0.1","BindAddr":"127.0.0.1","BootstrapExpect":3,"#,
            r#""ClientAddrs":["127.0.0.1"],"DNSAddrs":[],"DNSPort":-1,"DataDir":"/data","Datacenter":"dc1","DevMode":false,"#,
            r#""DisableCoordinates":false,"DisableRemoteExec":false,"EncryptKey":"hidden","GRPCAddrs":[],"GRPCPort":-1,"#,
            r#""HTTPAddrs":["tcp://127.0.0.1:8500"],"HTTPMaxConnsPerClient":200,"HTTPPort":8500,"HTTPSAddrs":[],"HTTPSPort":-1,"KVMaxValueSize":524288,"LeaveOnTerm":false,"#,
            r#""Logging":{"LogLevel":"INFO"},"NodeID":"603577f4-8b5a-2e6a-ad92-5a6ea4f8c8de","NodeMeta":{"rack":"1"},"#,
            r#""NodeName":"n1","PrimaryDatacenter":"dc1","RPCAdvertiseAddr":"tcp://127.0.0.1:8300","#,
            r#""RPCBindAddr":"tcp://127.0.0.1:8300","RejoinAfterLeave":false,"RetryJoinIntervalLAN":"30s","#,
            r#""RetryJoinIntervalWAN":"0s","RetryJoinLAN":["10.0.0.2"],"RetryJoinWAN":[],"Revision":"","#,
            r#""SerfPortLAN":8300,"SerfPortWAN":8300,"ServerMode":true,"ServerPort":8300,"SkipLeaveOnInt":true,"#,
            r#""TaggedAddresses":{"lan":"127.0.0.1","lan_ipv4":"127.0.0.1","wan":"127.0.0.1","wan_ipv4":"127.0.0.1"},"#,
            r#""TxnMaxReqLen":524288,"Version":"1.8.7""#
        )
    );
    assert_eq!(response.header("X-Consul-Index"), None);
    site.memory.client.store(true, Ordering::SeqCst);
    let text = site.ask("GET /v1/agent/self").text().to_owned();
    assert!(text.contains(r#""Coord":null,"#), "{text}");
}

#[test]
fn members() {
    let site = Site::new();
    let response = site.ask("GET /v1/agent/members?segment=_all&wan");
    let names_and_states: Vec<(String, u64)> =
        serde_json::from_str::<Vec<serde_json::Value>>(response.text())
            .unwrap()
            .iter()
            .map(|member| {
                let name = member["Name"].as_str().unwrap().to_owned();
                (name, member["Status"].as_u64().unwrap())
            })
            .collect();
    let expected = [("n1", 1), ("n2", 1), ("n3", 2), ("n4", 3), ("n5", 4)];
    assert_eq!(
        names_and_states,
        expected.map(|(name, state)| (name.to_owned(), state))
    );
    assert!(response.text().starts_with(&format!("[{MEMBER},")));
    assert_eq!(response.header("X-Consul-Index"), None);

    let wan = MEMBER.replace("\"n1\"", "\"n1.dc1\"");
    site.ask("GET /v1/agent/members?wan=1&segment=_all")
        .assert_text(200, &format!("[{wan}]"));
    site.memory.client.store(true, Ordering::SeqCst);
    site.ask("GET /v1/agent/members?wan=1").assert_text(200, "null");
    site.ask("GET /v1/agent/members?segment=x").assert_text(
        500,
        "Network segments are not supported in this version of Consul",
    );
}

#[test]
fn joining() {
    let site = Site::new();
    let response = site.ask("PUT /v1/agent/join/10.0.0.2:8300");
    response.assert_text(200, "");
    assert_eq!(
        (response.header("Content-Type"), response.header("Content-Length")),
        (None, Some("0"))
    );
    for target in ["join/%5B::1%5D:9?wan=1", "join/host?wan", "join/?wan="] {
        site.ask(&format!("PUT /v1/agent/{target}")).assert_text(200, "");
    }
    assert_eq!(
        site.memory.take_asked(),
        [
            "join Lan 10.0.0.2:8300",
            "join Wan [::1]:9",
            "join Lan host",
            "join Lan "
        ]
    );
    let failed = Failure::Several(vec!["Failed to join 10.0.0.2: nobody answers".to_owned()]);
    *site.memory.failure.lock().unwrap() = Some(failed);
    site.ask("PUT /v1/agent/join/10.0.0.2").assert_text(
        500,
        "1 error occurred:\n\t* Failed to join 10.0.0.2: nobody answers\n\n",
    );
}

#[test]
fn leaving() {
    let site = Site::new();
    site.ask("PUT /v1/agent/leave").assert_text(200, "");
    for target in ["n5", "n4?prune", "n5?prune=false&wan", "n1.dc1?wan=1"] {
        let response = site.ask(&format!("PUT /v1/agent/force-leave/{target}"));
        response.assert_text(200, "");
        assert_eq!(response.header("Content-Type"), None);
    }
    assert_eq!(
        site.memory.take_asked(),
        [
            "leave",
            "force-leave Lan n5 false",
            "force-leave Lan n4 true",
            "force-leave Lan n5 true",
            "force-leave Wan n1.dc1 false"
        ]
    );
    for (target, name) in [
        ("nope", "nope"),
        ("nope?prune", "nope"),
        ("", ""),
        ("n5?wan=1", "n5"),
    ] {
        site.ask(&format!("PUT /v1/agent/force-leave/{target}"))
            .assert_text(500, &format!("agent: No node found with name '{name}'"));
    }
    assert_eq!(site.memory.take_asked(), [""; 0]);
    // Whoever guesses must not make an agent leave.
    for target in ["leave", "force-leave/n5", "join/x"] {
        let response = site.ask(&format!("GET /v1/agent/{target}"));
        response.assert_text(405, "method GET not allowed");
        assert_eq!(response.header("Allow"), Some("OPTIONS,PUT"));
    }
    assert_eq!(site.memory.take_asked(), [""; 0]);
}

#[test]
fn data_centers() {
    let site = Site::new();
    let response = site.ask("GET /v1/catalog/datacenters?dc=nope&index=zz");
    response.assert_text(200, r#"["dc1","mars","dc2"]"#);
    assert_eq!(response.header("X-Consul-Index"), None);
    assert_eq!(response.header("X-Consul-Knownleader"), None);
    site.ask("GET /v1/catalog/datacenters?stale&consistent")
        .assert_text(
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        );
    *site.memory.failure.lock().unwrap() = Some(Failure::NoServers);
    site.ask("GET /v1/catalog/datacenters")
        .assert_text(500, "No known Consul servers");
}
