//! From flags to what the agent runs with.

use std::time::Duration;

use lictor_agent::config::{Bootstrap, LogLevel, Trust};

use super::*;
use crate::console::testing::run as run_line;
use crate::flags::Takes;

/// What `lictor agent` with these flags would run with.
fn config(line: &[&str]) -> Config {
    let argv: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
    let Action::Run { flags, not_yet, .. } = &COMMAND.action else {
        panic!("agent is no group")
    };
    let args = Args::parse(flags.iter().flat_map(|topic| topic.flags), not_yet, &argv).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console {
        input: &mut std::io::empty(),
        out: &mut out,
        err: &mut err,
        env: &|_| None,
        directory: std::path::Path::new("."),
        succeed_on_interrupt: &|| {},
        hear_interrupts: &|_| {},
    };
    match load(&args, &mut console) {
        Ok((config, _)) => config,
        Err(failure) => panic!("{line:?}: {}", failure.message),
    }
}

#[test]
fn every_flag_reaches_the_configuration() {
    let config = config(&[
        "-server",
        "-bootstrap-expect=3",
        "--datacenter",
        "EU",
        "-encrypt",
        "bGljdG9yLXBlcmYtaGFybmVzcy1rZXktMzItYnl0ZXM=",
        "-retry-interval=5s",
        "-retry-max=7",
        "-join=10.0.0.7",
        "-rejoin",
        "-join-wan=10.1.0.7",
        "-retry-join-wan=10.1.0.1:9",
        "-retry-interval-wan=6s",
        "-retry-max-wan=8",
        "-advertise-wan=192.0.2.1",
        "-serf-lan-port=2",
        "-serf-wan-port=2",
        "-node-meta=rack:b:7",
        "-node-meta",
        "old",
        "-retry-join",
        "10.0.0.1",
        "-retry-join=b:1",
        "-data-dir",
        "/nonexistent/x",
        "-node",
        "n1",
        "-node-id=8c2a9c44-6c2b-4b0e-9d53-6c1f0f6f2a11",
        "-pid-file=/run/p",
        "-runtime=async-std",
        "-advertise",
        "10.0.0.9",
        "-bind=10.0.0.8",
        "-client",
        "127.0.0.1 10.0.0.8",
        "-http-port=1",
        "-server-port=2",
        "-log-json",
        "-log-level=warn",
        "-config-format=json",
        "-alt-domain=other",
        "-domain=corp",
        "-dns-port=53",
        "-recursor=10.0.0.53",
        "-recursor",
        "10.0.0.54:5353",
        "-check_output_max_size=5",
        "-default-query-time=1s",
        "-max-query-time=2s",
        "-enable-script-checks",
        "-enable-local-script-checks=false",
    ]);
    assert!(config.server && !config.dev && config.log.json);
    assert_eq!(config.bootstrap, Bootstrap::Expect(3));
    assert_eq!(config.datacenter, "eu");
    assert!(matches!(config.trust, Trust::Shared(_)));
    assert_eq!(config.join.interval, Duration::from_secs(5));
    let join: Vec<_> = config.join.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(join, ["10.0.0.1:2", "b:1"]);
    assert_eq!(config.join.attempts_max, Some(7));
    let start: Vec<_> = config.join.at_start.iter().map(ToString::to_string).collect();
    assert_eq!(start, ["10.0.0.7:2"]);
    assert!(config.gossip.rejoin_after_leave);
    let wan = config.wan.expect("a server is in the WAN pool");
    assert_eq!(wan.join.interval, Duration::from_secs(6));
    assert_eq!(wan.join.attempts_max, Some(8));
    let join: Vec<_> = wan.join.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(join, ["10.1.0.1:9"]);
    let start: Vec<_> = wan.join.at_start.iter().map(ToString::to_string).collect();
    assert_eq!(start, ["10.1.0.7:2"]);
    assert_eq!(config.advertise_wan.to_string(), "192.0.2.1:2");
    let meta: Vec<_> = config.node_meta.iter().collect();
    assert_eq!(
        meta,
        [
            (&"old".to_owned(), &String::new()),
            (&"rack".to_owned(), &"b:7".to_owned())
        ]
    );
    assert_eq!(config.data_dir, Some("/nonexistent/x".into()));
    assert_eq!(config.node_name, "n1");
    assert!(config.node_id.is_some());
    assert_eq!(config.pid_file, Some("/run/p".into()));
    assert_eq!(config.runtime, RuntimeKind::AsyncStd);
    assert_eq!(config.bind.to_string(), "10.0.0.8:2");
    assert_eq!(config.advertise.to_string(), "10.0.0.9:2");
    let listen: Vec<_> = config.http.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:1", "10.0.0.8:1"]);
    assert_eq!(config.log.level, LogLevel::Warn);
    let listen: Vec<_> = config.dns.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:53", "10.0.0.8:53"]);
    assert_eq!(
        (config.dns.domain.as_str(), config.dns.alt_domain.as_deref()),
        ("corp", Some("other"))
    );
    let recursors: Vec<_> = config.dns.recursors.iter().map(ToString::to_string).collect();
    assert_eq!(recursors, ["10.0.0.53:53", "10.0.0.54:5353"]);
    assert_eq!(config.checks.output_max, 5);
    assert!(config.checks.scripts_from_api);
    assert_eq!(
        (config.http.default_query_time, config.http.max_query_time),
        (Duration::from_secs(1), Duration::from_secs(2))
    );
}

