//! Both commands, against an agent that remembers what it was asked.

use std::path::Path;

use serde_json::{Value, json};

use crate::console::testing::{Ran, run, run_with};
use crate::fake::{Fake, ask};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        shown(&path)
    }
}

fn shown(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Runs a command line, and gives the bodies that the agent got with it.
fn bodies(line: &[&str]) -> (Ran, Vec<Value>) {
    let fake = Fake::start(|_| (200, String::new()));
    let ran = run_with(line, b"", &[("CONSUL_HTTP_ADDR", &fake.address)]);
    let bodies = fake.seen().into_iter().map(|seen| {
        assert_eq!(seen.line, "PUT /v1/agent/service/register");
        serde_json::from_slice(&seen.body).unwrap()
    });
    (ran, bodies.collect())
}

#[test]
fn flags_describe_a_service() {
    assert_eq!(
        bodies(&["services", "register", "-name=web"]),
        (Ran::ok("Registered service: web\n"), vec![json!({"Name": "web"})])
    );
    let line = [
        "services",
        "register",
        "-name=web",
        "-id=w1",
        "-port=80",
        "-address=h",
        "-tag=b",
        "-tag=a",
        "-meta=k=v=w",
        "-meta=e=",
        "-kind=foo",
        "-tagged-address=lan=[::1]:5",
        "-tagged-address=wan=a.example:6",
    ];
    let wanted = json!({
        "Name": "web", "ID": "w1", "Port": 80, "Address": "h", "Tags": ["b", "a"], "Meta": {"k": "v=w", "e": ""}, "Kind": "foo",
        "TaggedAddresses": {"lan": {"Address": "::1", "Port": 5}, "wan": {"Address": "a.example", "Port": 6}},
    });
    assert_eq!(
        bodies(&line),
        (Ran::ok("Registered service: web\n"), vec![wanted])
    );
}

#[test]
fn files_define_services() {
    let files = Files::new();
    let web = files.write(
        "web.json",
        r#"{"node_name": "n", "service": {"name": "web", "port": 80, "check": {"id": "c1", "ttl": "10s", "deregister_critical_service_after": "90m"}}}"#,
    );
    let more = files.write(
        "more.json",
        r#"{"services": [{"name": "db", "id": "db1"}, {"name": "db", "id": "db2", "checks": [{"http": "http://x", "interval": "5s"}]}]}"#,
    );
    let check = json!({"CheckID": "c1", "TTL": "10s", "DeregisterCriticalServiceAfter": "90m"});
    let services = [
        json!({"Name": "web", "Port": 80, "Checks": [check]}),
        json!({"Name": "db", "ID": "db1"}),
        json!({"Name": "db", "ID": "db2", "Checks": [{"HTTP": "http://x", "Interval": "5s"}]}),
    ];
    assert_eq!(
        bodies(&["services", "register", "-tag=no", &web, &more]),
        (
            Ran::ok("Registered service: web\nRegistered service: db\nRegistered service: db\n"),
            services.to_vec()
        )
    );
    let other = files.write("other.txt", "x");
    let (ran, sent) = bodies(&["services", "register", &other]);
    assert_eq!((ran.code, sent.len()), (0, 0));
    assert_eq!(
        ran.err,
        format!("skipping file {other}, extension must be .hcl or .json, or config format must be set\n")
    );
    let checks = files.write("checks.json", r#"{"check": {"name": "x", "ttl": "5s"}}"#);
    assert_eq!(bodies(&["services", "register", &checks]), (Ran::ok(""), vec![]));
}

#[test]
fn what_cannot_be_registered() {
    for (line, message) in [
        (
            &[][..],
            "Service registration requires at least one argument or flags.",
        ),
        (
            &["-id=x"],
            "Service registration requires at least one argument or flags.",
        ),
        (
            &["-name=x", "a.json"],
            "Service registration requires arguments or -id, not both.",
        ),
        (
            &["-name=x", "-tagged-address=lan=1.2.3.4"],
            "Invalid Tagged Address: address 1.2.3.4: missing port in address",
        ),
        (
            &["-name=x", "-tagged-address=lan=[::1]"],
            "Invalid Tagged Address: address [::1]: missing port in address",
        ),
        (
            &["-name=x", "-tagged-address=lan=::1:5"],
            "Invalid Tagged Address: address ::1:5: too many colons in address",
        ),
        (
            &["-name=x", "-tagged-address=lan=a:x"],
            "Invalid Tagged Address: strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            &["-name=x", "-tagged-address=lan=a:70000000000000000000"],
            "Invalid Tagged Address: strconv.Atoi: parsing \"70000000000000000000\": value out of range",
        ),
        (
            &["none.json"],
            "Error: config: Open failed on none.json. open none.json: no such file or directory",
        ),
    ] {
        let line = [&["services", "register"], line].concat();
        assert_eq!(ask(200, "", &line), (Ran::error(message), vec![]));
    }
    for (flag, message) in [
        (
            "-meta=x",
            "invalid value \"x\" for flag -meta: Missing \"=\" value in argument: x",
        ),
        (
            "-tagged-address=lan",
            "invalid value \"lan\" for flag -tagged-address: Missing \"=\" value in argument: lan",
        ),
    ] {
        let ran = run(&["services", "register", "-name=x", flag]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""));
        assert!(
            ran.err
                .starts_with(&format!("{message}\n\nUsage: lictor services register"))
        );
    }
    let files = Files::new();
    let bogus = files.write("bogus.json", r#"{"service": {"name": "x", "bogus": 1}}"#);
    assert_eq!(
        ask(200, "", &["services", "register", &bogus]).0,
        Ran::error(&format!(
            "Error: failed to parse {bogus}: 1 error occurred:\n\t* invalid config key service.bogus"
        ))
    );
    let ttl = files.write(
        "ttl.json",
        r#"{"service": {"name": "x", "check": {"ttl": "10"}}}"#,
    );
    assert_eq!(
        ask(200, "", &["services", "register", &ttl]).0,
        Ran::error(
            "Error: 1 error occurred:\n\t* check[].ttl: invalid duration: \"10\": time: missing unit in duration \"10\""
        )
    );
    // What a service must have, the agent knows.
    let unnamed = files.write("unnamed.json", r#"{"service": {"id": "q"}}"#);
    assert_eq!(
        ask(400, "Missing service name", &["services", "register", &unnamed]).0,
        Ran::error("Error registering service \"\": Unexpected response code: 400 (Missing service name)")
    );
}

#[test]
fn deregistering() {
    let files = Files::new();
    let two = files.write(
        "two.json",
        r#"{"services": [{"name": "db", "id": "db/1"}, {"name": "web"}]}"#,
    );
    assert_eq!(
        ask(200, "", &["services", "deregister", &two]),
        (
            Ran::ok("Deregistered service: db/1\nDeregistered service: web\n"),
            vec![
                "PUT /v1/agent/service/deregister/db/1".to_owned(),
                "PUT /v1/agent/service/deregister/web".to_owned()
            ]
        )
    );
    assert_eq!(
        ask(200, "", &["services", "deregister", "-id=a b"]),
        (
            Ran::ok("Deregistered service: a b\n"),
            vec!["PUT /v1/agent/service/deregister/a%20b".to_owned()]
        )
    );
    assert_eq!(
        ask(500, "oops", &["services", "deregister", "-id=x"]).0,
        Ran::error("Error deregistering service \"x\": Unexpected response code: 500 (oops)")
    );
    for (line, message) in [
        (
            &[][..],
            "Service deregistration requires at least one argument or -id.",
        ),
        (
            &["-id="],
            "Service deregistration requires at least one argument or -id.",
        ),
        (
            &["-id=x", "a.json"],
            "Service deregistration requires arguments or -id, not both.",
        ),
        (
            &["none.json"],
            "Error: config: Open failed on none.json. open none.json: no such file or directory",
        ),
    ] {
        let line = [&["services", "deregister"], line].concat();
        assert_eq!(ask(200, "", &line), (Ran::error(message), vec![]));
    }
}
