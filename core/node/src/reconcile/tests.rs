//! A leader that looks at a pool and at a catalog, both at the test's command.

use lictor_catalog::{Changes, Command, Outcome};
use lictor_gossip::{Incarnation, Tags};
use lictor_machine::{Index, UnixMillis};

use super::*;
use crate::agent::{CLIENT, DATACENTER, ROLE, SERVER};

#[derive(Default)]
struct Pool(BTreeMap<String, Arc<Member>>);

impl Members for Pool {
    fn by_name(&self, name: &str) -> Option<&Arc<Member>> {
        self.0.get(name)
    }

    fn names(&self) -> Vec<Text> {
        self.0.keys().map(|name| name.as_str().into()).collect()
    }
}

struct Leader {
    now: Instant,
    pool: Pool,
    state: State,
    index: u64,
    reconciler: Reconciler,
    /// Commands that were proposed.
    commands: usize,
    /// What is proposed gets lost.
    lossy: bool,
}

impl Leader {
    fn new() -> Self {
        let mut leader = Self {
            now: Instant::from_millis(1),
            pool: Pool::default(),
            state: State::new(),
            index: 0,
            reconciler: Reconciler::default(),
            commands: 0,
            lossy: false,
        };
        leader.reconciler.leads(true, leader.now);
        leader
    }

    fn apply(&mut self, action: Action) -> Outcome {
        self.index += 1;
        let command = Command {
            stamp: UnixMillis(0),
            action,
        };
        let index = Index(self.index);
        self.state
            .apply(index, &command, &mut Changes::default())
            .unwrap()
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.reconciler.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let scene = Scene {
                now: self.now,
                me: NodeId(1),
                state: &self.state,
                members: &self.pool,
            };
            for action in self.reconciler.look(&scene) {
                self.commands += 1;
                if !self.lossy {
                    self.apply(action);
                }
            }
        }
        self.now = end;
    }

    /// Gossip says this of a member.
    fn say(&mut self, member: Member, event: fn(Arc<Member>) -> MemberEvent) {
        let member = Arc::new(member);
        let event = event(member.clone());
        if matches!(event, MemberEvent::Reaped(_)) {
            self.pool.0.remove(&member.name);
        } else {
            self.pool.0.insert(member.name.clone(), member);
        }
        self.reconciler.member_changed(&event, self.now);
    }

    fn node(&self, name: &str) -> Option<NodeInfo> {
        node_info(&self.state, &name.into())
    }

    fn serf_health(&self, name: &str) -> Option<(Status, String)> {
        let node = self.node(name)?;
        let check = node.checks.iter().find(|check| is_serf_health(check))?;
        Some((check.def.status, check.def.output.to_string()))
    }
}

fn member(id: u128, name: &str, role: &str, state: MemberState) -> Member {
    let mut tags = Tags::new();
    for (key, value) in [(ROLE, role), (DATACENTER, "dc1"), (BUILD, "1.8.7:abc")] {
        tags.insert(key.into(), value.into());
    }
    Member {
        id: NodeId(id),
        name: name.into(),
        address: format!("10.0.0.{id}:8300").parse().unwrap(),
        tags,
        incarnation: Incarnation(1),
        state,
    }
}

