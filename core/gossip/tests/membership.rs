//! Conversations of a few members: joining, failing, leaving, coming back.

mod common;

use std::time::Duration;

use common::{Net, address, all_see, config, id, is_failed, is_joined, is_left, whole};
use lictor_gossip::{Answer, Config, Event, Gossip, Input, MemberEvent, MemberState, Memory};
use lictor_machine::{Machine, NodeId, Now, Token};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn who_joins_knows_the_pool_and_the_pool_knows_it_soon() {
    let mut net = Net::pool(8, 1);
    let newcomer = net.add(config(8));
    net.join(newcomer, 3);
    net.until(5, "the join is answered", |net| {
        !net.hosts[newcomer].answers.is_empty()
    });
    let joined = Answer::Joined {
        joined: 1,
        failed: vec![],
    };
    assert_eq!(net.hosts[newcomer].answers[&Token(900)], joined);
    assert_eq!(
        net.hosts[newcomer].gossip().size(),
        9,
        "it knows all when it is told that it joined"
    );
    let time = net.until(5, "all know the newcomer", |net| {
        all_see(net, newcomer, MemberState::Alive)
    });
    assert!(time < SECOND, "{time:?}");
    net.run(SECOND * 60);
    assert!(whole(&net), "{}", net.views());
    for host in &net.hosts {
        assert_eq!(host.saw(is_failed), 0);
        assert_eq!(host.saw(is_joined), 8, "each of the others joined once");
    }
}

#[test]
fn a_join_says_which_addresses_failed_and_why() {
    let mut net = Net::pool(2, 2);
    let newcomer = net.add(config(2));
    let addresses = vec![address(1), address(77), address(2), address(0)];
    let token = Token(5);
    net.input(newcomer, Input::Join { token, addresses });
    net.until(60, "the join is answered", |net| {
        !net.hosts[newcomer].answers.is_empty()
    });
    let Some(Answer::Joined { joined: 2, failed }) = net.hosts[newcomer].answers.get(&token) else {
        panic!("{:?}", net.hosts[newcomer].answers)
    };
    let failed: Vec<_> = failed
        .iter()
        .map(|(address, why)| (*address, why.as_str()))
        .collect();
    assert_eq!(
        failed,
        [
            (address(2), "this is the member itself"),
            (address(77), "no connection")
        ]
    );
    let many = vec![address(1); 257];
    net.input(
        newcomer,
        Input::Join {
            token,
            addresses: many,
        },
    );
    assert!(matches!(net.hosts[newcomer].answers[&token], Answer::Failed(_)));
}

#[test]
fn a_join_of_nobody_is_answered_too() {
    let mut net = Net::pool(1, 2);
    let addresses = vec![];
    net.input(
        0,
        Input::Join {
            token: Token(1),
            addresses,
        },
    );
    let none = Answer::Joined {
        joined: 0,
        failed: vec![],
    };
    assert_eq!(net.hosts[0].answers[&Token(1)], none);
}

#[test]
fn who_crashes_is_failed_everywhere_before_long() {
    for (size, seed) in [(2, 3), (3, 4), (10, 5)] {
        let mut net = Net::pool(size, seed);
        net.run(SECOND * 10);
        net.kill(1);
        let time = net.until(15, "the crash is known", |net| {
            all_see(net, 1, MemberState::Failed)
        });
        assert!(
            time > Duration::from_millis(400),
            "nobody knows at once: {time:?}"
        );
        for (at, host) in net.hosts.iter().enumerate().filter(|(at, _)| *at != 1) {
            assert_eq!(host.saw(is_failed), 1, "member {at}");
            assert_eq!(host.gossip().size(), size - 1);
        }
    }
}

/// The number that the project promises, in a pool of a hundred: it holds for nearly every crash.
#[test]
fn in_a_pool_of_a_hundred_a_crash_is_known_within_five_seconds() {
    let mut net = Net::pool(100, 6);
    net.run(SECOND * 5);
    let mut times = Vec::new();
    for victim in 90..100 {
        net.kill(victim);
        times.push(net.until(15, "the crash is known", |net| {
            all_see(net, victim, MemberState::Failed)
        }));
    }
    times.sort();
    assert!(times[8] <= SECOND * 5, "{times:?}");
}

