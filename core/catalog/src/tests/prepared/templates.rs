//! What templates fill in, and which are none.

use super::*;
use crate::{MAX_PATTERN_GROUPS, MAX_RENDERED_BYTES, TemplateError};

/// A template for names with `geo-` in front, whose service is this.
fn with_service(service: &str) -> PreparedDef {
    let mut def = template(1, "geo-");
    def.service.service = service.into();
    def
}

fn with_pattern(pattern: &str, service: &str) -> PreparedDef {
    let mut def = with_service(service);
    def.template.pattern = pattern.into();
    def
}

/// The service that a template asks for under a name.
#[track_caller]
fn filled_in(def: PreparedDef, name: &str) -> String {
    assert_eq!(def.check_template(), Ok(()));
    let mut bench = Bench::new();
    made(&mut bench, def);
    resolve(&bench, name)
        .unwrap()
        .unwrap()
        .def
        .service
        .service
        .to_string()
}

#[test]
fn parts_are_filled_in() {
    for (service, name, expected) in [
        ("web", "geo-db", "web"),
        (
            "${name.full}|${name.prefix}|${name.suffix}|",
            "geo-db",
            "geo-db|geo-|db|",
        ),
        ("${name.suffix}", "Geo-db", "Geo-db"),
        ("a${ agent.segment }b", "geo-db", "ab"),
        ("$${name.full}", "geo-db", "${name.full}"),
        ("${\"x${name.full}\"}${-1}", "geo-db", "xgeo-db-1"),
        ("${match(0)}", "geo-db", ""),
    ] {
        assert_eq!(filled_in(with_service(service), name), expected, "{service}");
    }
    let groups = "${match(0)}|${match(1)}|${match(2)}|${match(3)}|${match(-1)}|${match(\"1\")}";
    let with_groups = || with_pattern("^geo-(.*)-([a-z]+)$", groups);
    assert_eq!(
        filled_in(with_groups(), "geo-a-b-main"),
        "geo-a-b-main|a-b|main|||a-b"
    );
    assert_eq!(filled_in(with_groups(), "geo-MAIN"), "|||||");
}

#[test]
fn every_text_may_have_parts() {
    let name = "${name.suffix}";
    let mut def = template(1, "t-");
    def.template.remove_empty_tags = true;
    def.service = PreparedService {
        service: name.into(),
        failover: Failover {
            nearest: 1,
            datacenters: Some(vec![name.into()]),
        },
        only_passing: true,
        ignored_checks: Some(vec!["c".into(), name.into()]),
        near: name.into(),
        tags: Some(vec!["${match(1)}".into(), name.into(), "a".into()]),
        node_meta: Some([("k", name.into())].into_iter().collect()),
        service_meta: Some([("${name.full}", name.into())].into_iter().collect()),
        connect: true,
    };
    let mut bench = Bench::new();
    made(&mut bench, def.clone());
    let found = resolve(&bench, "t-x").unwrap().unwrap();
    let expected = PreparedService {
        service: "x".into(),
        failover: Failover {
            nearest: 1,
            datacenters: Some(vec!["x".into()]),
        },
        only_passing: true,
        ignored_checks: Some(vec!["c".into(), "x".into()]),
        near: "x".into(),
        tags: Some(vec!["x".into(), "a".into()]),
        node_meta: Some([("k", "x".into())].into_iter().collect()),
        // Names of labels are as they are.
        service_meta: Some([("${name.full}", "x".into())].into_iter().collect()),
        connect: true,
    };
    assert_eq!(found.def.service, expected);
    assert_eq!((&found.def.name, found.create_index), (&def.name, Index(1)));
    def.template.remove_empty_tags = false;
    assert_eq!(update(&mut bench, def), DONE);
    let found = resolve(&bench, "t-x").unwrap().unwrap();
    assert_eq!(
        found.def.service.tags,
        Some(vec!["".into(), "x".into(), "a".into()])
    );
}

