//! What an agent is in its pools: settings and tags.

use std::time::Duration;

use lictor_gossip as gossip;
use lictor_gossip::Tags;
use lictor_http::CONSUL_VERSION;
use lictor_machine::NodeId;
use lictor_node::agent::{self, BUILD, CLIENT, DATACENTER, ROLE, SERVER, WAN_ADDRESS};

use crate::boot::{self, StartError};
use crate::config::{Bootstrap, Config, Gossip};
use crate::gossip::wan_name;

/// The name of the pool that all data centers share.
const WAN_POOL: &str = "wan";

/// How often a server looks after the WAN pool and the leader after coordinates.
const DUTY_INTERVAL: Duration = Duration::from_secs(15);

/// How long others may take to let go of a server that leaves.
const REMOVAL: Duration = Duration::from_secs(5);

/// The settings of an agent's machine.
pub(crate) fn settings(config: &Config, id: NodeId) -> Result<agent::Config, StartError> {
    let tags = tags(config, id);
    let mut lan = gossip::Config::lan(id, config.node_name.clone(), config.advertise, boot::seed()?);
    lan.pool.clone_from(&config.datacenter.to_ascii_lowercase());
    lan.tags.clone_from(&tags);
    lan.server = config.server;
    apply(&mut lan, &config.gossip);
    let wan = config.wan.as_ref().filter(|_| config.server);
    let wan = wan
        .map(|settings| {
            let name = wan_name(&config.node_name, &config.datacenter);
            let mut wan = gossip::Config::wan(id, name, config.advertise_wan, boot::seed()?);
            WAN_POOL.clone_into(&mut wan.pool);
            wan.tags = tags;
            wan.server = true;
            apply(&mut wan, &settings.gossip);
            Ok::<_, StartError>(wan)
        })
        .transpose()?;
    let leave_timeout = lan.leave_timeout + REMOVAL;
    Ok(agent::Config {
        lan,
        wan,
        datacenter: config.datacenter.clone(),
        duty_interval: DUTY_INTERVAL,
        leave_timeout,
        coordinates: config.coordinates,
    })
}

fn apply(pool: &mut gossip::Config, settings: &Gossip) {
    pool.gossip_interval = settings.gossip_interval;
    pool.gossip_nodes = settings.gossip_nodes as usize;
    pool.probe_interval = settings.probe_interval;
    pool.probe_timeout = settings.probe_timeout;
    pool.retransmit_mult = settings.retransmit_mult;
    pool.suspicion_mult = settings.suspicion_mult;
    pool.reconnect_timeout = settings.reconnect_timeout;
    pool.rejoin_after_leave = settings.rejoin_after_leave;
}

/// What an agent says of itself, in the names that Consul's agents use.
fn tags(config: &Config, id: NodeId) -> Tags {
    let mut tags = Tags::new();
    let mut tag = |key: &str, value: &str| {
        tags.insert(key.to_owned(), value.to_owned());
    };
    tag(
        BUILD,
        &format!("{CONSUL_VERSION}:lictor-{}", env!("CARGO_PKG_VERSION")),
    );
    tag(DATACENTER, &config.datacenter);
    tag("id", &id.to_string());
    tag("segment", "");
    tag("vsn", "2");
    tag("vsn_max", "3");
    tag("vsn_min", "2");
    if !config.server {
        tag(ROLE, CLIENT);
        return tags;
    }
    let port = config.advertise.port().to_string();
    tag(ROLE, SERVER);
    tag("acls", "0");
    tag("port", &port);
    tag("raft_vsn", "3");
    tag("wan_join_port", &config.advertise_wan.port().to_string());
    if config.advertise_wan != config.advertise {
        tag(WAN_ADDRESS, &config.advertise_wan.to_string());
    }
    match config.bootstrap {
        Bootstrap::Join => {}
        Bootstrap::Alone => tag("bootstrap", "1"),
        Bootstrap::Expect(servers) => tag("expect", &servers.to_string()),
    }
    tags
}