#[test]
fn who_leaves_has_left_everywhere_and_never_failed() {
    let mut net = Net::pool(6, 7);
    net.input(2, Input::Leave);
    net.input(2, Input::Leave);
    net.until(10, "the leave is over", |net| net.hosts[2].left);
    net.kill(2);
    assert!(all_see(&net, 2, MemberState::Left), "{}", net.views());
    assert!(net.hosts[2].memory.left);
    net.run(SECOND * 60);
    assert!(all_see(&net, 2, MemberState::Left));
    for (_, host) in net.hosts.iter().enumerate().filter(|(at, _)| *at != 2) {
        assert_eq!(host.saw(is_failed), 0);
        assert_eq!(host.saw(is_left), 1);
        let leaving = |event: &MemberEvent| matches!(event, MemberEvent::Updated(member) if member.state == MemberState::Leaving);
        assert!(host.saw(leaving) <= 1);
    }
}

#[test]
fn who_is_alone_leaves_at_once() {
    let mut net = Net::pool(1, 8);
    net.input(0, Input::Leave);
    net.until(1, "the leave is over", |net| net.hosts[0].left);
}

/// Whatever else it is asked to do meanwhile.
#[test]
fn a_leave_is_not_undone_by_what_comes_in_between() {
    let mut net = Net::pool(5, 81);
    let lone = net.add(config(5));
    net.input(2, Input::Leave);
    net.join(2, lone);
    net.until(5, "it is about to leave", |net| {
        net.hosts[0].sees(3) != Some(MemberState::Alive)
    });
    while !net.hosts[2].left {
        let tags = [("at".to_owned(), net.now.as_nanos().to_string())].into();
        net.input(2, Input::SetTags(tags));
        net.run(Duration::from_millis(20));
        assert!(
            net.now.since(lictor_machine::Instant::ZERO) < Duration::from_hours(1),
            "it never ends"
        );
    }
    let tags = [("too".to_owned(), "late".to_owned())].into();
    net.input(2, Input::SetTags(tags));
    assert!(
        net.hosts[2].gossip().poll_timeout().is_none(),
        "it has nothing to do any more"
    );
    net.kill(2);
    net.run(SECOND * 20);
    assert!(
        (0..5)
            .filter(|at| *at != 2)
            .all(|at| net.hosts[at].sees(3) == Some(MemberState::Left)),
        "{}",
        net.views()
    );
    assert_eq!(net.hosts[lone].sees(3), None);
}

/// G-19: `Left` comes when what had to be said was said, or when the time for it is over; also when nobody is reached.
#[test]
fn g19_a_leave_ends_also_when_nobody_hears_it() {
    let mut net = Net::pool(5, 9);
    net.loss = 100;
    net.input(1, Input::Leave);
    let time = net.until(6, "the leave is over", |net| net.hosts[1].left);
    assert!(time <= config(1).leave_timeout, "{time:?}");
}

/// G-04: a late suspicion does not make a failure of a leave.
#[test]
fn g04_left_is_not_failed_and_failed_is_not_left() {
    let mut net = Net::pool(5, 10);
    net.split(&[4], &[0, 1, 2, 3]);
    net.until(30, "the cut is noticed", |net| {
        net.hosts[..4]
            .iter()
            .all(|host| host.sees(5) == Some(MemberState::Suspect))
            || net.hosts[0].sees(5) == Some(MemberState::Failed)
    });
    net.cut.clear();
    net.input(4, Input::Leave);
    net.until(10, "the leave is over", |net| net.hosts[4].left);
    net.kill(4);
    net.run(SECOND * 40);
    assert!(all_see(&net, 4, MemberState::Left), "{}", net.views());
    net.kill(3);
    net.run(SECOND * 40);
    for host in &net.hosts[..3] {
        assert_eq!(host.sees(4), Some(MemberState::Failed), "a crash is no leave");
        assert_eq!(host.sees(5), Some(MemberState::Left), "and a leave no crash");
    }
}

