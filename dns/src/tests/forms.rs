//! Every form of name, and what is said of it.

use hickory_proto::rr::RecordType;

use super::*;
use crate::config::ServiceTtls;
use lictor_catalog::Weights;

fn scene() -> Scene {
    let scene = Scene::new();
    populate(&scene.world);
    scene
}

pub(super) fn populate(world: &World) {
    world.node(
        "Foo",
        "10.9.0.1",
        &[("k1", "v1"), ("rfc1035-x", "raw text"), ("a=b`", "c"), ("", "")],
    );
    world.node("with.dot", "10.9.0.2", &[]);
    world.node("six", "fd00::1", &[]);
    world.node("nowhere", "x..y", &[]);
    world.service(
        "bar",
        "10.9.0.3",
        ServiceDef {
            tags: ["v1".into(), "Primary".into(), "v1.2".into()].into(),
            ..service("web", 80)
        },
    );
    world.service(
        "baz",
        "10.9.0.4",
        ServiceDef {
            address: "10.9.1.4".into(),
            weights: Weights {
                passing: 5,
                warning: 2,
            },
            ..service("web", 81)
        },
    );
}

#[test]
fn a_node_has_addresses_and_metadata() {
    let scene = scene();
    let texts = [
        "+ foo.node.consul. 0 TXT =",
        "+ foo.node.consul. 0 TXT a`=b``=c",
        "+ foo.node.consul. 0 TXT k1=v1",
        "+ foo.node.consul. 0 TXT raw text",
    ];
    let address = "= foo.node.consul. 0 A 10.9.0.1";
    scene.says(
        "foo.node.consul.",
        RecordType::A,
        &[&["NoError", address][..], &texts].concat(),
    );
    scene.says(
        "foo.node.consul.",
        RecordType::AAAA,
        &[&["NoError", SOA][..], &texts].concat(),
    );
    let answers: Vec<String> = texts.iter().map(|text| text.replacen('+', "=", 1)).collect();
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    scene.says(
        "foo.node.consul.",
        RecordType::TXT,
        &[&["NoError"][..], &answers].concat(),
    );
    scene.says(
        "foo.node.consul.",
        RecordType::ANY,
        &[&["NoError", address][..], &answers].concat(),
    );
    scene.says(
        "with.dot.node.dc1.consul.",
        RecordType::A,
        &["NoError", "= with.dot.node.dc1.consul. 0 A 10.9.0.2"],
    );
    scene.says(
        "six.node.consul.",
        RecordType::AAAA,
        &["NoError", "= six.node.consul. 0 AAAA fd00::1"],
    );
    for (name, kind) in [
        ("six.node.consul.", RecordType::A),
        ("six.node.consul.", RecordType::TXT),
        ("six.node.consul.", RecordType::SRV),
        ("six.node.consul.", RecordType::MX),
        ("nowhere.node.consul.", RecordType::A),
    ] {
        scene.says(name, kind, &["NoError", SOA]);
    }
    scene.says("nope.node.consul.", RecordType::A, &["NXDomain", SOA]);
    scene.says("nope.node.consul.", RecordType::SRV, &["NXDomain", SOA]);
}

#[test]
fn metadata_need_not_come_along() {
    let scene = Scene::configured(|config| config.additional_node_meta = false);
    populate(&scene.world);
    scene.says(
        "foo.node.consul.",
        RecordType::A,
        &["NoError", "= foo.node.consul. 0 A 10.9.0.1"],
    );
    assert_eq!(scene.said("foo.node.consul.", RecordType::TXT).len(), 5);
}

#[test]
fn a_service_has_the_addresses_of_its_instances() {
    let scene = scene();
    for name in [
        "web.service.consul.",
        "web.service.dc1.consul.",
        "_web._tcp.service.consul.",
        "_web._tcp.consul.",
    ] {
        scene.says(
            name,
            RecordType::A,
            &[
                "NoError",
                &format!("= {name} 0 A 10.9.0.3"),
                &format!("= {name} 0 A 10.9.1.4"),
            ],
        );
        for kind in [
            RecordType::AAAA,
            RecordType::TXT,
            RecordType::MX,
            RecordType::CNAME,
        ] {
            scene.says(name, kind, &["NoError", SOA]);
        }
    }
    for name in [
        "v1.web.service.consul.",
        "PRIMARY.web.service.consul.",
        "v1.2.web.service.consul.",
        "_web._v1.service.consul.",
    ] {
        assert_eq!(scene.ask(name, RecordType::A).answers.len(), 1, "{name}");
        assert_eq!(scene.ask(name, RecordType::ANY).answers.len(), 1, "{name}");
    }
    for name in [
        "nope.service.consul.",
        "v9.web.service.consul.",
        "_web._udp.service.consul.",
        "web.service.nowhere.consul.",
    ] {
        scene.says(name, RecordType::A, &["NXDomain", SOA]);
    }
}

