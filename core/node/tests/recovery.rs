//! A server that lost its cluster's quorum is recovered on its own stores, and goes on as a whole node.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::World;
use lictor_node::Answer;
use lictor_node::store::LogStore as _;
use lictor_raft::recover;

#[test]
fn a_survivor_is_recovered_on_its_own_disk_and_serves_what_it_held() {
    let (mut world, leader) = World::founded(|_| {});
    world.set(leader, "key", "kept");
    world.run(Duration::from_secs(1));
    let survivor = world.follower(leader);
    for id in world.ids() {
        world.crash(id);
    }
    // Alone it is no quorum.
    world.restart(survivor);
    world.run(Duration::from_secs(10));
    assert_eq!(world.leader(), None);
    world.crash(survivor);

    let (mut log, _) = world.seats[&survivor].disk.open().unwrap();
    let boot = log.load(0).unwrap().raft;
    let recovery = recover(survivor, &boot, BTreeSet::from([survivor]), BTreeSet::new()).unwrap();
    assert_eq!(recovery.before.voters, world.ids().into_iter().collect());
    log.write(&[recovery.batch]).unwrap();
    let after = log.load(0).unwrap().raft;
    assert_eq!(after.last_index, recovery.last.index.next());
    assert_eq!(after.members.last().unwrap().1, recovery.after);

    world.restart(survivor);
    world.run(Duration::from_secs(10));
    assert_eq!(world.leader(), Some(survivor));
    assert_eq!(world.get(survivor, "key").as_deref(), Some("kept"));
    let token = world.set(survivor, "key", "new");
    world.run(Duration::from_secs(1));
    let answer = world.answer(survivor, token);
    assert!(matches!(answer, Some(Answer::Written { .. })), "{answer:?}");
}
