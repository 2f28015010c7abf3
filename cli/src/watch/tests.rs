use std::sync::atomic::{AtomicUsize, Ordering};

use crate::console::testing::{Ran, run, run_with};
use crate::fake::Fake;

/// Runs the line against an agent that is well and says `body` to all else.
fn watch(status: u16, body: &str, words: &[&str]) -> (Ran, Vec<String>) {
    let body = body.to_owned();
    let fake = Fake::start(move |seen| {
        if seen.line.starts_with("GET /v1/agent/self") {
            (200, "{}".to_owned())
        } else {
            (status, body.clone())
        }
    });
    let line = [&["watch"], words].concat();
    let ran = run_with(&line, b"", &[("CONSUL_HTTP_ADDR", &fake.address)]);
    (ran, fake.lines().split_off(1))
}

#[test]
fn what_is_asked() {
    for (words, target) in [
        (&["-type=nodes"][..], "/v1/catalog/nodes"),
        (&["-type=services", "-stale"], "/v1/catalog/services?stale="),
        (&["-type=key", "-key=/a/b"], "/v1/kv/a/b"),
        (
            &["-type=keyprefix", "-prefix=a/", "-datacenter=dc2"],
            "/v1/kv/a/?dc=dc2&recurse=",
        ),
        (
            &[
                "-type=service",
                "-service=web",
                "-tag=a",
                "-tag=b",
                "-passingonly=true",
            ],
            "/v1/health/service/web?passing=1&tag=a&tag=b",
        ),
        (
            &["-type=service", "-service=web", "-passingonly=false"],
            "/v1/health/service/web",
        ),
        (&["-type=checks"], "/v1/health/state/any"),
        (&["-type=checks", "-state=critical"], "/v1/health/state/critical"),
        (&["-type=checks", "-service=web"], "/v1/health/checks/web"),
        (&["-type=event"], "/v1/event/list"),
        (&["-type=event", "-name=deploy"], "/v1/event/list?name=deploy"),
    ] {
        let (ran, asked) = watch(404, "", words);
        assert_eq!(ran, Ran::ok("null\n"), "{words:?}");
        assert_eq!(asked, [format!("GET {target}")]);
    }
}

#[test]
fn what_is_printed() {
    let entry = r#"[{"LockIndex":0,"Key":"a<b","Flags":7,"Value":"eA==","CreateIndex":5,"ModifyIndex":6}]"#;
    assert_eq!(
        watch(200, entry, &["-type=key", "-key=a"]).0,
        Ran::ok(concat!(
            "{\n    \"Key\": \"a\\u003cb\",\n    \"CreateIndex\": 5,\n    \"ModifyIndex\": 6,\n    \"LockIndex\": 0,\n",
            "    \"Flags\": 7,\n    \"Value\": \"eA==\",\n    \"Session\": \"\"\n}\n"
        ))
    );
    let services = r#"{"web":["b","a"],"db":[]}"#;
    assert_eq!(
        watch(200, services, &["-type=services"]).0,
        Ran::ok("{\n    \"db\": [],\n    \"web\": [\n        \"b\",\n        \"a\"\n    ]\n}\n")
    );
    assert_eq!(watch(200, "[]", &["-type=nodes"]).0, Ran::ok("[]\n"));
}

#[test]
fn a_program_is_run_whenever_something_changes_until_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let asked = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| {
        if seen.line == "GET /v1/agent/self" {
            return (200, "{}".to_owned());
        }
        // Twice the same, then another.
        let flags = asked.fetch_add(1, Ordering::Relaxed) / 2;
        (200, format!(r#"[{{"Key":"a","Flags":{flags}}}]"#))
    });
    let out = dir.path().join("out");
    let script = format!(
        "cat >> '{0}'; echo $CONSUL_INDEX >> '{0}'; ! grep -q :1 '{0}'",
        out.display()
    );
    let ran = run_with(
        &["watch", "-type=key", "-key=a", &script],
        b"",
        &[("CONSUL_HTTP_ADDR", &fake.address)],
    );
    assert_eq!(ran, Ran::error("Error executing handler: exit status 1"));
    let told = std::fs::read_to_string(out).unwrap();
    let entry = |flags| {
        format!(
            r#"{{"Key":"a","CreateIndex":0,"ModifyIndex":0,"LockIndex":0,"Flags":{flags},"Value":null,"Session":""}}"#
        )
    };
    assert_eq!(told, format!("{}\n0\n{}\n0\n", entry(0), entry(1)));
    assert_eq!(
        watch(404, "", &["-type=nodes", "-shell=false", "/no/such", "x"]).0,
        Ran::error("Error starting handler: fork/exec /no/such: no such file or directory")
    );
}

#[test]
fn mistakes() {
    for (words, wanted) in [
        (
            &["watch", "-type=bogus"][..],
            "Unsupported watch type: bogus; must be one of key, keyprefix, services, nodes, service, checks, event",
        ),
        (
            &["watch", "-type=checks", "-state=foo"],
            "Invalid state: foo; must be one of any, passing, warning, critical",
        ),
        (&["watch", "-type=key"], "Must specify a single key to watch"),
        (
            &["watch", "-type=key", "-key="],
            "Must specify a single key to watch",
        ),
        (
            &["watch", "-type=keyprefix"],
            "Must specify a single prefix to watch",
        ),
        (
            &["watch", "-type=service", "-tag=a"],
            "Must specify a single service to watch",
        ),
        (
            &["watch", "-type=checks", "-service=a", "-state=any"],
            "Cannot specify service and state",
        ),
        (
            &["watch", "-type=service", "-service=a", "-passingonly=x"],
            "Failed to parse passingonly flag: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
        (
            &["watch", "-type=nodes", "-tag=a", "-key=b", "-tag=c"],
            "Invalid parameters: [key tag]",
        ),
        (
            &["watch", "-type=agent_service"],
            "Type agent_service is not supported in the CLI tool",
        ),
    ] {
        assert_eq!(run(words), Ran::error(wanted));
    }
    let ran = run(&["watch"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .starts_with("Watch type must be specified\n\nUsage: lictor watch "),
        "{}",
        ran.err
    );
}
