//! What is really so, which no member knows; and who looks on.

use lictor_gossip::{Effect, Gossip, Incarnation, MemberEvent};
use lictor_machine::{Instant, NodeId, Token};

use crate::oracles::Check;

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was not started yet.
    Unborn,
    /// It runs; perhaps frozen, perhaps out of reach.
    Running,
    /// It runs and was told to leave.
    Leaving,
    /// It left in good order.
    Left,
    /// It stopped without a word.
    Crashed,
}

impl Fate {
    /// Whether there is a process.
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Leaving)
    }
}

/// The truth about one member.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Who.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub fate: Fate,
    /// Since when.
    pub since: Instant,
    /// How often it was started.
    pub life: u32,
    /// The highest incarnation that it ever used. Nobody can have a higher one from it.
    pub incarnation: Incarnation,
    /// The highest incarnation at which it has said that it leaves.
    pub left_at: Option<Incarnation>,
    /// Somebody wanted others to take it for left.
    pub forced: bool,
    /// Since when nothing is wrong with it or its network; `None`: something is.
    pub sound_since: Option<Instant>,
}

/// The truth about everybody, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The moment, in true time.
    pub now: Instant,
    /// Everybody, by the number of their seat.
    pub members: &'a [Truth],
}

impl Scene<'_> {
    /// The seat of an id, if there is one.
    pub fn seat_of(&self, id: NodeId) -> Option<usize> {
        let seat = usize::try_from(id.0.checked_sub(1)?).ok()?;
        (seat < self.members.len()).then_some(seat)
    }
}

/// Who looks on: sees every transition as it happens, and may say that it must not be.
pub trait Watch {
    /// A member was started, with a table that holds nobody but itself.
    fn started(&mut self, scene: Scene<'_>, at: usize) -> Check {
        let _ = (scene, at);
        Ok(())
    }

    /// A member was asked something that it must answer once.
    fn asked(&mut self, scene: Scene<'_>, at: usize, token: Token) {
        let _ = (scene, at, token);
    }

    /// A member's view of the pool changes.
    fn saw(&mut self, scene: Scene<'_>, at: usize, event: &MemberEvent) -> Check {
        let _ = (scene, at, event);
        Ok(())
    }

    /// A member wants something else done than to send, or to change its view.
    fn did(&mut self, scene: Scene<'_>, at: usize, effect: &Effect) -> Check {
        let _ = (scene, at, effect);
        Ok(())
    }

    /// A member has ended a turn.
    fn turned(&mut self, scene: Scene<'_>, at: usize, machine: &Gossip) -> Check {
        let _ = (scene, at, machine);
        Ok(())
    }
}

/// Nobody looks on.
impl Watch for () {}
