//! Forming a large pool at once: ten thousand joins, each told to everybody by gossip, would take longer than what is to be measured.

use bytes::Bytes;
use lictor_gossip::{Config, Effect, Gossip, InboundId, Input, Memory, Sender};
use lictor_machine::{Machine, NodeId, Token};

use super::truth::Watch;
use super::world::World;
use crate::oracles::{Check, Violation};

impl<W: Watch> World<'_, W> {
    /// Tells every member that is up of all others, in the words in which a member that is joined tells a newcomer.
    ///
    /// A registrar, which is no member of the world, takes the joins of all; then everybody asks it once more.
    pub fn introduce(&mut self) -> Check {
        let up = self.up();
        let Some(first) = up.first().copied() else {
            return Ok(());
        };
        let mut registrar = self.double(first)?;
        for at in up.iter().copied().filter(|at| *at != first) {
            let (_, request) = self.joining(at)?;
            reply_of(&mut registrar, self.now_at(first), self.identity(at), request)?;
        }
        let mut whole = None;
        for at in up {
            let (call, request) = self.joining(at)?;
            // Everybody is told everything, so what one is told serves all.
            let reply = if let Some(reply) = &whole {
                Bytes::clone(reply)
            } else {
                let reply = reply_of(&mut registrar, self.now_at(first), self.identity(at), request)?;
                whole.insert(reply).clone()
            };
            let answerer = if at == first { at + 1 } else { first };
            let result = Ok((self.identity(answerer), reply));
            self.input(at, Input::CallDone { id: call, result })?;
        }
        Ok(())
    }

    /// A machine with a member's settings that is not in the world.
    fn double(&self, at: usize) -> Result<Gossip, Violation> {
        let config: Config = self.config_of(at, 0);
        Gossip::start(config, Memory::default(), self.now_at(at)).map_err(|error| Violation {
            property: "introductions are complete",
            detail: error.to_string(),
        })
    }

    fn identity(&self, at: usize) -> Sender {
        Sender {
            id: self.scene().members[at].id,
            name: self.scene().members[at].name.clone(),
            server: self.is_server(at),
            address: self.address(at),
        }
    }

    /// Has a member begin to join, and holds its call back.
    fn joining(&mut self, at: usize) -> Result<(lictor_gossip::CallId, Bytes), Violation> {
        let input = Input::Join {
            token: Token(0),
            addresses: vec![self.address(usize::from(at == 0))],
        };
        self.holding = true;
        let taken = self.input(at, input);
        self.holding = false;
        taken?;
        self.held.take().ok_or_else(|| Violation {
            property: "introductions are complete",
            detail: format!("m{at} calls nobody when it is to join"),
        })
    }
}

/// What the registrar says to a call.
fn reply_of(
    registrar: &mut Gossip,
    now: lictor_machine::Now,
    from: Sender,
    request: Bytes,
) -> Result<Bytes, Violation> {
    let id: NodeId = from.id;
    let refused = |detail: String| Violation {
        property: "introductions are complete",
        detail,
    };
    registrar
        .handle(
            now,
            Input::Call {
                id: InboundId(0),
                from,
                request,
            },
        )
        .map_err(|reject| refused(reject.to_string()))?;
    let mut answer = None;
    while let Some(effect) = registrar.poll_effect() {
        if let Effect::Reply { reply, .. } = effect {
            answer = Some(reply);
        }
    }
    answer.ok_or_else(|| refused(format!("{id:?} gets no answer")))
}
