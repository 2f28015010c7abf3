//! How other tasks talk to the node's loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::channel::oneshot;
use lictor_machine::Token;
use lictor_node::{Answer, InboundId, Input, Request, RequestError};
use lictor_runtime::{Closed, Completions, Envelope, Inbox};
use lictor_transport_quic::ReplyHandle;

/// An input and who waits for it.
pub(crate) type Posted = Envelope<Input, Tag>;

/// Who waits for what an input leads to.
#[derive(Debug)]
pub(crate) enum Tag {
    /// Nobody.
    None,
    /// A request of this agent.
    Request(Token, oneshot::Sender<Answer>),
    /// A call of another agent.
    Call(InboundId, ReplyHandle),
}

/// Posts inputs to the node's loop.
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

    /// Asks the node and waits for its answer.
    pub(crate) async fn request(&self, request: Request) -> Answer {
        let token = Token(self.next_token.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        let input = Input::Request { token, request };
        let stopped = || Answer::Failed(RequestError::Stopped("it is shutting down".into()));
        let posted = self
            .inbox
            .send(Envelope {
                input,
                tag: Tag::Request(token, sender),
            })
            .await;
        match posted {
            Ok(()) => answer.await.unwrap_or_else(|_| stopped()),
            Err(Closed(_)) => stopped(),
        }
    }

    /// Posts a call of another agent; waits for room.
    pub(crate) async fn call(&self, input: Input, id: InboundId, reply: ReplyHandle) {
        // Once the loop has ended, dropping the handle tells the caller.
        let _ = self
            .inbox
            .send(Envelope {
                input,
                tag: Tag::Call(id, reply),
            })
            .await;
    }

    /// Posts an input that nobody waits for; waits for room.
    pub(crate) async fn post(&self, input: Input) {
        let _ = self
            .inbox
            .send(Envelope {
                input,
                tag: Tag::None,
            })
            .await;
    }

    /// Posts the outcome of something that the node asked for. Never waits.
    pub(crate) fn complete(&self, input: Input) {
        let _ = self.completions.push(Envelope {
            input,
            tag: Tag::None,
        });
    }

    /// Ends the node's loop at once.
    pub(crate) fn stop(&self) {
        self.inbox.stop();
    }
}
