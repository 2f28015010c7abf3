//! What is far, what is prepared, and what comes first.

use hickory_proto::rr::RecordType;

use super::forms::populate;
use super::*;
use crate::config::ZonePreference;
use lictor_catalog::ServiceAddress;

#[test]
fn other_data_centers_are_asked() {
    let scene = Scene::configured(|config| config.translate_wan_addresses = true);
    let far = Registration {
        node: NodeDef {
            tagged_addresses: [("wan", "203.0.113.1".into())].into_iter().collect(),
            ..node("far", "10.2.0.1", &[])
        },
        service: Some(service("web", 80)),
        ..Registration::default()
    };
    scene.world.apply("dc2", Action::Register(Box::new(far)));
    let own = Registration {
        node: node("own", "10.2.0.2", &[]),
        service: Some(ServiceDef {
            tagged_addresses: [(
                "wan",
                ServiceAddress {
                    address: "203.0.113.2".into(),
                    port: 8080,
                },
            )]
            .into_iter()
            .collect(),
            ..service("web", 80)
        }),
        ..Registration::default()
    };
    scene.world.apply("dc2", Action::Register(Box::new(own)));
    scene.says(
        "far.node.dc2.consul.",
        RecordType::A,
        &["NoError", "= far.node.dc2.consul. 0 A 203.0.113.1"],
    );
    scene.says(
        "web.service.dc2.consul.",
        RecordType::SRV,
        &[
            "NoError",
            "= web.service.dc2.consul. 0 SRV 1 1 80 far.node.dc2.consul.",
            "= web.service.dc2.consul. 0 SRV 1 1 8080 cb007102.addr.dc2.consul.",
            "+ cb007102.addr.dc2.consul. 0 A 203.0.113.2",
            "+ far.node.dc2.consul. 0 A 203.0.113.1",
        ],
    );
    scene.says("far.node.dc3.consul.", RecordType::A, &["NXDomain", SOA]);
}

#[test]
fn prepared_queries_are_carried_out() {
    let scene = Scene::new();
    populate(&scene.world);
    scene.says("geo.query.consul.", RecordType::A, &["NXDomain", SOA]);
    let instances = Query::HealthService {
        service: "web".to_owned(),
        connect: false,
    };
    let found = scene.world.snapshot().unwrap().state.query(&instances).1;
    let lictor_catalog::Found::Instances(instances) = found else {
        panic!("{found:?}");
    };
    let execution = Execution {
        service: "web".to_owned(),
        datacenter: "dc2".to_owned(),
        instances,
        ordered: true,
        ttl: Some(Duration::from_secs(17)),
    };
    scene
        .world
        .executions
        .lock()
        .unwrap()
        .insert("geo".to_owned(), execution);
    for _ in 0..10 {
        let answer = scene.ask("geo.query.consul.", RecordType::A);
        let lines: Vec<String> = answer.answers.iter().map(|record| line('=', record)).collect();
        assert_eq!(
            lines,
            [
                "= geo.query.consul. 17 A 10.9.0.3",
                "= geo.query.consul. 17 A 10.9.1.4"
            ]
        );
    }
    let mut for_net = query("geo.query.consul.", RecordType::A, edns(1232));
    let length_at = for_net.len() - 2;
    for_net[length_at..].copy_from_slice(&11_u16.to_be_bytes());
    for_net.extend_from_slice(&[0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2]);
    let answer = scene.exchange(&mut scene.service.desk(), &for_net, false);
    assert!(answer.unwrap().ends_with(&[0, 8, 0, 7, 0, 1, 24, 24, 192, 0, 2]));
    let services = scene.said("GEO.query.consul.", RecordType::SRV);
    assert!(
        services[1].ends_with("SRV 1 1 80 bar.node.dc2.consul."),
        "{services:?}"
    );
}

#[test]
fn the_own_zone_comes_first() {
    let scene = Scene::configured(|config| {
        config.zone = Some(ZonePreference {
            node_meta: "zone".to_owned(),
            zone: "a".to_owned(),
            min_instances: 2,
        });
    });
    let put = |name: &str, address: &str, zone: &str| {
        scene.world.register(Registration {
            node: node(name, address, &[("zone", zone)]),
            service: Some(service("web", 80)),
            ..Registration::default()
        });
    };
    put("a1", "10.0.1.1", "a");
    put("b1", "10.0.2.1", "b");
    put("b2", "10.0.2.2", "b");
    // Too few: the others follow.
    for kind in [RecordType::A, RecordType::SRV] {
        for _ in 0..20 {
            let answer = scene.ask("web.service.consul.", kind);
            assert_eq!(answer.answers.len(), 3);
            let first = answer.answers[0].data.to_string();
            assert!(first.contains("10.0.1.1") || first.contains("a1."), "{first}");
        }
    }
    put("a2", "10.0.1.2", "a");
    assert_eq!(
        scene.said("web.service.consul.", RecordType::A),
        [
            "NoError",
            "= web.service.consul. 0 A 10.0.1.1",
            "= web.service.consul. 0 A 10.0.1.2"
        ]
    );
    scene.world.check("a1", "", Status::Critical);
    assert_eq!(scene.ask("web.service.consul.", RecordType::A).answers.len(), 3);
}

#[test]
fn services_may_say_their_priority() {
    let scene = Scene::configured(|config| config.srv_priority_meta = Some("prio".to_owned()));
    for (name, said) in [("n1", "10"), ("n2", "nonsense"), ("n3", "65536")] {
        let def = ServiceDef {
            meta: [("prio", said.into())].into_iter().collect(),
            ..service("web", 80)
        };
        scene.world.service(name, "10.0.0.1", def);
    }
    let lines = scene.said("web.service.consul.", RecordType::SRV);
    let srv = |node: &str, priority: u16| {
        format!("= web.service.consul. 0 SRV {priority} 1 80 {node}.node.dc1.consul.")
    };
    assert_eq!(lines[1..4], [srv("n2", 1), srv("n3", 1), srv("n1", 10)]);
}
