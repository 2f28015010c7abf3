//! Joining a pool, by the addresses of some of its members.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use lictor_machine::Token;

use crate::calls::Purpose;
use crate::gossip::Gossip;
use crate::io::{Answer, Effect, Sender, Target};
use crate::leave::Phase;
use crate::members::is_gone;
use crate::rounds::Topic;
use crate::rumors::profile_of;
use crate::statement::{Statement, Step};
use crate::wire::Part;

/// Addresses that are tried at the same time.
const AT_ONCE: usize = 8;

/// Requests to join that may be open.
const JOINS_MAX: usize = 64;

/// A request to join.
#[derive(Debug, Default)]
pub(crate) struct Joining {
    waiting: VecDeque<SocketAddr>,
    open: usize,
    joined: usize,
    failed: Vec<(SocketAddr, String)>,
}

impl Gossip {
    /// Joins whoever is found at these addresses.
    pub(crate) fn join(&mut self, token: Token, addresses: Vec<SocketAddr>) {
        let refused = if addresses.len() > crate::MAX_JOIN_ADDRESSES {
            Some(format!("at most {} addresses at once", crate::MAX_JOIN_ADDRESSES))
        } else if self.phase != Phase::Present {
            Some("this member is leaving, or has left".to_owned())
        } else if self.joins.len() >= JOINS_MAX || self.joins.contains_key(&token) {
            Some("too many joins are under way".to_owned())
        } else {
            None
        };
        if let Some(reason) = refused {
            let answer = Answer::Failed(reason);
            self.effects.push_back(Effect::Answer { token, answer });
            return;
        }
        self.keeps_apart = false;
        let mut joining = Joining::default();
        for address in addresses {
            if address == self.me().address {
                joining
                    .failed
                    .push((address, "this is the member itself".to_owned()));
            } else if !joining.waiting.contains(&address) {
                joining.waiting.push_back(address);
            }
        }
        self.joins.insert(token, joining);
        self.go_on_joining(token);
    }

    fn go_on_joining(&mut self, token: Token) {
        loop {
            let Some(joining) = self.joins.get_mut(&token) else {
                return;
            };
            if joining.open >= AT_ONCE {
                return;
            }
            let Some(address) = joining.waiting.pop_front() else {
                break;
            };
            joining.open += 1;
            let step = if self.fresh { Step::Join } else { Step::Sync };
            let request = self.sync_request(step);
            let purpose = Purpose::Join { token, address };
            if !self.call(
                Target::Address(address),
                request,
                self.config.stream_timeout,
                purpose,
            ) && let Some(joining) = self.joins.get_mut(&token)
            {
                joining.open -= 1;
                joining
                    .failed
                    .push((address, "too many calls are open".to_owned()));
            }
        }
        if self.joins.get(&token).is_some_and(|joining| joining.open == 0)
            && let Some(Joining { joined, failed, .. }) = self.joins.remove(&token)
        {
            let answer = Answer::Joined { joined, failed };
            self.effects.push_back(Effect::Answer { token, answer });
        }
    }

    /// What became of one address.
    pub(crate) fn join_done(&mut self, token: Token, address: SocketAddr, outcome: Result<(), String>) {
        let Some(joining) = self.joins.get_mut(&token) else {
            return;
        };
        joining.open = joining.open.saturating_sub(1);
        match outcome {
            Ok(()) => joining.joined += 1,
            Err(reason) => joining.failed.push((address, reason)),
        }
        self.go_on_joining(token);
    }

    /// Somebody answered a call that was to join it.
    pub(crate) fn joined_by(&mut self, from: &Sender, reply: &Bytes) -> Result<(), String> {
        if from.id == self.me().id {
            self.report_double(from.address);
            return Err("this member itself answers, or another with its id".to_owned());
        }
        if self.phase != Phase::Present {
            return Err("this member is leaving".to_owned());
        }
        if let Err(reason) = self.sync_reply(from, reply) {
            self.refuse(from.id, reason);
            return Err(format!("the answer of {} is refused: {reason}", from.name));
        }
        if let Some(holder) = self.name_holder(reply) {
            return Err(holder);
        }
        // Now, so that it is the news that it is: who joins is first heard of from itself.
        let me = Part::Statement(Statement::Alive(profile_of(self.me())));
        self.pass_on(Topic::state(self.me().id), me.encode());
        self.say_join();
        Ok(())
    }

    /// Whether the pool has another member with this one's name.
    fn name_holder(&mut self, reply: &Bytes) -> Option<String> {
        let (_, parts) = self.open_reply(reply).ok()?;
        for part in parts {
            let Part::Statement(Statement::State { profile, state, .. }) = part.ok()?.part else {
                continue;
            };
            let me = self.me();
            if profile.name == me.name && profile.id != me.id && !is_gone(state) {
                return Some(format!(
                    "the name {:?} belongs to the member {} at {}: give this one another, or stop that one",
                    profile.name, profile.id, profile.address
                ));
            }
        }
        None
    }

    /// Answers all who wait for a join.
    pub(crate) fn abandon_joins(&mut self) {
        while let Some((token, _)) = self.joins.pop_first() {
            let answer = Answer::Failed("this member has left".to_owned());
            self.effects.push_back(Effect::Answer { token, answer });
        }
    }
}