#[test]
fn two_instances_at_one_address_are_one_address_and_two_services() {
    let scene = scene();
    let second = ServiceDef {
        id: "web2".into(),
        ..service("web", 8080)
    };
    scene.world.service("bar", "10.9.0.3", second);
    assert_eq!(scene.ask("web.service.consul.", RecordType::A).answers.len(), 2);
    let all = scene.ask("web.service.consul.", RecordType::SRV);
    assert_eq!((all.answers.len(), all.additionals.len()), (3, 3));
}

#[test]
fn a_service_record_leads_to_an_address_that_comes_along() {
    let scene = scene();
    scene.says(
        "web.service.consul.",
        RecordType::SRV,
        &[
            "NoError",
            "= web.service.consul. 0 SRV 1 1 80 bar.node.dc1.consul.",
            "= web.service.consul. 0 SRV 1 5 81 0a090104.addr.dc1.consul.",
            "+ 0a090104.addr.dc1.consul. 0 A 10.9.1.4",
            "+ bar.node.dc1.consul. 0 A 10.9.0.3",
        ],
    );
    scene.world.service("six", "fd00::1", service("six", 6));
    scene.says(
        "six.service.consul.",
        RecordType::SRV,
        &[
            "NoError",
            "= six.service.consul. 0 SRV 1 1 6 six.node.dc1.consul.",
            "+ six.node.dc1.consul. 0 AAAA fd00::1",
        ],
    );
    let metadata = node("meta", "10.9.0.8", &[("k", "v")]);
    scene.world.register(Registration {
        node: metadata,
        service: Some(service("meta", 1)),
        ..Registration::default()
    });
    scene.says(
        "meta.service.consul.",
        RecordType::SRV,
        &[
            "NoError",
            "= meta.service.consul. 0 SRV 1 1 1 meta.node.dc1.consul.",
            "+ meta.node.dc1.consul. 0 A 10.9.0.8",
            "+ meta.node.dc1.consul. 0 TXT k=v",
        ],
    );
}

#[test]
fn a_node_whose_name_is_no_name_is_found_by_its_address() {
    let scene = Scene::new();
    scene
        .world
        .service(&"x".repeat(64), "10.9.0.9", service("long", 1));
    scene.says(
        "long.service.consul.",
        RecordType::SRV,
        &[
            "NoError",
            "= long.service.consul. 0 SRV 1 1 1 0a090009.addr.dc1.consul.",
            "+ 0a090009.addr.dc1.consul. 0 A 10.9.0.9",
        ],
    );
}

#[test]
fn instances_that_are_not_well_are_not_named() {
    let scene = scene();
    let count = |scene: &Scene| scene.ask("web.service.consul.", RecordType::A).answers.len();
    scene.world.check("bar", "web", Status::Warning);
    scene.world.check("baz", "web", Status::Warning);
    assert_eq!(count(&scene), 2);
    let weights = scene.said("web.service.consul.", RecordType::SRV);
    assert!(weights.contains(&"= web.service.consul. 0 SRV 1 2 81 0a090104.addr.dc1.consul.".to_owned()));
    scene.world.check("bar", "web", Status::Critical);
    assert_eq!(count(&scene), 1);
    scene.world.check("baz", "", Status::Critical);
    scene.says("web.service.consul.", RecordType::A, &["NXDomain", SOA]);
    scene.world.check("baz", "", Status::Passing);
    assert_eq!(count(&scene), 1);
    scene.world.deregister("baz");
    scene.says("web.service.consul.", RecordType::A, &["NXDomain", SOA]);

    let strict = Scene::configured(|config| config.only_passing = true);
    populate(&strict.world);
    strict.world.check("bar", "web", Status::Warning);
    assert_eq!(count(&strict), 1);
}

