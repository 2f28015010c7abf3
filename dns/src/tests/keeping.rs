//! Answers that are kept, and when they are not good any more.

use hickory_proto::rr::RecordType;

use super::*;

const NAME: &str = "web.service.consul.";

/// Asks until the answer is as wanted; what others have to be told takes a moment.
#[track_caller]
fn comes_to(scene: &Scene, wanted: impl Fn(&Message) -> bool) {
    let began = Instant::now();
    loop {
        let answer = scene.ask(NAME, RecordType::A);
        if wanted(&answer) {
            return;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "{answer:?}");
        std::thread::yield_now();
    }
}

#[test]
fn an_answer_is_made_once_until_something_changes_in_it() {
    let scene = Scene::new();
    let hits = || scene.service.stats().hits;
    scene.world.service("n1", "10.0.0.1", service("web", 80));
    assert_eq!(scene.ask(NAME, RecordType::A).answers.len(), 1);
    assert_eq!(hits(), 0);
    assert_eq!(scene.ask("WEB.service.consul.", RecordType::A).answers.len(), 1);
    assert_eq!(hits(), 1);
    scene.world.node("other", "10.0.0.9", &[]);
    scene.ask(NAME, RecordType::A);
    assert_eq!(hits(), 2, "a change elsewhere does not matter");
    scene.world.service("n2", "10.0.0.2", service("web", 80));
    assert_eq!(scene.ask(NAME, RecordType::A).answers.len(), 2);
    assert_eq!(hits(), 2);
    scene.world.check("n1", "web", Status::Critical);
    assert_eq!(scene.ask(NAME, RecordType::A).answers.len(), 1);
    scene.world.service("n2", "10.0.0.3", service("web", 80));
    assert_eq!(
        scene.said(NAME, RecordType::A)[1],
        "= web.service.consul. 0 A 10.0.0.3"
    );
    assert_eq!(hits(), 2);
    scene.says("new.node.consul.", RecordType::A, &["NXDomain", SOA]);
    scene.world.node("new", "10.0.0.4", &[]);
    assert_eq!(
        scene.said("new.node.consul.", RecordType::A)[1],
        "= new.node.consul. 0 A 10.0.0.4"
    );
}

#[test]
fn a_state_that_was_replaced_is_read_anew() {
    let scene = Scene::new();
    scene.world.service("n1", "10.0.0.1", service("web", 80));
    let first = scene.said(NAME, RecordType::A);
    {
        let mut states = scene.world.states.lock().unwrap();
        states.insert("dc1".to_owned(), (State::new(), 1));
    }
    // The same indexes, and other content.
    scene.world.service("n1", "10.0.0.2", service("web", 80));
    assert_ne!(scene.said(NAME, RecordType::A), first);
}

#[test]
fn a_data_center_that_comes_or_goes_is_known_at_once() {
    let scene = Scene::new();
    let absent = ["NXDomain", SOA];
    let present = ["NoError", SOA];
    for name in ["dc3.consul.", "service.dc3.consul.", "_tcp.dc3.consul."] {
        scene.says(name, RecordType::A, &absent);
        let mut states = scene.world.states.lock().unwrap();
        states.insert("dc3".to_owned(), (State::new(), 0));
        drop(states);
        scene.says(name, RecordType::A, &present);
        scene.world.states.lock().unwrap().remove("dc3");
        scene.says(name, RecordType::A, &absent);
    }
}

#[test]
fn a_host_in_a_data_center_that_comes_is_known_at_once() {
    let scene = Scene::new();
    scene.world.node("a", "b.node.dc3.consul", &[]);
    let name = "a.node.consul.";
    let alias = "= a.node.consul. 0 CNAME b.node.dc3.consul.";
    scene.says(name, RecordType::A, &["NoError", alias]);
    let mut states = scene.world.states.lock().unwrap();
    states.insert("dc3".to_owned(), (State::new(), 0));
    drop(states);
    let registration = Registration {
        node: node("b", "10.0.0.3", &[]),
        ..Registration::default()
    };
    scene.world.apply("dc3", Action::Register(Box::new(registration)));
    let address = "= b.node.dc3.consul. 0 A 10.0.0.3";
    scene.says(name, RecordType::A, &["NoError", alias, address]);
}

#[test]
fn another_configuration_counts_at_once() {
    let scene = Scene::new();
    scene.world.service("n1", "10.0.0.1", service("web", 80));
    assert_eq!(scene.ask(NAME, RecordType::A).answers[0].ttl, 0);
    let mut config = Config::new("dc1");
    config.service_ttl = [("*", Duration::from_secs(5))].into_iter().collect();
    scene.service.reconfigure(config);
    assert_eq!(scene.ask(NAME, RecordType::A).answers[0].ttl, 5);
}

#[test]
fn a_catalog_that_is_too_old_is_not_answered_from() {
    let scene = Scene::configured(|config| config.max_stale = Duration::from_secs(10));
    scene.world.service("n1", "10.0.0.1", service("web", 80));
    *scene.world.age.lock().unwrap() = Duration::from_secs(10);
    scene.ask(NAME, RecordType::A);
    assert_eq!(scene.world.asked(), 0);
    *scene.world.age.lock().unwrap() = Duration::from_secs(11);
    assert_eq!(said(&scene.ask(NAME, RecordType::A)), ["ServFail"]);
    assert_eq!(scene.world.asked(), 1);
}

#[test]
fn who_wants_no_stale_answers_asks_the_leader_each_time() {
    let scene = Scene::configured(|config| config.allow_stale = false);
    scene.world.service("n1", "10.0.0.1", service("web", 80));
    for count in 1..4 {
        assert_eq!(scene.ask(NAME, RecordType::A).answers.len(), 1);
        assert_eq!(scene.world.asked(), count);
    }
    scene.world.set_reachable(false);
    assert_eq!(said(&scene.ask(NAME, RecordType::A)), ["ServFail"]);
}

