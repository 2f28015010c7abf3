//! One server whose peers are all played by the test.

use lictor_machine::NodeId;
use lictor_node::{Call, ClusterId, Founding, Hello, PeerAddress, Reply};

use super::{World, address, n};

pub fn founding(founder: u128, attempt: u64, voters: &[u128]) -> Founding {
    Founding {
        cluster: ClusterId(founder * 100 + u128::from(attempt)),
        founder: n(founder),
        attempt,
        voters: voters.iter().copied().map(NodeId).collect(),
    }
}

pub fn hello(id: u128, expect: u32, given_up: u64) -> Call {
    let me = PeerAddress {
        id: n(id),
        name: format!("server-{id}"),
        address: address(n(id)),
    };
    Call::Hello(Hello {
        me,
        expect,
        cluster: None,
        given_up,
        peers: Vec::new(),
    })
}

/// Server 2 alone, expecting three; everybody else is played by the test.
pub fn lone() -> World {
    let mut world = World::new();
    world.add(2, 3, &[], |_| {});
    world.settle();
    world
}

pub fn found(world: &mut World, founding: Founding) -> Vec<Reply> {
    let founder = founding.founder;
    world.call(founder, n(2), Call::Found(founding));
    world.replies(founder)
}
