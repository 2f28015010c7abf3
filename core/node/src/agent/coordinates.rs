//! The leader writes down where the members of its data center are in the network, as far as its own probes have told it.
//!
//! Everybody's coordinate comes to the leader with the answers to its probes, so nobody has to send it anything for this. A coordinate
//! that has hardly moved is not written again.

use lictor_catalog::{
    Action, Coordinate as Written, CoordinateEntry, Found, MAX_COORDINATE_UPDATES, NodeCoordinate, Query,
};
use lictor_gossip::{Coordinate, MemberEvent};
use lictor_raft::Role;

use super::Agent;
use crate::io as server;

/// What is less is noise, in seconds.
const MOVED: f64 = 0.000_5;

impl Agent {
    pub(super) fn leads(&self) -> bool {
        let server = self.server.as_ref();
        server.is_some_and(|server| server.role() == Role::Leader)
    }

    pub(super) fn write_coordinates(&mut self) {
        if !self.config.coordinates || !self.leads() {
            return;
        }
        let Some(server) = &self.server else { return };
        let written = |name: &str| {
            let (_, Found::Coordinates(entries)) = server.state().query(&Query::Coordinate(name.to_owned()))
            else {
                return None;
            };
            entries.into_iter().find(|entry| entry.update.segment.is_empty())
        };
        let me = self.lan.me();
        let updates: Vec<NodeCoordinate> = self
            .lan
            .members()
            .filter(|member| member.state.is_well())
            .filter_map(|member| {
                let there = if member.id == me.id {
                    *self.lan.coordinate()
                } else {
                    *self.lan.coordinate_of(member.id)?
                };
                let coordinate =
                    Written::new(there.vector, there.error, there.adjustment, there.height).ok()?;
                let before = written(&member.name);
                let update = NodeCoordinate {
                    node: member.name.clone(),
                    segment: String::new(),
                    coordinate,
                };
                (before.is_none_or(|before| has_moved(&before, &there)) && update.check().is_ok())
                    .then_some(update)
            })
            .take(MAX_COORDINATE_UPDATES)
            .collect();
        if !updates.is_empty() {
            self.server_input(server::Input::Duty(Action::Coordinates(updates)));
        }
    }

    /// Whoever is forgotten is nowhere.
    pub(super) fn forget_coordinates(&mut self, event: &MemberEvent) {
        if let MemberEvent::Reaped(member) = event
            && self.leads()
            && self.lan.member_by_name(&member.name).is_none()
        {
            let names = vec![member.name.clone()];
            self.server_input(server::Input::Duty(Action::ForgetCoordinates(names)));
        }
    }
}

fn has_moved(before: &CoordinateEntry, now: &Coordinate) -> bool {
    let before = &before.update.coordinate;
    let squares = before
        .vector()
        .iter()
        .zip(now.vector)
        .map(|(a, b)| (a - b) * (a - b));
    let moved = squares.sum::<f64>().sqrt();
    moved > MOVED
        || (before.height() - now.height).abs() > MOVED
        || (before.adjustment() - now.adjustment).abs() > MOVED
        || (before.error() - now.error).abs() > 0.25
}