#[test]
fn what_makes_no_sense_is_said_in_the_known_words() {
    let wrong = |def: PreparedDef| def.check_template().unwrap_err().to_string();
    for (service, why) in [
        ("${name.bogus}", "1:3: unknown variable accessed: name.bogus"),
        ("ab\nc${x}", "2:4: unknown variable accessed: x"),
        ("${match}", "1:3: unknown variable accessed: match"),
        ("${nope(1)}", "1:3: unknown function called: nope"),
        ("${match()}", "1:3: match: expected 1 arguments, got 0"),
        ("${match(1,2)}", "1:3: match: expected 1 arguments, got 2"),
        (
            "${match(\"a\")}",
            "__builtin_StringToInt: strconv.ParseInt: parsing \"a\": invalid syntax",
        ),
        (
            "${match(name.full)}",
            "__builtin_StringToInt: strconv.ParseInt: parsing \"geo-\": invalid syntax",
        ),
    ] {
        let expected = format!("Bad evaluation for '{service}' in Service.Service: {why}");
        assert_eq!(wrong(with_service(service)), expected);
    }
    assert_eq!(
        wrong(with_service("${bogus(")),
        "Bad format '${bogus(' in Service.Service: parse error: syntax error"
    );
    let mut def = with_service("web");
    def.service.tags = Some(vec!["a".into(), "${x}".into()]);
    def.service.node_meta = Some([("k", "${y}".into())].into_iter().collect());
    assert_eq!(
        wrong(def.clone()),
        "Bad evaluation for '${x}' in Service.Tags[1]: 1:3: unknown variable accessed: x"
    );
    def.service.tags = None;
    assert_eq!(
        wrong(def.clone()),
        "Bad evaluation for '${y}' in Service.NodeMeta[k]: 1:3: unknown variable accessed: y"
    );
    def.template.kind = "bogus".into();
    assert_eq!(wrong(def), "Bad Template.Type 'bogus'");
    // One that is no template may say anything.
    let mut plain = super::def(1, "q");
    plain.service.service = "${".into();
    plain.template.pattern = "(".into();
    assert_eq!(plain.check_template(), Ok(()));
}

#[test]
fn nothing_grows_without_bound() {
    let of_pattern = |pattern: &str| with_pattern(pattern, "web").check_template();
    for pattern in ["(", "((a{100}){100}){100}", &"(".repeat(200), "\\w{1000}"] {
        let error = of_pattern(pattern).unwrap_err();
        assert!(
            matches!(&error, TemplateError::Pattern { pattern: of, .. } if **of == *pattern),
            "{error:?}"
        );
        assert!(!error.to_string().contains('\n'));
    }
    assert_eq!(of_pattern("^(.*?)+(a|aa)+$"), Ok(()));
    let groups = |many: usize| of_pattern(&"(a)".repeat(many));
    assert_eq!(groups(MAX_PATTERN_GROUPS), Ok(()));
    let why = groups(MAX_PATTERN_GROUPS + 1).unwrap_err().to_string();
    let expected = "Bad Regexp: error parsing regexp: it has 33 groups, and may have 32";
    assert_eq!(why, expected);
    // A field that repeats the name as often as it can, in as many tags as there may be.
    let mut def = template(1, "t-");
    let repeated: crate::Text = "${name.full}".repeat(42).into();
    def.service.tags = Some(vec![repeated; MAX_PREPARED_LIST]);
    let mut bench = Bench::new();
    made(&mut bench, def);
    assert!(resolve(&bench, "t-x").is_ok());
    let long = format!("t-{}", "x".repeat(500));
    assert_eq!(
        resolve(&bench, &long),
        Err(format!(
            "the query has more than {MAX_RENDERED_BYTES} bytes once it is filled in"
        ))
    );
}

#[test]
fn one_that_another_version_took_says_why_it_is_none() {
    let mut bench = Bench::new();
    made(&mut bench, with_service("${"));
    assert_eq!(
        resolve(&bench, "geo-x"),
        Err("Bad format '${' in Service.Service: parse error: syntax error".to_owned())
    );
}
