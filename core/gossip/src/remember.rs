//! What is kept over a restart.

use crate::gossip::{Gossip, Timer};
use crate::io::{Effect, Memory, RememberedPeer};
use crate::lamport::LamportTime;
use crate::leave::Phase;
use crate::member::Incarnation;

/// So many incarnations are written down ahead, so that not each one has to be.
const AHEAD: u64 = 64;

impl Gossip {
    /// What is to be remembered has changed; it is written down before long.
    pub(crate) fn memory_changed(&mut self) {
        let at = self.now() + self.config.remember_interval;
        self.timers.set_if_none(Timer::Remember, at);
    }

    /// An event of this time is about to be handed out: that is to be remembered before it happens.
    pub(crate) fn remember_handed_out(&mut self, time: LamportTime) {
        if time > self.handed_out {
            self.remember_now();
        }
    }

    /// Writes down what is to be remembered.
    pub(crate) fn remember_now(&mut self) {
        self.timers.cancel(Timer::Remember);
        let peers = self.table.some_alive(crate::MAX_REMEMBERED);
        let peers: Vec<RememberedPeer> = peers
            .map(|member| RememberedPeer {
                id: member.id,
                address: member.address,
            })
            .collect();
        // Who lost everybody goes on looking for those it knew.
        if !peers.is_empty() {
            self.remembered = peers;
        }
        self.reserved = Incarnation(self.me().incarnation.0.saturating_add(AHEAD));
        self.handed_out = self.payload.handed_out();
        let [intents, _, queries] = self.clock_times();
        let memory = Memory {
            incarnation: self.reserved,
            clocks: [intents, self.handed_out.0, queries],
            peers: self.remembered.clone(),
            left: self.phase == Phase::Left,
            coordinate: Some(*self.coordinate()),
        };
        self.effects.push_back(Effect::Remember(memory));
    }
}
