//! How other tasks talk to the agent's loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::channel::oneshot;
use lictor_gossip as gossip;
use lictor_machine::Token;
use lictor_node::agent::{Input, Pool};
use lictor_node::{Answer, InboundId, OperatorRequest, Request, RequestError};
use lictor_runtime::{Closed, Completions, Envelope, Inbox};
use lictor_transport_quic::ReplyHandle;

/// An input and who waits for it.
pub(crate) type Posted = Envelope<Input, Tag>;

/// Who waits for what an input leads to.
#[derive(Debug)]
pub(crate) enum Tag {
    /// Nobody.
    None,
    /// A request of this agent to its server.
    Request(Token, oneshot::Sender<Answer>),
    /// A request of this agent to one of its pools.
    Gossip(Token, oneshot::Sender<gossip::Answer>),
    /// A request to what runs on this agent.
    Local(Token, oneshot::Sender<Result<(), lictor_local::Error>>),
    /// A call of another agent for the server.
    Call(InboundId, ReplyHandle),
    /// A call of another member of a pool.
    GossipCall(Pool, gossip::InboundId, ReplyHandle),
}

/// Posts inputs to the agent's loop.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    inbox: Inbox<Posted>,
    completions: Completions<Posted>,
    next_token: Arc<AtomicU64>,
}

impl Handle {
    pub(crate) fn new(inbox: Inbox<Posted>, completions: Completions<Posted>) -> Self {
        Self {
            inbox,
            completions,
            next_token: Arc::new(AtomicU64::new(1)),
        }
    }

    fn token(&self) -> Token {
        Token(self.next_token.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks the server and waits for its answer. That it stopped is answered only if nothing was done: who hears it asks another one.
    pub(crate) async fn request(&self, request: Request) -> Answer {
        let token = self.token();
        let (sender, answer) = oneshot::channel();
        let stopped = RequestError::Stopped("it is shutting down".into());
        let lost = match &request {
            // The loop may have ended after it was proposed, and others may carry it out.
            Request::Write(_) | Request::Operator(OperatorRequest::Remove(_)) => RequestError::LeadershipLost,
            Request::Read(_)
            | Request::RenewSession(_)
            | Request::TransferLeadership(_)
            | Request::Operator(OperatorRequest::Servers { .. } | OperatorRequest::Health) => stopped.clone(),
        };
        let input = Input::Server(lictor_node::Input::Request { token, request });
        let tag = Tag::Request(token, sender);
        match self.inbox.send(Envelope { input, tag }).await {
            Ok(()) => answer.await.unwrap_or(Answer::Failed(lost)),
            Err(Closed(_)) => Answer::Failed(stopped),
        }
    }

    /// Asks a pool for what `input` makes of a token, and waits for the answer.
    pub(crate) async fn gossip(
        &self,
        pool: Pool,
        input: impl FnOnce(Token) -> gossip::Input,
    ) -> gossip::Answer {
        let token = self.token();
        let (sender, answer) = oneshot::channel();
        let input = Input::Gossip {
            pool,
            input: input(token),
        };
        let stopped = || gossip::Answer::Failed("this agent is shutting down".into());
        let tag = Tag::Gossip(token, sender);
        match self.inbox.send(Envelope { input, tag }).await {
            Ok(()) => answer.await.unwrap_or_else(|_| stopped()),
            Err(Closed(_)) => stopped(),
        }
    }

    /// Asks what runs on this agent for something, and waits for the answer. `None`: the agent is shutting down.
    pub(crate) async fn local(
        &self,
        request: lictor_local::Request,
    ) -> Option<Result<(), lictor_local::Error>> {
        let token = self.token();
        let (sender, answer) = oneshot::channel();
        let input = Input::Local(lictor_local::Input::Request { token, request });
        let tag = Tag::Local(token, sender);
        self.inbox.send(Envelope { input, tag }).await.ok()?;
        answer.await.ok()
    }

    /// Posts a call of another agent; waits for room. Once the loop has ended, the dropped tag tells the caller.
    pub(crate) async fn call(&self, input: impl Into<Input>, tag: Tag) {
        let input = input.into();
        let _ = self.inbox.send(Envelope { input, tag }).await;
    }

    /// Posts an input that nobody waits for; waits for room.
    pub(crate) async fn post(&self, input: impl Into<Input>) {
        self.call(input, Tag::None).await;
    }

    /// Posts an input that may get lost: it does when there is no room.
    pub(crate) fn offer(&self, input: impl Into<Input>) {
        let input = input.into();
        let tag = Tag::None;
        let _ = self.inbox.try_send(Envelope { input, tag });
    }

    /// Posts the outcome of something that the agent's machine asked for. Never waits.
    pub(crate) fn complete(&self, input: impl Into<Input>) {
        let input = input.into();
        let tag = Tag::None;
        let _ = self.completions.push(Envelope { input, tag });
    }

    /// Ends the loop at once.
    pub(crate) fn stop(&self) {
        self.inbox.stop();
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, zip};
    use lictor_catalog::{Action, KvWrite};
    use lictor_raft::ReadMode;
    use lictor_runtime::channel;

    use super::*;

    #[test]
    fn a_loop_that_ends_does_not_say_that_nothing_was_done() {
        let write = || Request::Write(Action::Kv(KvWrite::Delete("k".into())));
        let (inbox, completions, mut inputs) = channel(8);
        let handle = Handle::new(inbox, completions);
        let taken_and_dropped = async {
            let mut taken = Vec::new();
            while taken.len() < 2 {
                inputs.take(&mut taken, 8).await;
            }
        };
        let asked = zip(
            handle.request(write()),
            handle.request(Request::Read(ReadMode::Quorum)),
        );
        let (answers, ()) = block_on(zip(asked, taken_and_dropped));
        assert!(matches!(answers.0, Answer::Failed(RequestError::LeadershipLost)));
        assert!(matches!(answers.1, Answer::Failed(RequestError::Stopped(_))));
        // This one never got anywhere.
        drop(inputs);
        let refused = block_on(handle.request(write()));
        assert!(matches!(refused, Answer::Failed(RequestError::Stopped(_))));
    }
}