#[test]
fn every_flag_is_handled() {
    let Action::Run { flags, .. } = &COMMAND.action else {
        panic!("agent is no group")
    };
    for flag in flags.iter().flat_map(|topic| topic.flags) {
        let value = match flag.takes {
            Takes::Nothing => "true",
            Takes::Text(_) => "smol",
            Takes::Int | Takes::Uint => "1",
        };
        let argv = [format!("-{}={value}", flag.name)];
        let args = Args::parse(flags.iter().flat_map(|topic| topic.flags), &[], &argv).unwrap();
        assert!(flags_of(&args).is_ok(), "{}", flag.name);
    }
}

#[test]
fn development_mode_and_switches_that_are_off() {
    assert!(config(&["-dev"]).dev);
    let config = config(&[
        "-dev=false",
        "-server=false",
        "-data-dir=/nonexistent/x",
        "-bind=127.0.0.1",
    ]);
    assert!(!config.dev && !config.server);
    assert_eq!(config.runtime, RuntimeKind::Smol);
}

#[test]
fn files_keep_their_order_among_directories() {
    let dir = tempfile::tempdir().unwrap();
    let sub = dir.path().join("d");
    fs::create_dir(&sub).unwrap();
    let file = dir.path().join("f.json");
    fs::write(
        &file,
        r#"{"data_dir": "/nonexistent/x", "bind_addr": "127.0.0.1", "node_name": "file"}"#,
    )
    .unwrap();
    fs::write(sub.join("a.json"), r#"{"node_name": "dir"}"#).unwrap();
    let (file, sub) = (file.to_str().unwrap(), sub.to_str().unwrap());
    assert_eq!(
        config(&["-config-file", file, "-config-dir", sub]).node_name,
        "dir"
    );
    assert_eq!(
        config(&["-config-dir", sub, "-config-file", file]).node_name,
        "file"
    );
    assert_eq!(
        config(&["-node=flag", "-config-dir", sub, "-config-file", file]).node_name,
        "flag"
    );
}

#[test]
fn errors_before_the_start() {
    for (line, message) in [
        (
            &["agent", "x", "y"][..],
            "==> Unexpected extra arguments: [x y]\n",
        ),
        (&["agent"], "==> data_dir cannot be empty\n"),
        (
            &["agent", "-dev", "-log-level", "FOO"],
            "==> Invalid log level: FOO. Valid log levels are: [TRACE DEBUG INFO WARN ERR ERROR]\n",
        ),
        (
            &["agent", "-dev", "-pid-file=/nodir/x"],
            "==> Could not open pid file: open /nodir/x: no such file or directory\n",
        ),
        (
            &["agent", "-dev", "-pid-file=/dev/null"],
            "==> Could not open pid file: /dev/null is not a regular file\n",
        ),
        (
            &["agent", "-config-file=none.json"],
            "==> config: Open failed on none.json. open none.json: no such file or directory\n",
        ),
    ] {
        let ran = run_line(line);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "", message));
    }
    for (line, start) in [
        (
            &["agent", "-runtime=tokio"][..],
            "invalid value \"tokio\" for flag -runtime: must be smol or async-std\n",
        ),
        (&["agent", "-ui"], "flag -ui is not supported yet\n"),
        (&["agent", "-hcl", "x"], "flag -hcl is not supported yet\n"),
        (&["agent", "-bogus"], "flag provided but not defined: -bogus\n"),
        (
            &["agent", "-http-port", "x"],
            "invalid value \"x\" for flag -http-port: parse error\n",
        ),
    ] {
        let ran = run_line(line);
        assert_eq!(ran.code, 1);
        assert!(ran.err.starts_with(start), "{}", ran.err);
    }
}

#[test]
fn the_pid_file_goes_with_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    let guard = PidFile::write(path.clone()).unwrap_or_else(|failure| panic!("{}", failure.message));
    assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
    drop(guard);
    assert!(!path.exists());
}