fn client(id: u128, state: MemberState) -> Member {
    member(id, &format!("client-{id}"), CLIENT, state)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn members_are_nodes_with_a_check_and_servers_have_a_service() {
    let mut leader = Leader::new();
    leader.say(member(1, "one", SERVER, MemberState::Alive), MemberEvent::Joined);
    leader.say(client(2, MemberState::Alive), MemberEvent::Joined);
    leader.run(SECOND);
    let good = Some((Status::Passing, "Agent alive and reachable".to_owned()));
    assert_eq!(
        (leader.serf_health("one"), leader.serf_health("client-2")),
        (good.clone(), good)
    );
    let one = leader.node("one").unwrap();
    assert_eq!(
        (one.node.def.id, &*one.node.def.address),
        (Some(NodeId(1)), "10.0.0.1")
    );
    let tags: Vec<&str> = one
        .node
        .def
        .tagged_addresses
        .iter()
        .map(|(tag, _)| &**tag)
        .collect();
    assert_eq!(tags, ["lan", "lan_ipv4", "wan", "wan_ipv4"]);
    assert_eq!(
        one.node.def.meta.get("consul-network-segment"),
        Some(&Text::default())
    );
    let service = &one.services[0].def;
    assert_eq!((&*service.id, service.port), ("consul", 8300));
    assert_eq!(service.meta.get("version"), Some(&Text::from("1.8.7")));
    assert!(leader.node("client-2").unwrap().services.is_empty());
    assert_eq!(leader.commands, 1);
    // What is right already needs no command.
    let again = Arc::new(client(2, MemberState::Suspect));
    leader
        .reconciler
        .member_changed(&MemberEvent::Updated(again), leader.now);
    leader.run(Duration::from_mins(5));
    assert_eq!(leader.commands, 1);
}

#[test]
fn who_fails_is_critical_and_who_leaves_is_gone() {
    let mut leader = Leader::new();
    leader.say(client(2, MemberState::Alive), MemberEvent::Joined);
    leader.run(SECOND);
    leader.say(client(2, MemberState::Failed), MemberEvent::Failed);
    leader.run(SECOND);
    let bad = Some((Status::Critical, "Agent not live or unreachable".to_owned()));
    assert_eq!(leader.serf_health("client-2"), bad);
    leader.say(client(2, MemberState::Alive), MemberEvent::Joined);
    leader.run(SECOND);
    assert_eq!(leader.serf_health("client-2").unwrap().0, Status::Passing);
    leader.say(client(2, MemberState::Leaving), MemberEvent::Updated);
    leader.run(SECOND);
    assert!(leader.node("client-2").is_some());
    leader.say(client(2, MemberState::Left), MemberEvent::Left);
    leader.run(SECOND);
    assert!(leader.node("client-2").is_none());
    // One that failed before anybody wrote it down need not be written down.
    leader.say(client(3, MemberState::Failed), MemberEvent::Failed);
    leader.run(SECOND);
    assert!(leader.node("client-3").is_none());
}

#[test]
fn the_leader_does_not_take_itself_out() {
    let mut leader = Leader::new();
    leader.say(member(1, "one", SERVER, MemberState::Alive), MemberEvent::Joined);
    leader.run(SECOND);
    leader.say(member(1, "one", SERVER, MemberState::Left), MemberEvent::Left);
    leader.run(SECOND);
    assert!(leader.node("one").is_some());
}

#[test]
fn who_is_reaped_is_gone_unless_it_came_back() {
    let mut leader = Leader::new();
    for id in [2, 3] {
        leader.say(client(id, MemberState::Alive), MemberEvent::Joined);
        leader.run(SECOND);
        leader.say(client(id, MemberState::Failed), MemberEvent::Failed);
        leader.run(SECOND);
        leader.say(client(id, MemberState::Failed), MemberEvent::Reaped);
    }
    leader.say(client(3, MemberState::Alive), MemberEvent::Joined);
    leader.run(SECOND);
    assert!(leader.node("client-2").is_none());
    assert_eq!(leader.serf_health("client-3").unwrap().0, Status::Passing);
}

#[test]
fn who_is_unknown_gets_some_time_and_what_is_no_agent_is_left_alone() {
    let mut leader = Leader::new();
    let node = |name: &str| NodeDef {
        name: name.into(),
        address: "192.0.2.1".into(),
        ..NodeDef::default()
    };
    for (name, checks) in [("external", vec![]), ("lost", vec![serf_health(Status::Passing)])] {
        let registration = Registration {
            node: node(name),
            checks,
            ..Registration::default()
        };
        let outcome = leader.apply(Action::Register(Box::new(registration)));
        assert_eq!(outcome, Outcome::Done(true));
    }
    leader.run(Duration::from_secs(110));
    assert!(leader.node("lost").is_some());
    // Another leader begins to count anew.
    leader.reconciler.leads(false, leader.now);
    assert_eq!(leader.reconciler.deadline(), None);
    leader.run(Duration::from_mins(10));
    leader.reconciler.leads(true, leader.now);
    leader.run(Duration::from_secs(110));
    assert!(leader.node("lost").is_some());
    leader.run(Duration::from_secs(80));
    assert!(leader.node("lost").is_none());
    leader.run(Duration::from_mins(10));
    assert!(leader.node("external").is_some());
}

#[test]
fn a_machine_that_takes_over_a_name_takes_over_the_node() {
    let mut leader = Leader::new();
    leader.say(member(2, "a", CLIENT, MemberState::Alive), MemberEvent::Joined);
    leader.run(SECOND);
    leader.say(member(3, "a", CLIENT, MemberState::Alive), MemberEvent::Joined);
    leader.run(SECOND);
    let def = leader.node("a").unwrap().node.def.clone();
    assert_eq!((def.id, &*def.address), (Some(NodeId(3)), "10.0.0.3"));
}

#[test]
fn what_an_agent_says_of_itself_is_not_overwritten() {
    let mut leader = Leader::new();
    let ip = "10.9.9.9".parse().unwrap();
    let def = node_def(NodeId(2), "client-2", ip, ip, [("rack".into(), "7".into())]);
    leader.apply(Action::Register(Box::new(Registration {
        node: def.clone(),
        ..Registration::default()
    })));
    leader.say(client(2, MemberState::Alive), MemberEvent::Joined);
    leader.run(SECOND);
    assert_eq!(leader.serf_health("client-2").unwrap().0, Status::Passing);
    assert_eq!(leader.node("client-2").unwrap().node.def, def);
}

#[test]
fn thousands_are_a_few_commands() {
    let mut leader = Leader::new();
    for id in 1..=3000_u128 {
        let mut member = client(2, MemberState::Alive);
        member.id = NodeId(id);
        member.name = format!("m{id:04}");
        leader.say(member, MemberEvent::Joined);
    }
    leader.run(SECOND);
    assert!(leader.node("m3000").is_some());
    assert!(leader.commands <= 6, "{} commands", leader.commands);
}

#[test]
fn what_got_lost_is_proposed_again_but_not_for_ever_in_haste() {
    let mut leader = Leader::new();
    leader.lossy = true;
    leader.say(client(2, MemberState::Alive), MemberEvent::Joined);
    leader.run(Duration::from_secs(50));
    let tries = leader.commands;
    assert!((3..=12).contains(&tries), "{tries} tries");
    leader.lossy = false;
    leader.run(Duration::from_mins(1));
    assert!(leader.serf_health("client-2").is_some());
}

#[test]
fn one_that_is_refused_keeps_nobody_else_back() {
    let mut leader = Leader::new();
    let mut bad = client(2, MemberState::Alive);
    bad.name = "x".repeat(lictor_catalog::MAX_NAME_BYTES + 1);
    leader.say(bad, MemberEvent::Joined);
    leader.say(client(3, MemberState::Alive), MemberEvent::Joined);
    leader.run(Duration::from_secs(10));
    assert!(leader.serf_health("client-3").is_some());
}