/// One that said that it leaves and dies on the way has left.
#[test]
fn a_crash_while_leaving_counts_as_a_leave() {
    let mut net = Net::pool(6, 11);
    net.input(5, Input::Leave);
    net.until(5, "the intent is known to some", |net| {
        net.hosts[0].sees(6) == Some(MemberState::Leaving)
    });
    net.kill(5);
    net.until(30, "it is gone", |net| all_see(net, 5, MemberState::Left));
    assert!(net.hosts[..5].iter().all(|host| host.saw(is_failed) == 0));
}

#[test]
fn a_member_that_failed_comes_back_by_itself() {
    let mut net = Net::pool(5, 12);
    net.run(SECOND * 15);
    net.kill(2);
    net.until(15, "the crash is known", |net| {
        all_see(net, 2, MemberState::Failed)
    });
    net.start(2);
    net.until(15, "it is back", whole);
    assert_eq!(net.hosts[2].answers.len(), 1, "nobody told it to join again");
    for (_, host) in net.hosts.iter().enumerate().filter(|(at, _)| *at != 2) {
        let back = |event: &MemberEvent| matches!(event, MemberEvent::Joined(member) if member.id == id(2));
        assert_eq!(host.saw(back), 2);
    }
}

#[test]
fn who_left_in_good_order_does_not_rejoin_by_itself_unless_it_is_told_so() {
    for rejoin in [false, true] {
        let mut net = Net::pool_with(4, 13, |config| config.rejoin_after_leave = rejoin);
        net.run(SECOND * 15);
        net.input(3, Input::Leave);
        net.until(10, "the leave is over", |net| net.hosts[3].left);
        net.kill(3);
        net.start(3);
        net.run(SECOND * 30);
        assert_eq!(net.hosts[3].gossip().size() == 4, rejoin, "{}", net.views());
    }
}

#[test]
fn a_partition_heals_without_help_within_a_minute_of_its_end() {
    let mut net = Net::pool(8, 14);
    net.split(&[0, 1, 2], &[3, 4, 5, 6, 7]);
    net.run(SECOND * 120);
    assert_eq!(net.hosts[0].well(), ["n0", "n1", "n2"]);
    assert_eq!(net.hosts[7].well(), ["n3", "n4", "n5", "n6", "n7"]);
    net.cut.clear();
    net.until(60, "the pool is whole", whole);
}

/// G-08: one that lost everybody goes on trying, for ever.
#[test]
fn g08_a_member_that_lost_all_finds_them_again() {
    let mut net = Net::pool(4, 15);
    net.run(SECOND * 15);
    net.split(&[0], &[1, 2, 3]);
    net.run(SECOND * 3600);
    assert_eq!(net.hosts[0].well(), ["n0"]);
    net.cut.clear();
    net.until(40, "the pool is whole", whole);
    // And after a restart while nobody is there.
    for at in 0..4 {
        net.kill(at);
    }
    net.start(2);
    net.run(SECOND * 1000);
    for at in [0, 1, 3] {
        net.start(at);
    }
    net.until(40, "the pool is whole again", whole);
}

/// The reconnect also works when all have been reaped: who is remembered is tried for ever.
#[test]
fn who_was_forgotten_is_still_found_by_who_remembers_it() {
    let mut net = Net::pool_with(2, 16, |config| config.reconnect_timeout = SECOND * 60);
    net.run(SECOND * 15);
    net.split(&[0], &[1]);
    net.run(SECOND * 200);
    assert_eq!(net.hosts[0].sees(2), None, "it is forgotten");
    assert_eq!(net.hosts[0].forgotten, [id(1)]);
    assert_eq!(
        net.hosts[0].saw(|event| matches!(event, MemberEvent::Reaped(_))),
        1
    );
    net.cut.clear();
    net.until(40, "the pool is whole", whole);
}

