//! Who is asked: the leader if it matters, the next one if the first says nothing, and nobody twice if that may do harm.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_lite::FutureExt as _;
use lictor_catalog::{Found, Outcome, Query};
use lictor_http::{Failure, ReadMode, ReadOptions, Reading};
use lictor_machine::Index;
use lictor_transport_quic::{Plane, Role};

use super::agents::{Agent, nowhere};
use super::fake::{Does, Fake};
use super::{read, run, set, write};
use crate::rpc::wire::Question;

#[test]
fn what_the_leader_has_to_answer_it_is_asked_itself() {
    run(async {
        let (one, two) = (
            Fake::new(&vec![Does::Answers("one"); 10_000]),
            Fake::new(&vec![Does::Answers("two"); 10_000]),
        );
        let servers = [Agent::serving(1, "dc1", &one), Agent::serving(2, "dc1", &two)];
        let leads = |at: &Agent| {
            for fake in [&one, &two] {
                *fake.leader.lock().unwrap() = Some(at.transport.local_address().unwrap());
            }
        };
        let client = Agent::client();
        for server in &servers {
            client.knows(server);
        }
        let caller = client.caller(Plane::Rpc);
        leads(&servers[1]);
        // At first it does not know, and is in no hurry.
        while read(&caller, None).await != Ok("two".into()) {}
        let before = (one.asked(), two.asked());
        assert_eq!(write(&caller).await, Ok(Outcome::Done(true)));
        assert_eq!(
            (one.asked(), two.asked()),
            (before.0, before.1 + 1),
            "the leader is asked"
        );
        // What may be stale, or waits, is for whoever was asked before.
        for options in [
            ReadOptions {
                mode: ReadMode::Stale { max: None },
                ..ReadOptions::default()
            },
            ReadOptions {
                min_index: Index(1),
                wait: Duration::from_secs(9),
                ..ReadOptions::default()
            },
        ] {
            let query = Query::KvGet("k".into());
            let question = Question::Read { query, options };
            let _: Reading<Found> = caller.ask(None, question).await.unwrap();
        }
        assert_eq!((one.asked(), two.asked()), (before.0 + 2, before.1 + 1));
        // A leader that is not the leader any more is noticed after a while.
        leads(&servers[0]);
        while read(&caller, None).await != Ok("one".into()) {
            async_io::Timer::after(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn failures_come_back_as_they_are_and_are_not_tried_again() {
    run(async {
        let busy = Failure::Busy {
            limit: "patience".into(),
            retry_after: Duration::from_secs(2),
        };
        let failures = [
            Failure::NoLeader,
            busy,
            Failure::LeadershipLost,
            Failure::Storage("full".into()),
            Failure::Several(vec!["a".into(), "b".into()]),
        ];
        let does: Vec<_> = failures.iter().cloned().map(Does::Fails).collect();
        let backend = Fake::new(&does);
        let other = Fake::new(&[]);
        let servers = [
            Agent::serving(1, "dc1", &backend),
            Agent::serving(2, "dc1", &other),
        ];
        let client = Agent::client();
        for server in &servers {
            client.knows(server);
        }
        let caller = client.caller(Plane::Rpc);
        for failure in failures {
            assert_eq!(read(&caller, None).await, Err(failure));
        }
        assert_eq!(other.asked(), 0);
    });
}

#[test]
fn without_servers_there_is_no_answer_at_once() {
    run(async {
        let client = Agent::client();
        let caller = client.caller(Plane::Rpc);
        assert_eq!(read(&caller, None).await, Err(Failure::NoServers));
        assert_eq!(read(&caller, Some("dc9")).await, Err(Failure::NoServers));
        assert_eq!(write(&caller).await, Err(Failure::NoServers));
        let server = Agent::start(1, Role::Server, "dc1");
        let caller = server.caller(Plane::Wan);
        assert_eq!(read(&caller, Some("dc9")).await, Err(Failure::NoPathToDatacenter));
    });
}

#[test]
fn a_server_that_is_gone_is_passed_over() {
    run(async {
        let backend = Fake::new(&[Does::Answers("a"), Does::Answers("b"), Does::Answers("c")]);
        let server = Agent::serving(2, "dc1", &backend);
        let client = Agent::client();
        client.knows_at(1, "dc1", nowhere());
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        // A write that nobody can have got is tried again as well.
        assert_eq!(write(&caller).await, Ok(Outcome::Done(true)));
        assert_eq!(read(&caller, None).await, Ok("b".into()));
        let begun = Instant::now();
        assert_eq!(read(&caller, None).await, Ok("c".into()));
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "the one that answered is asked first"
        );
    });
}

#[test]
fn a_silent_server_is_told_from_a_slow_one() {
    run(async {
        let slow = Fake::new(&[Does::Takes(Duration::from_secs(6)), Does::Answers("at last")]);
        // It accepts connections, and nobody is behind it.
        let silent = Agent::start(1, Role::Server, "dc1");
        let server = Agent::serving(2, "dc1", &slow);
        let client = Agent::client();
        client.knows(&silent);
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        assert_eq!(read(&caller, None).await, Ok("at last".into()));
        assert_eq!(slow.asked(), 1);
    });
}

#[test]
fn servers_that_are_all_silent_cost_less_than_five_seconds() {
    run(async {
        let servers: Vec<_> = (1..=3).map(|id| Agent::start(id, Role::Server, "dc2")).collect();
        let near = Agent::start(9, Role::Server, "dc1");
        for server in &servers {
            near.knows(server);
        }
        let caller = near.caller(Plane::Wan);
        let begun = Instant::now();
        assert_eq!(read(&caller, Some("dc2")).await, Err(Failure::NoPathToDatacenter));
        let question: Result<Outcome, _> = caller.ask(Some("dc2"), set()).await;
        assert_eq!(question, Err(Failure::NoPathToDatacenter));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_write_that_may_have_happened_is_not_tried_again() {
    run(async {
        let (dropping, dropped) = Agent::dropping(1);
        let backend = Fake::new(&[Does::Answers("a")]);
        let server = Agent::serving(2, "dc1", &backend);
        let client = Agent::client();
        client.knows(&dropping);
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        let lost = write(&caller).await.unwrap_err();
        assert!(
            matches!(&lost, Failure::Unreachable(text) if text.starts_with("rpc error making call: n1: ")
                && text.contains("it may have happened")),
            "{lost:?}"
        );
        assert_eq!((dropped.load(Ordering::SeqCst), backend.asked()), (1, 0));
        // A read is.
        let (again, dropped) = Agent::dropping(3);
        let client = Agent::client();
        client.knows(&again);
        client.knows(&server);
        assert_eq!(read(&client.caller(Plane::Rpc), None).await, Ok("a".into()));
        assert_eq!((dropped.load(Ordering::SeqCst), backend.asked()), (1, 1));
    });
}

#[test]
fn a_write_does_not_wait_for_a_leader_that_is_gone() {
    run(async {
        let (leader, other) = (Fake::new(&[Does::Answers("a")]), Fake::new(&[]));
        let gone = Agent::serving(1, "dc1", &leader);
        let server = Agent::serving(2, "dc1", &other);
        let client = Agent::client();
        client.knows(&gone);
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        assert_eq!(write(&caller).await, Ok(Outcome::Done(true)));
        // Its connections are there, and nobody is behind them any more.
        gone.silent.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        let lost = write(&caller).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert!(
            matches!(&lost, Failure::Unreachable(text) if text.contains("it is silent; it may have happened")),
            "{lost:?}"
        );
        assert_eq!((leader.asked(), other.asked()), (1, 0), "nobody else was asked");
    });
}

#[test]
fn a_write_waits_as_long_as_another_takes_to_lead_or_for_long_if_there_is_no_other() {
    run(async {
        for (alone, least, election_timeout) in [
            (true, Duration::from_secs(3), Duration::from_millis(100)),
            (false, Duration::from_secs(3), Duration::from_secs(2)),
        ] {
            let backend = Fake::new(&[Does::Answers("a")]);
            let gone = Agent::serving(1, "dc1", &backend);
            let client = Agent::client();
            client.knows(&gone);
            let other = Fake::new(&[]);
            let _other = (!alone).then(|| {
                let server = Agent::serving(2, "dc1", &other);
                client.knows(&server);
                server
            });
            let caller = client.patient_caller(Plane::Rpc, election_timeout);
            assert_eq!(write(&caller).await, Ok(Outcome::Done(true)));
            gone.silent.store(true, Ordering::SeqCst);
            let begun = Instant::now();
            let lost = write(&caller).await.unwrap_err();
            assert!(begun.elapsed() >= least, "{alone}: {:?}", begun.elapsed());
            assert!(lost.to_string().contains("it may have happened"), "{lost:?}");
            assert_eq!((backend.asked(), other.asked()), (1, 0));
        }
    });
}

#[test]
fn a_server_that_stops_has_done_nothing_and_the_next_one_is_asked() {
    run(async {
        let stopping = Fake::new(&[Does::Fails(Failure::Stopping), Does::Fails(Failure::Stopping)]);
        let backend = Fake::new(&[Does::Answers("a"), Does::Answers("b")]);
        let servers = [
            Agent::serving(1, "dc1", &stopping),
            Agent::serving(2, "dc1", &backend),
        ];
        for ask_write in [true, false] {
            let client = Agent::client();
            for server in &servers {
                client.knows(server);
            }
            let caller = client.caller(Plane::Rpc);
            if ask_write {
                assert_eq!(write(&caller).await, Ok(Outcome::Done(true)));
            } else {
                assert_eq!(read(&caller, None).await, Ok("b".into()));
            }
        }
        assert_eq!((stopping.asked(), backend.asked()), (2, 2));
    });
}

#[test]
fn who_gives_up_is_not_worked_for() {
    run(async {
        let backend = Fake::new(&[Does::Hangs]);
        let server = Agent::serving(1, "dc1", &backend);
        let client = Agent::client();
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        let asking = read(&caller, None);
        let begun = async {
            while backend.asked() == 0 {
                async_io::Timer::after(Duration::from_millis(5)).await;
            }
            Err(Failure::Stopping)
        };
        assert_eq!(asking.or(begun).await, Err(Failure::Stopping));
        while backend.over.load(Ordering::SeqCst) == 0 {
            async_io::Timer::after(Duration::from_millis(5)).await;
        }
    });
}