#[test]
fn the_mesh_is_entered_by_proxies() {
    let scene = scene();
    scene.world.service("bar", "10.9.0.3", proxy("web", 21_000));
    scene.says(
        "web.connect.consul.",
        RecordType::SRV,
        &[
            "NoError",
            "= web.connect.consul. 0 SRV 1 1 21000 bar.node.dc1.consul.",
            "+ bar.node.dc1.consul. 0 A 10.9.0.3",
        ],
    );
    scene.says("db.connect.consul.", RecordType::A, &["NXDomain", SOA]);
    scene.says("web.ingress.consul.", RecordType::A, &["NXDomain", SOA]);
    scene.says("web.virtual.consul.", RecordType::A, &["NXDomain", SOA]);
}

#[test]
fn addresses_have_names() {
    let scene = scene();
    scene.says(
        "7F000001.addr.consul.",
        RecordType::A,
        &["NoError", "= 7F000001.addr.consul. 0 A 127.0.0.1"],
    );
    let v6 = "fd000000000000000000000000000001.addr.nowhere.consul.";
    scene.says(
        v6,
        RecordType::ANY,
        &["NoError", &format!("= {v6} 0 AAAA fd00::1")],
    );
    scene.says("7f000001.addr.consul.", RecordType::AAAA, &["NoError", SOA]);
    scene.says("7f00.addr.consul.", RecordType::A, &["NXDomain", SOA]);
}

#[test]
fn addresses_lead_back_to_names() {
    let scene = scene();
    let of_node = "1.0.9.10.in-addr.arpa.";
    let answer = scene.ask(of_node, RecordType::PTR);
    assert_eq!(
        said(&answer),
        ["NoError", &format!("= {of_node} 0 PTR Foo.node.dc1.consul.")]
    );
    assert!(answer.metadata.authoritative);
    let of_service = "4.1.9.10.in-addr.arpa.";
    scene.says(
        of_service,
        RecordType::ANY,
        &[
            "NoError",
            &format!("= {of_service} 0 PTR web.service.dc1.consul."),
        ],
    );
    scene.says(of_node, RecordType::A, &["NoError"]);
    let v6 = format!("1.{}d.f.ip6.arpa.", "0.".repeat(29));
    scene.says(
        &v6,
        RecordType::PTR,
        &["NoError", &format!("= {v6} 0 PTR six.node.dc1.consul.")],
    );
    scene.world.node("twin", "10.9.0.1", &[]);
    let both = || scene.ask(of_node, RecordType::PTR).answers.len();
    // The index of addresses is not made anew all the time.
    let began = Instant::now();
    while both() < 2 {
        assert!(began.elapsed() < Duration::from_mins(1));
        std::thread::yield_now();
    }
    for name in ["9.9.9.9.in-addr.arpa.", "0.9.10.in-addr.arpa.", "in-addr.arpa."] {
        let answer = scene.ask(name, RecordType::PTR);
        assert_eq!(said(&answer), ["ServFail"]);
        assert!(!answer.metadata.authoritative);
    }
}

#[test]
fn the_domain_has_servers() {
    let scene = scene();
    scene.says("consul.", RecordType::NS, &["NoError", SOA]);
    for number in 1..=5 {
        scene.world.service(
            &format!("s{number}"),
            &format!("10.0.0.{number}"),
            service("consul", 8300),
        );
    }
    scene
        .world
        .service("no name", "10.0.0.9", service("consul", 8300));
    scene.world.check("s1", "", Status::Critical);
    for name in ["consul.", "anything.at.all.consul."] {
        let answer = scene.ask(name, RecordType::NS);
        assert_eq!((answer.answers.len(), answer.additionals.len()), (3, 3));
        let lines = said(&answer);
        assert!(
            lines[1].starts_with("= consul. 0 NS s") && lines[1].ends_with(".node.dc1.consul."),
            "{lines:?}"
        );
        assert!(!lines.iter().any(|line| line.contains("s1.node")), "{lines:?}");
        let answer = scene.ask(name, RecordType::SOA);
        assert_eq!(
            (
                answer.answers.len(),
                answer.authorities.len(),
                answer.additionals.len()
            ),
            (1, 3, 3)
        );
        assert_eq!(said(&answer)[1], SOA.replacen('^', "=", 1));
    }
}

