//! Watches: what they mean, and what is none.

use super::*;

fn watch(text: &str) -> Watch {
    let mut config = with(&format!(r#""watches": [{text}]"#));
    assert_eq!(config.watches.len(), 1);
    config.watches.remove(0)
}

fn problem(text: &str) -> String {
    let error = refused(&format!(r#""watches": [{text}]"#));
    let problem = error.strip_prefix("1 error occurred:\n\t* watches[0]: ");
    problem.unwrap_or_else(|| panic!("{error}")).to_owned()
}

fn program(args: &[&str]) -> WatchHandler {
    WatchHandler::Program(args.iter().map(|arg| (*arg).to_owned()).collect())
}

#[test]
fn who_is_told() {
    let args = |more: &str| watch(&format!(r#"{{"type": "nodes", {more}}}"#)).handler;
    assert_eq!(args(r#""args": ["a", "b c"]"#), program(&["a", "b c"]));
    assert_eq!(args(r#""args": "a", "handler_type": "script""#), program(&["a"]));
    let (config, warnings) = accepted(r#""watches": [{"type": "nodes", "handler": "a | b"}]"#);
    assert_eq!(config.watches[0].handler, WatchHandler::Shell("a | b".to_owned()));
    assert_eq!(
        warnings,
        [
            "watches[0]: The 'handler' field in watches has been deprecated and replaced with the 'args' field."
        ]
    );
    let http = |more: &str| match args(&format!(
        r#""handler_type": "http", "http_handler_config": {{"path": "https://h/p?q" {more}}}"#
    )) {
        WatchHandler::Http(address) => address,
        other @ (WatchHandler::Program(_) | WatchHandler::Shell(_)) => panic!("{other}"),
    };
    let usual = WatchAddress {
        url: "https://h/p?q".to_owned(),
        method: "POST".to_owned(),
        headers: Vec::new(),
        timeout: Duration::from_secs(10),
        skip_verify: false,
    };
    assert_eq!(http(""), usual);
    assert_eq!(
        http(
            r#", "method": "PUT", "header": {"X-A": ["1", "2"], "B": []}, "timeout": "1m", "tls_skip_verify": true"#
        ),
        WatchAddress {
            method: "PUT".to_owned(),
            headers: vec![
                ("B".to_owned(), Vec::new()),
                ("X-A".to_owned(), vec!["1".to_owned(), "2".to_owned()]),
            ],
            timeout: Duration::from_mins(1),
            skip_verify: true,
            ..usual
        }
    );
}

#[test]
fn what_is_watched_and_in_whose_name() {
    let found = watch(
        r#"{"type": "service", "service": "web", "tag": ["a", "b"], "passingonly": true, "stale": true, "datacenter": "dc2", "token": "hush", "args": ["x"]}"#,
    );
    assert_eq!(
        found.plan.target([]),
        "/v1/health/service/web?stale=&passing=1&tag=a&tag=b"
    );
    assert_eq!(
        (found.datacenter.as_deref(), found.token.as_deref()),
        (Some("dc2"), Some("hush"))
    );
    let shown = format!("{found:?}");
    assert!(shown.contains("web") && !shown.contains("hush"), "{shown}");
    let found = watch(r#"{"type": "agent_service", "service_id": "web-1", "args": ["x"]}"#);
    assert_eq!(found.plan.target([]), "/v1/agent/service/web-1");
}

#[test]
fn nobody_reads_secrets_where_handlers_are_shown() {
    let found = watch(
        r#"{"type": "nodes", "handler_type": "http", "http_handler_config": {"path": "https://u:pw@h:81/p?q=hush", "header": {"Authorization": ["hush"]}}}"#,
    );
    assert_eq!(found.handler.to_string(), "https://h:81/p");
    let shown = format!("{found:?}");
    assert!(!shown.contains("hush") && !shown.contains("pw"), "{shown}");
    assert_eq!(program(&["a", "b"]).to_string(), "a b");
}

#[test]
fn what_is_no_watch() {
    for (text, why) in [
        ("{}", "Failed to parse watch: Watch type must be specified"),
        (
            r#"{"Type": "nodes", "args": ["x"]}"#,
            "Failed to parse watch: Watch type must be specified",
        ),
        (
            r#"{"type": "bogus", "args": ["x"]}"#,
            "Failed to parse watch: Unsupported watch type: bogus",
        ),
        (
            r#"{"type": 5, "args": ["x"]}"#,
            "Failed to parse watch: Expecting type to be a string",
        ),
        (
            r#"{"type": "key", "args": ["x"]}"#,
            "Failed to parse watch: Must specify a single key to watch",
        ),
        (
            r#"{"type": "nodes", "args": ["x"], "zoo": 1, "key": "a"}"#,
            "Failed to parse watch: Invalid parameters: [key zoo]",
        ),
        (
            r#"{"type": "nodes", "args": ["x"], "datacenter": 5}"#,
            "Failed to parse watch: Expecting datacenter to be a string",
        ),
        (
            r#"{"type": "nodes", "args": ["x"], "token": {}}"#,
            "Failed to parse watch: Expecting token to be a string",
        ),
        (
            r#"{"type": "connect_leaf", "args": ["x"]}"#,
            "Watch type connect_leaf is not allowed in agent config",
        ),
        (
            r#"{"type": "connect_roots", "args": ["x"]}"#,
            "Watch type connect_roots is not allowed in agent config",
        ),
        (r#"{"type": "nodes"}"#, "Must define a watch handler"),
        (r#"{"type": "nodes", "args": []}"#, "Must define a watch handler"),
        (
            r#"{"type": "nodes", "args": [""]}"#,
            "Must define a watch handler",
        ),
        (
            r#"{"type": "nodes", "handler": ""}"#,
            "Must define a watch handler",
        ),
        (
            r#"{"type": "nodes", "handler": 5}"#,
            "Watch handler must be a string",
        ),
        (
            r#"{"type": "nodes", "args": ["x", 5]}"#,
            "Watch args must be a list of strings",
        ),
        (
            r#"{"type": "nodes", "args": 5}"#,
            "Watch args must be a list of strings",
        ),
        (
            r#"{"type": "nodes", "args": ["x"], "handler": "y"}"#,
            "Only one watch handler allowed",
        ),
        (
            r#"{"type": "nodes", "args": ["x"], "handler_type": "http", "http_handler_config": {"path": "http://x"}}"#,
            "Only one watch handler allowed",
        ),
        (
            r#"{"type": "nodes", "args": ["x"], "handler_type": "bogus"}"#,
            "Handler type 'bogus' not recognized",
        ),
        (
            r#"{"type": "nodes", "args": ["x"], "http_handler_config": {"path": "http://x"}}"#,
            "Failed to parse watch: Invalid parameters: [http_handler_config]",
        ),
        (
            r#"{"type": "nodes", "handler_type": "http"}"#,
            "Failed to parse watch: Handler type 'http' requires 'http_handler_config' to be set",
        ),
    ] {
        assert_eq!(problem(text), why, "{text}");
    }
}

#[test]
fn what_is_no_address_to_tell() {
    for (text, why) in [
        ("{}", "Requires 'path' to be set"),
        (r#"{"path": ""}"#, "Requires 'path' to be set"),
        (
            r#"{"path": "http://x", "timeout": "bogus"}"#,
            "Failed to parse timeout: time: invalid duration \"bogus\"",
        ),
        (
            r#"{"path": "http://x", "timeout": "0"}"#,
            "'timeout' must be longer than 0s",
        ),
        (
            r#"{"path": "http://x", "timeout": 5, "header": {"a": "b"}}"#,
            "2 error(s) decoding:\n\n* 'timeout' expected type 'string', got unconvertible type 'float64'\n\
             * 'header[a]': source data must be an array or slice, got string",
        ),
        (
            r#"{"path": "http://x", "header": {"a": [5]}, "tls_skip_verify": "x"}"#,
            "2 error(s) decoding:\n\n* 'header[a][0]' expected type 'string', got unconvertible type 'float64'\n\
             * 'tls_skip_verify' expected type 'bool', got unconvertible type 'string'",
        ),
        (
            r#"{"path": "http://x", "bogus": 5}"#,
            "1 error occurred:\n\t* invalid config key bogus",
        ),
        ("5", "1 error(s) decoding:\n\n* '' expected a map, got 'float64'"),
        (
            r#"{"path": "nonsense"}"#,
            "'path' must be an address that begins with http:// or https://, not \"nonsense\"",
        ),
        (
            r#"{"path": "ftp://x/"}"#,
            "'path' must be an address that begins with http:// or https://, not \"ftp://x/\"",
        ),
        (
            r#"{"path": "http://x", "method": "a b"}"#,
            "invalid method \"a b\"",
        ),
        (
            r#"{"path": "http://x", "header": {"a b": []}}"#,
            "invalid header field name \"a b\"",
        ),
        (
            r#"{"path": "http://x", "header": {"a": ["x\ny"]}}"#,
            "invalid header field value for \"a\"",
        ),
    ] {
        let found = problem(&format!(
            r#"{{"type": "nodes", "handler_type": "http", "http_handler_config": {text}}}"#
        ));
        let why = format!("Failed to parse watch: Failed to parse 'http_handler_config': {why}");
        assert_eq!(found, why, "{text}");
    }
}

#[test]
fn all_problems_are_told_and_where_they_are() {
    assert_eq!(
        refused(
            r#""watches": [{"type": "nodes"}, {"type": "nodes", "args": ["x"]}, {"type": "x", "args": ["x"]}]"#
        ),
        "2 errors occurred:\n\t* watches[0]: Must define a watch handler\n\t* watches[2]: Failed to parse watch: Unsupported watch type: x"
    );
    assert_eq!(
        refused(r#""watches": [5], "server": 1"#),
        "2 error(s) decoding:\n\n* 'watches[0]' expected a map, got 'float64'\n* 'server' expected type 'bool', got unconvertible type 'float64'"
    );
    assert_eq!(
        refused(r#""watches": {"type": "nodes"}"#),
        "1 error(s) decoding:\n\n* 'watches': source data must be an array or slice, got map"
    );
    let many = vec![r#"{"type": "nodes", "args": ["x"]}"#; 257].join(",");
    assert_eq!(
        refused(&format!(r#""watches": [{many}]"#)),
        "watches: 257 entries; at most 256 are allowed"
    );
}