#[test]
fn force_leave_makes_who_failed_one_that_left_everywhere_and_prune_forgets_it() {
    let mut net = Net::pool(5, 17);
    net.run(SECOND * 15);
    net.kill(4);
    net.until(15, "the crash is known", |net| {
        all_see(net, 4, MemberState::Failed)
    });
    let force = |name: &str, prune| Input::ForceLeave {
        token: Token(1),
        name: name.to_owned(),
        prune,
    };
    net.input(0, force("nobody", false));
    assert_eq!(
        net.hosts[0].answers[&Token(1)],
        Answer::Failed("there is no member named \"nobody\"".to_owned())
    );
    net.input(0, force("n0", false));
    assert!(
        matches!(net.hosts[0].answers[&Token(1)], Answer::Failed(_)),
        "itself"
    );
    net.input(0, force("n4", false));
    assert_eq!(net.hosts[0].answers[&Token(1)], Answer::Done);
    net.until(5, "all agree", |net| all_see(net, 4, MemberState::Left));
    net.input(1, force("n4", true));
    net.until(5, "it is forgotten", |net| {
        net.hosts[..4].iter().all(|host| host.sees(5).is_none())
    });
    net.run(SECOND * 120);
    assert!(
        net.hosts[..4].iter().all(|host| host.sees(5).is_none()),
        "old news do not bring it back"
    );
    net.start(4);
    net.until(30, "it may come back itself", whole);
}

#[test]
fn force_leave_of_a_member_that_is_well_is_contradicted() {
    let mut net = Net::pool(5, 18);
    let force = Input::ForceLeave {
        token: Token(1),
        name: "n3".to_owned(),
        prune: true,
    };
    net.input(0, force);
    net.run(SECOND * 10);
    assert!(whole(&net), "{}", net.views());
    assert!(net.hosts.iter().all(|host| host.saw(is_left) == 0));
}

#[test]
fn tags_reach_everybody_and_bad_ones_are_refused() {
    let mut net = Net::pool(6, 19);
    let tags = [("build".to_owned(), "1.2.3".to_owned())];
    net.input(3, Input::SetTags(tags.clone().into()));
    net.until(5, "all know the tags", |net| {
        let tags_at = |at: usize| {
            net.hosts[at]
                .gossip()
                .member(id(3))
                .map(|member| member.tags.clone())
        };
        (0..6).all(|at| tags_at(at) == Some(tags.clone().into()))
    });
    let now = Now::at(net.now);
    let machine = net.hosts[3].machine.as_mut().unwrap();
    let long = [("key".to_owned(), "v".repeat(600))].into();
    assert!(machine.handle(now, Input::SetTags(long)).is_err());
    let server = [("role".to_owned(), "consul".to_owned())].into();
    assert!(
        machine.handle(now, Input::SetTags(server)).is_err(),
        "its certificate is no server's"
    );
    assert_eq!(machine.me().tags, tags.into(), "refused tags change nothing");
}

#[test]
fn a_start_with_bad_settings_is_refused() {
    let bad: [fn(&mut Config); 6] = [
        |config| config.name = String::new(),
        |config| config.name = "x".repeat(129),
        |config| config.pool = String::new(),
        |config| config.tags = [("role".to_owned(), "consul".to_owned())].into(),
        |config| config.probe_timeout = config.probe_interval,
        |config| config.packet_bytes = 100,
    ];
    for change in bad {
        let mut config = config(0);
        change(&mut config);
        assert!(Gossip::start(config, Memory::default(), Now::default()).is_err());
    }
    let presets = [Config::lan, Config::wan, Config::local];
    for preset in presets {
        preset(NodeId(1), String::from("a"), address(1), 1)
            .check()
            .unwrap();
    }
}

#[test]
fn three_confirmations_make_a_death_sure_soon_and_one_accuser_alone_waits() {
    // Only one member cannot reach it: the others do not confirm, and it contradicts.
    let mut net = Net::pool(6, 20);
    net.cut.insert((0, 5));
    net.cut.insert((5, 0));
    net.run(SECOND * 120);
    assert!(
        net.hosts.iter().all(|host| host.saw(is_failed) == 0),
        "{}",
        net.views()
    );
    assert_eq!(
        net.hosts[0].gossip().stats().suspicions,
        0,
        "others could reach it on its behalf"
    );
    assert!(net.hosts[0].gossip().stats().indirect_probes > 0);
    let degraded = |note: &Event| matches!(note, Event::Degraded { .. });
    assert!(!net.hosts[0].notes.iter().any(degraded));
}
