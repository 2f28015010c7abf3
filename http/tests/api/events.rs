//! User events.

use std::time::{Duration, Instant};

use lictor_http::Failure;
use serde_json::Value;

use crate::support::{LONG, Site};

fn fired(site: &Site, target: &str) -> Value {
    let response = site.ask(&format!("PUT /v1/event/fire/{target}"));
    assert_eq!(response.status(), 200, "{}", response.text());
    serde_json::from_str(response.text()).unwrap()
}

fn listed(site: &Site, query: &str) -> (u64, Vec<String>) {
    let response = site.ask(&format!("GET /v1/event/list{query}"));
    assert_eq!(response.status(), 200);
    let events: Vec<Value> = serde_json::from_str(response.text()).unwrap();
    let names = events
        .iter()
        .map(|event| event["Name"].as_str().unwrap().to_owned());
    (response.index(), names.collect())
}

#[test]
fn what_is_fired_is_listed() {
    let site = Site::new();
    let response =
        site.ask("PUT /v1/event/fire/a%2Fb%20%3C?node=n.*&service=we&tag=v&stale&consistent&index=zz\n\nx");
    let text = response.text();
    let id = &text[7..43];
    let event = |time: u64| {
        format!(
            r#"{{"ID":"{id}","Name":"a/b \u003c","Payload":"eA==","NodeFilter":"n.*","ServiceFilter":"we","TagFilter":"v","Version":1,"LTime":{time}}}"#
        )
    };
    response.assert_text(200, &event(0));
    assert_eq!(response.header("X-Consul-Index"), None);

    let response = site.ask("GET /v1/event/list?dc=nope&stale&consistent");
    response.assert_text(200, &format!("[{}]", event(7)));
    let halves = u128::from_str_radix(&id.replace('-', ""), 16).unwrap();
    assert_eq!(response.index(), (halves >> 64) as u64 ^ halves as u64);
    assert_eq!(response.header("X-Consul-Knownleader"), None);
    assert_eq!(response.header("X-Consul-Lastcontact"), None);
}

#[test]
fn names_filter_and_no_event_has_index_one() {
    let site = Site::new();
    assert_eq!(listed(&site, ""), (1, vec![]));
    let one = fired(&site, "one");
    assert!(one["Payload"].is_null());
    let (first, _) = listed(&site, "");
    fired(&site, "two");
    let (second, names) = listed(&site, "");
    assert_eq!(names, ["one", "two"]);
    assert_ne!(first, second);
    assert_eq!(listed(&site, "?name=one"), (first, vec!["one".to_owned()]));
    assert_eq!(listed(&site, "?name="), (second, names));
    assert_eq!(listed(&site, "?name=three"), (1, vec![]));
}

#[test]
fn only_the_last_256_are_kept() {
    let site = Site::new();
    let mut client = site.connect();
    for number in 0..300 {
        client.ask(&format!("PUT /v1/event/fire/e{number}"));
    }
    let (_, names) = listed(&site, "");
    assert_eq!(names.len(), 256);
    assert_eq!((&names[0][..], &names[255][..]), ("e44", "e299"));
}

#[test]
fn an_agent_lists_what_is_for_it() {
    let site = Site::new();
    for (filter, is_for) in [
        ("node=n1", true),
        ("node=1", true),
        ("node=%5En$", false),
        ("node=N1", false),
        ("service=web", true),
        ("service=%5Eeb", false),
        ("service=web&tag=v1", true),
        ("service=web&tag=v2", false),
        ("service=db", false),
        ("node=n&service=w&tag=1", true),
        ("node=x&service=w&tag=1", false),
    ] {
        let before = listed(&site, "").1.len();
        fired(&site, &format!("e?{filter}"));
        let after = listed(&site, "").1.len();
        assert_eq!(after > before, is_for, "{filter}");
    }
}

#[test]
fn bad_events() {
    let site = Site::new();
    site.ask("PUT /v1/event/fire/").assert_text(400, "Missing name");
    for (target, why) in [
        (
            "e?node=(",
            "Invalid node filter: error parsing regexp: missing closing ): `(`",
        ),
        (
            "e?service=(",
            "Invalid service filter: error parsing regexp: missing closing ): `(`",
        ),
        (
            "e?service=a&tag=(",
            "Invalid tag filter: error parsing regexp: missing closing ): `(`",
        ),
        ("e?tag=a", "Cannot provide tag filter without service filter"),
        (
            "e?tag=(&node=(",
            "Cannot provide tag filter without service filter",
        ),
        ("e?dc=mars", "No path to datacenter"),
    ] {
        site.ask(&format!("PUT /v1/event/fire/{target}"))
            .assert_text(500, why);
    }
    let large = "1 error occurred:\n\t* error broadcasting event to segment \"\": user event exceeds configured limit of 512 bytes before encoding\n\n";
    site.ask(&format!("PUT /v1/event/fire/e\n\n{}", "x".repeat(600)))
        .assert_text(500, large);
    site.ask(&format!("PUT /v1/event/fire/{}", "x".repeat(600)))
        .assert_text(500, large);
    let fits = site.ask(&format!("PUT /v1/event/fire/e\n\n{}", "x".repeat(400)));
    assert_eq!(fits.status(), 200);
    *site.memory.failure.lock().unwrap() = Some(Failure::NoLeader);
    site.ask("PUT /v1/event/fire/e")
        .assert_text(500, "No cluster leader");
    for (query, why) in [("index=zz", "Invalid index"), ("wait=zz", "Invalid wait time")] {
        site.ask(&format!("GET /v1/event/list?{query}"))
            .assert_text(400, why);
    }
}

#[test]
fn lists_can_wait_for_what_is_new() {
    let site = Site::new();
    fired(&site, "a");
    let (index, _) = listed(&site, "");
    // Any other index is news.
    assert_eq!(listed(&site, "?index=5&wait=10m").0, index);
    assert_eq!(listed(&site, "?name=b&index=5&wait=10m").0, 1);
    let start = Instant::now();
    assert_eq!(listed(&site, &format!("?index={index}&wait=20ms")).0, index);
    assert!(start.elapsed() >= Duration::from_millis(20));

    let mut all = site.connect();
    let mut named = site.connect();
    all.send(&format!("GET /v1/event/list?index={index}"));
    named.send("GET /v1/event/list?name=b&index=1");
    fired(&site, "a");
    let response = all.receive(false);
    assert_ne!(response.index(), index);
    assert_eq!(response.text().matches("\"Name\":\"a\"").count(), 2);
    fired(&site, "b");
    assert!(named.receive(false).text().contains("\"Name\":\"b\""));
}

#[test]
fn a_server_that_stops_answers_its_lists() {
    let site = Site::new();
    let mut client = site.connect();
    client.ask("GET /v1/event/list").assert_text(200, "[]");
    client.send("GET /v1/event/list?index=1");
    let start = Instant::now();
    futures_lite::future::block_on(site.server.shut_down(LONG));
    assert!(start.elapsed() < LONG, "nothing was cut");
}