#[test]
fn an_agent_without_a_catalog_is_told_of_changes() {
    let scene = Scene::with(World::new(false), |_| {});
    scene.world.service("n1", "10.0.0.1", service("web", 80));
    assert_eq!(scene.ask(NAME, RecordType::A).answers.len(), 1);
    // Once for the answer, and once to be told of changes, when that has begun.
    for _ in 0..100 {
        scene.ask(NAME, RecordType::A);
    }
    assert!(scene.world.asked() <= 2, "{}", scene.world.asked());
    assert!(scene.service.stats().hits >= 99);
    scene.world.service("n2", "10.0.0.2", service("web", 80));
    comes_to(&scene, |answer| answer.answers.len() == 2);
    scene.world.deregister("n1");
    comes_to(&scene, |answer| answer.answers.len() == 1);
    scene.world.deregister("n2");
    comes_to(&scene, |answer| answer.answers.is_empty());
    scene.world.service("n3", "10.0.0.3", service("web", 80));
    comes_to(&scene, |answer| answer.answers.len() == 1);
}

#[test]
fn what_is_kept_is_said_while_nobody_can_be_reached() {
    let scene = Scene::with(World::new(false), |_| {});
    scene.world.service("n1", "10.0.0.1", service("web", 80));
    assert_eq!(scene.ask(NAME, RecordType::A).answers.len(), 1);
    scene.world.set_reachable(false);
    let began = Instant::now();
    while scene.service.stats().oldest_kept.is_zero() {
        assert!(began.elapsed() < Duration::from_mins(1));
        assert_eq!(scene.ask(NAME, RecordType::A).answers.len(), 1);
        std::thread::yield_now();
    }
    assert_eq!(scene.ask(NAME, RecordType::A).answers.len(), 1);
    assert_eq!(scene.service.stats().kept, 1);
    assert_eq!(
        said(&scene.ask("db.service.consul.", RecordType::A)),
        ["ServFail"]
    );
    scene.world.service("n2", "10.0.0.2", service("web", 80));
    scene.world.set_reachable(true);
    comes_to(&scene, |answer| answer.answers.len() == 2);
    let began = Instant::now();
    while !scene.service.stats().oldest_kept.is_zero() {
        assert!(began.elapsed() < Duration::from_mins(1));
        std::thread::yield_now();
    }
}

#[test]
fn what_is_kept_is_not_said_when_it_is_too_old() {
    let scene = Scene::with(World::new(false), |config| config.max_stale = Duration::ZERO);
    scene.world.service("n1", "10.0.0.1", service("web", 80));
    assert_eq!(scene.ask(NAME, RecordType::A).answers.len(), 1);
    scene.world.set_reachable(false);
    comes_to(&scene, |answer| said(answer) == ["ServFail"]);
}

#[test]
fn only_so_much_is_kept() {
    let scene = Scene::with(World::new(false), |config| config.limits.kept = 4);
    for number in 0..20 {
        let name = format!("s{number}");
        scene.world.service("n1", "10.0.0.1", service(&name, 80));
        let answer = scene.ask(&format!("{name}.service.consul."), RecordType::A);
        assert_eq!(answer.answers.len(), 1);
    }
    assert_eq!(scene.service.stats().kept, 4);
    scene.service.close();
    assert_eq!(scene.service.stats().kept, 0);
}

#[test]
fn what_nobody_wants_any_more_is_forgotten() {
    let scene = Scene::with(World::new(false), |config| {
        config.limits.keep_refreshing = Duration::ZERO;
    });
    scene.world.service("n1", "10.0.0.1", service("web", 80));
    assert_eq!(scene.ask(NAME, RecordType::A).answers.len(), 1);
    let began = Instant::now();
    let mut number = 1;
    while scene.service.stats().kept > 0 {
        assert!(began.elapsed() < Duration::from_mins(1));
        number += 1;
        scene
            .world
            .service("n1", &format!("10.0.0.{}", number % 250), service("web", 80));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn many_who_wait_for_the_same_are_one_question() {
    for reachable in [true, false] {
        let scene = Scene::with(World::new(false), |_| {});
        scene.world.service("n1", "10.0.0.1", service("web", 80));
        scene.world.stuck.store(true, Ordering::SeqCst);
        let wait = || {
            let query = query(NAME, RecordType::A, UDP);
            let desk = &mut scene.service.desk();
            match scene.service.at_once(desk, &query, CLIENT, Transport::Udp) {
                AtOnce::Later(request, place) => {
                    Box::pin(scene.service.later(request, place, query, CLIENT, false))
                }
                other @ (AtOnce::Written | AtOnce::Silence) => panic!("{other:?}"),
            }
        };
        let mut waiting = [wait(), wait(), wait()];
        for future in &mut waiting {
            assert!(block_on(futures_lite::future::poll_once(future)).is_none());
        }
        scene.world.stuck.store(false, Ordering::SeqCst);
        scene.world.set_reachable(reachable);
        for future in waiting {
            let mut desk = scene.service.desk();
            let late = block_on(future);
            scene.service.write_late(&mut desk, &late, Transport::Udp);
            let answer = Message::from_vec(&desk.message).unwrap();
            assert_eq!(answer.answers.len(), usize::from(reachable));
        }
        // If it was answered, the next question is to be told of changes.
        assert!(
            scene.world.asked() <= 1 + usize::from(reachable),
            "{}",
            scene.world.asked()
        );
    }
}
