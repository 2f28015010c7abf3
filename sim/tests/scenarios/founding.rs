//! Founding: exactly one cluster, whatever happens meanwhile.

use lictor_sim::node_host::NodeHost;
use lictor_sim::swarm::{Fault, Options};
use lictor_sim::world::World;

/// Servers that expect three of their kind, three, four or five of them, meet under crashes, partitions and losses.
#[test]
fn three_found_one_cluster_however_many_there_are() {
    for seed in 0..60 {
        for servers in 3..=5 {
            let mut options = Options::of_seed(seed, servers);
            let election = options.setup.raft.election_timeout;
            options.setup.expect = 3;
            options.clients = 0;
            options.weather.loss_permille = 100;
            options.faults = vec![
                (Fault::Crash, election * 2),
                (Fault::Partition, election * 2),
                (Fault::OneWay, election * 5),
                (Fault::Pause, election * 5),
            ];
            options.faults_for = election * 20;
            let mut world = World::<NodeHost>::new(options, None);
            if let Err(violation) = world.run_founding() {
                panic!(
                    "seed {seed}, {servers} servers:\n{}\n{violation}",
                    world.tail().join("\n")
                );
            }
        }
    }
}
