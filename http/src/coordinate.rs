//! `/v1/coordinate/`: where nodes are in the network.

use lictor_gossip::Coordinate;
use serde::{Deserialize, Serialize};

/// Where the servers of one data center are in the WAN's coordinates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatacenterCoordinates {
    /// The data center.
    pub datacenter: String,
    /// The servers' node names, without the data center, and where each is.
    pub servers: Vec<(String, Coordinate)>,
}
