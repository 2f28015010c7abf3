//! Where members are in the network, as probes show it.

use core::time::Duration;

use lictor_machine::NodeId;

use crate::coordinate::Coordinate;
use crate::gossip::Gossip;
use crate::vivaldi::MAX_RTT;

impl Gossip {
    /// Where this member is in the network.
    pub fn coordinate(&self) -> &Coordinate {
        self.vivaldi.coordinate()
    }

    /// Where another is, as it said when it last answered a probe of this one.
    pub fn coordinate_of(&self, id: NodeId) -> Option<&Coordinate> {
        if id == self.me().id {
            return Some(self.coordinate());
        }
        self.coordinates.get(&id)
    }

    /// A member answered a probe after this time, and said where it is.
    pub(crate) fn measured(&mut self, id: NodeId, coordinate: &Coordinate, rtt: Duration) {
        // After so long a time the answer says more of the two members than of what lies between them.
        if self.member(id).is_none() || rtt > MAX_RTT {
            return;
        }
        match self.vivaldi.update(id, coordinate, rtt) {
            Ok(()) => {
                self.coordinates.insert(id, *coordinate);
            }
            Err(reason) => self.refuse(id, reason),
        }
    }

    /// A member is forgotten.
    pub(crate) fn forget_coordinate(&mut self, id: NodeId) {
        self.coordinates.remove(&id);
        self.vivaldi.forget(id);
    }
}
