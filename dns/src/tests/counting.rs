//! What is counted of what is answered.

use super::*;

impl Scene {
    /// How many names of the domains, and how many of addresses, were asked for; and how many answers were stale.
    fn counted(&self) -> [u64; 3] {
        let report = self.metrics.report();
        let sample = |name: &str| {
            let series = report.samples.iter().find(|series| series.name == name);
            series.unwrap().total.count
        };
        let counters = report.counters.iter();
        let stale = counters.filter(|series| series.name == "consul.dns.stale_queries");
        [
            sample("consul.dns.domain_query"),
            sample("consul.dns.ptr_query"),
            stale.map(|series| series.total.count).sum(),
        ]
    }
}

#[test]
fn names_are_counted_by_what_they_are_about() {
    let scene = Scene::new();
    scene.world.node("a", "10.0.0.1", &[]);
    assert_eq!(scene.counted(), [0, 0, 0]);
    scene.ask("a.node.consul.", RecordType::A);
    scene.ask("a.node.consul.", RecordType::A);
    assert_eq!(scene.counted(), [2, 0, 0], "those that were kept count as well");
    scene.ask("nobody.node.consul.", RecordType::A);
    scene.ask("bogus.consul.", RecordType::A);
    assert_eq!(scene.counted(), [4, 0, 0]);
    scene.ask("1.0.0.10.in-addr.arpa.", RecordType::PTR);
    scene.ask("9.9.9.9.in-addr.arpa.", RecordType::PTR);
    assert_eq!(scene.counted(), [4, 2, 0]);
    scene.ask("example.com.", RecordType::A);
    assert_eq!(scene.counted(), [4, 2, 0], "others know that");
}

#[test]
fn answers_that_may_be_out_of_date_are_counted() {
    let scene = Scene::new();
    scene.world.node("a", "10.0.0.1", &[]);
    let age = |seconds| *scene.world.age.lock().unwrap() = Duration::from_secs(seconds);
    age(5);
    scene.ask("a.node.consul.", RecordType::A);
    assert_eq!(scene.counted(), [1, 0, 0]);
    age(6);
    scene.ask("a.node.consul.", RecordType::A);
    scene.ask("1.0.0.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(scene.counted(), [2, 1, 2], "whether they were made before or not");
    scene.ask("bogus.consul.", RecordType::A);
    assert_eq!(
        scene.counted(),
        [3, 1, 2],
        "that is so, however old the catalog is"
    );
}

#[test]
fn what_others_answer_is_as_old_as_they_say() {
    let scene = Scene::with(World::new(false), |_| {});
    scene.world.node("a", "10.0.0.1", &[]);
    *scene.world.age.lock().unwrap() = Duration::from_secs(6);
    scene.ask("a.node.consul.", RecordType::A);
    scene.ask("a.node.consul.", RecordType::A);
    assert_eq!(scene.counted(), [2, 0, 2]);
}

#[test]
fn what_is_too_long_for_the_way_is_counted_once() {
    let scene = Scene::new();
    scene.world.node("a", "10.0.0.1", &[]);
    let (mut desk, query) = (scene.service.desk(), query("a.node.consul.", RecordType::A, UDP));
    let begun = Instant::now();
    for transport in [Transport::Udp, Transport::NarrowUdp] {
        let answered = scene.service.at_once(&mut desk, &query, CLIENT, transport);
        assert!(matches!(answered, AtOnce::Written), "{answered:?}");
    }
    scene.service.note(&mut desk, begun);
    assert_eq!(scene.counted(), [1, 0, 0]);
    assert_eq!(scene.service.stats().answers.no_error, 1);
}