#[test]
fn names_that_others_end_in_exist() {
    let scene = scene();
    for name in [
        "consul.",
        "service.consul.",
        "dc2.consul.",
        "_tcp.consul.",
        "_tcp.service.consul.",
        "_v1.service.dc1.consul.",
        "2.web.service.consul.",
    ] {
        scene.says(name, RecordType::A, &["NoError", SOA]);
    }
    for name in [
        "bogus.consul.",
        "service.nowhere.consul.",
        "ns.consul.",
        "1.2.web.service.consul.",
    ] {
        scene.says(name, RecordType::A, &["NXDomain", SOA]);
    }
}

#[test]
fn other_domains_are_refused() {
    let answer = scene().ask("example.com.", RecordType::A);
    assert_eq!(said(&answer), ["Refused"]);
    let flags = answer.metadata;
    assert!(!flags.authoritative && !flags.recursion_available && flags.recursion_desired);
}

#[test]
fn a_second_domain_answers_in_its_own_name() {
    let scene = Scene::configured(|config| {
        config.domain = "My.Corp".parse().unwrap();
        config.alt_domain = Some("alt.test".parse().unwrap());
    });
    populate(&scene.world);
    for domain in ["my.corp.", "alt.test."] {
        let name = format!("web.service.{domain}");
        scene.says(
            &name,
            RecordType::SRV,
            &[
                "NoError",
                &format!("= {name} 0 SRV 1 1 80 bar.node.dc1.{domain}"),
                &format!("= {name} 0 SRV 1 5 81 0a090104.addr.dc1.{domain}"),
                &format!("+ 0a090104.addr.dc1.{domain} 0 A 10.9.1.4"),
                &format!("+ bar.node.dc1.{domain} 0 A 10.9.0.3"),
            ],
        );
        let soa = format!("^ {domain} 0 SOA ns.{domain} hostmaster.{domain} 3600 600 86400 0");
        scene.says(&format!("nope.node.{domain}"), RecordType::A, &["NXDomain", &soa]);
    }
    scene.says("web.service.consul.", RecordType::A, &["Refused"]);
}

#[test]
fn the_letters_of_the_name_stay_as_they_are() {
    let scene = scene();
    for compress in [true, false] {
        let mut config = Config::new("dc1");
        config.disable_compression = !compress;
        scene.service.reconfigure(config);
        for name in [
            "WEB.Service.CONSUL.",
            "web.service.consul.",
            "wEB.sERVICE.cONSUL.",
        ] {
            let answer = scene.ask(name, RecordType::A);
            assert_eq!(answer.queries[0].name().to_string(), name);
            assert_eq!(answer.answers.len(), 2);
            for record in &answer.answers {
                assert_eq!(record.name.to_string(), name, "{compress}");
            }
        }
    }
}

#[test]
fn others_may_keep_answers_for_as_long_as_it_says() {
    let scene = Scene::configured(|config| {
        config.node_ttl = Duration::from_secs(7);
        config.service_ttl = [("web", Duration::from_secs(9)), ("*", Duration::from_secs(3))]
            .into_iter()
            .collect::<ServiceTtls>();
        config.soa.min_ttl = 11;
    });
    populate(&scene.world);
    scene.says(
        "with.dot.node.consul.",
        RecordType::A,
        &["NoError", "= with.dot.node.consul. 7 A 10.9.0.2"],
    );
    scene.says(
        "7f000001.addr.consul.",
        RecordType::A,
        &["NoError", "= 7f000001.addr.consul. 7 A 127.0.0.1"],
    );
    let soa = "^ consul. 11 SOA ns.consul. hostmaster.consul. 3600 600 86400 11";
    scene.says("nope.service.consul.", RecordType::A, &["NXDomain", soa]);
    let web = scene.ask("web.service.consul.", RecordType::SRV);
    assert!(
        web.answers
            .iter()
            .chain(&web.additionals)
            .all(|record| record.ttl == 9)
    );
    scene.world.service("bar", "10.9.0.3", service("db", 1));
    assert_eq!(scene.ask("db.service.consul.", RecordType::A).answers[0].ttl, 3);
    assert_eq!(
        scene.ask("3.0.9.10.in-addr.arpa.", RecordType::PTR).answers[0].ttl,
        0
    );
}
