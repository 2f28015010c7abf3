//! The leader has the catalog say what gossip says of the members of its data center.

use std::sync::Arc;

use lictor_catalog::Text;
use lictor_gossip::{Gossip, Member};

use super::Agent;
use crate::io as server;
use crate::reconcile::{Members, Scene};

impl Members for Gossip {
    fn by_name(&self, name: &str) -> Option<&Arc<Member>> {
        self.member_by_name(name)
    }

    fn names(&self) -> Vec<Text> {
        self.members()
            .map(|member| Text::from(member.name.as_str()))
            .collect()
    }
}

impl Agent {
    pub(super) fn see_who_leads(&mut self) {
        self.reconciler.leads(self.leads(), self.clock.latest());
    }

    pub(super) fn reconcile(&mut self) {
        let now = self.clock.latest();
        let Some(server) = self.server.as_deref().filter(|server| server.leads_up_to_date()) else {
            self.reconciler.postpone(now);
            return;
        };
        let scene = Scene {
            now,
            me: self.config.lan.id,
            state: server.state(),
            members: &self.lan,
        };
        for action in self.reconciler.look(&scene) {
            self.server_input(server::Input::Duty(action));
        }
    }
}
