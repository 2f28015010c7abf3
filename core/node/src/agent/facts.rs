//! What a server says of itself in the tags that gossip carries.
//!
//! The names are those that Consul's agents use, so that programs which read `/v1/agent/members` find what they look for.

use std::net::SocketAddr;

use lictor_gossip::{Member, MemberState, Tags};
use lictor_machine::NodeId;

use crate::ClusterId;

/// What gossip knows of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Who.
    pub id: NodeId,
    /// Its node name, without its data center.
    pub name: String,
    /// Where it is reached: one port serves everything.
    pub address: SocketAddr,
    /// Its data center.
    pub datacenter: String,
    /// The version that it says it is.
    pub build: String,
    /// The cluster that it is in, if it is in one.
    pub cluster: Option<ClusterId>,
    /// How it is.
    pub state: MemberState,
}

/// The tag with a member's kind: [`SERVER`] or [`CLIENT`].
pub const ROLE: &str = "role";
/// The value of [`ROLE`] for servers.
pub const SERVER: &str = "consul";
/// The value of [`ROLE`] for client agents.
pub const CLIENT: &str = "node";
/// The tag with a member's data center.
pub const DATACENTER: &str = "dc";
/// The tag with the version of the program.
pub const BUILD: &str = "build";
/// The tag with a server's cluster.
pub const CLUSTER: &str = "cluster";
/// The tag with where servers of other data centers reach this one, if that is not its address.
pub const WAN_ADDRESS: &str = "wan_addr";

impl ServerFacts {
    /// Reads a member's tags; `None` if it is no server. What is missing or malformed is left at its default: an agent of another
    /// version must not bring this one down.
    pub fn from_member(member: &Member) -> Option<Self> {
        let tag = |name: &str| member.tags.get(name).map(String::as_str);
        if tag(ROLE) != Some(SERVER) {
            return None;
        }
        let datacenter = tag(DATACENTER).unwrap_or_default().to_owned();
        let suffix = format!(".{datacenter}");
        let name = member.name.strip_suffix(&suffix).unwrap_or(&member.name);
        Some(Self {
            id: member.id,
            name: name.to_owned(),
            address: member.address,
            build: tag(BUILD).unwrap_or_default().to_owned(),
            cluster: tag(CLUSTER)
                .and_then(|text| text.parse::<NodeId>().ok())
                .map(|id| ClusterId(id.0)),
            state: member.state,
            datacenter,
        })
    }
}

/// Where servers of other data centers reach this server.
pub(super) fn wan_address(member: &Member) -> SocketAddr {
    let tag = member.tags.get(WAN_ADDRESS);
    tag.and_then(|text| text.parse().ok()).unwrap_or(member.address)
}

/// `tags`, with the server's cluster in them.
pub(super) fn with_cluster(tags: &Tags, cluster: Option<ClusterId>) -> Tags {
    let mut tags = tags.clone();
    if let Some(cluster) = cluster {
        tags.insert(CLUSTER.to_owned(), cluster.to_string());
    }
    tags
}

#[cfg(test)]
mod tests {
    use lictor_gossip::Incarnation;

    use super::*;

    fn member(name: &str, tags: &[(&str, &str)]) -> Member {
        Member {
            id: NodeId(7),
            name: name.into(),
            address: "10.0.0.7:8300".parse().unwrap(),
            tags: tags
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
            incarnation: Incarnation(1),
            state: MemberState::Alive,
        }
    }

    #[test]
    fn servers_are_known_by_their_tags() {
        let cluster = ClusterId(0x8c2a_9c44_6c2b_4b0e_9d53_6c1f_0f6f_2a11);
        let plain = member("a", &[(ROLE, SERVER), (DATACENTER, "dc1"), (BUILD, "1.8.7")]);
        let facts = ServerFacts::from_member(&plain).unwrap();
        assert_eq!(
            (facts.name.as_str(), facts.build.as_str(), facts.cluster),
            ("a", "1.8.7", None)
        );
        let mut founded = plain.clone();
        founded.tags = with_cluster(&plain.tags, Some(cluster));
        assert_eq!(ServerFacts::from_member(&founded).unwrap().cluster, Some(cluster));
        assert_eq!(ServerFacts::from_member(&member("c", &[(ROLE, CLIENT)])), None);
        assert_eq!(ServerFacts::from_member(&member("c", &[])), None);
    }

    #[test]
    fn a_name_in_the_wan_pool_loses_its_data_center() {
        let wan = member("a.dc2", &[(ROLE, SERVER), (DATACENTER, "dc2")]);
        let facts = ServerFacts::from_member(&wan).unwrap();
        assert_eq!((facts.name.as_str(), facts.datacenter.as_str()), ("a", "dc2"));
    }

    #[test]
    fn a_malformed_tag_is_as_good_as_none() {
        let odd = member("a", &[(ROLE, SERVER), (CLUSTER, "x"), (WAN_ADDRESS, "y")]);
        assert_eq!(ServerFacts::from_member(&odd).unwrap().cluster, None);
        assert_eq!(wan_address(&odd), odd.address);
        let far = member("a", &[(WAN_ADDRESS, "192.0.2.1:99")]);
        assert_eq!(wan_address(&far), "192.0.2.1:99".parse().unwrap());
    }
}
