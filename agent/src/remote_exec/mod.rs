//! Commands that others want carried out on this agent: `lictor exec`, and `consul exec`.
//!
//! Whoever has one makes a session, puts what is to be done under a key that the session holds, and tells all agents of it by a user
//! event. An agent that takes commands reads the key, and answers under keys of its own, which the session holds too: that it has begun,
//! piece by piece what the program says, and its exit code. When the session ends all of that is gone, and so are the programs.
//!
//! An agent takes no commands unless its configuration says so, since whoever can write keys and fire events decides what runs.
//!
//! - `program`: a program that runs, what it says, and how it ends;
//! - `post`: the keys;
//! - `job`: one command from its beginning to its end.
//!
//! Nothing that comes from outside is trusted to be small, or to end: there are [`AT_ONCE`] commands at a time and [`WAITING`] more that
//! wait, and each is bounded in what it is and what it says.

mod job;
mod post;
mod program;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::sync::Arc;

use async_channel::{Receiver, Sender, TrySendError};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use futures_lite::FutureExt as _;
use lictor_http::{Backend, UserEvent};
use lictor_machine::NodeId;

use post::{Cluster, Store};

/// The name of the events that tell agents of commands.
pub(crate) const EVENT: &str = "_rexec";

/// How many commands are carried out at a time.
const AT_ONCE: usize = 16;

/// How many more may wait.
const WAITING: usize = 16;

/// That somebody wants a command carried out.
#[derive(Debug)]
pub(crate) struct Order {
    /// The agent that was asked to tell the others.
    pub(crate) origin: NodeId,
    /// What all were told.
    pub(crate) event: UserEvent,
}

/// Where orders are taken. Clones take them to the same place.
#[derive(Clone, Debug)]
pub(crate) struct Desk(Option<Sender<Order>>);

impl Desk {
    /// A desk, and the orders that are taken there; `None` if this agent takes none.
    pub(crate) fn open(enabled: bool) -> (Self, Option<Receiver<Order>>) {
        if !enabled {
            return (Self(None), None);
        }
        let (sender, orders) = async_channel::bounded(WAITING);
        (Self(Some(sender)), Some(orders))
    }

    /// Takes an order, if this agent takes any and has room. Otherwise the log says why not; whoever gave it does not hear of that.
    pub(crate) fn take(&self, order: Order) {
        let (id, from) = (order.event.id, order.origin);
        let Some(sender) = &self.0 else {
            tracing::info!(
                %id, %from,
                "refused a command of others: disable_remote_exec is not false in this agent's configuration"
            );
            return;
        };
        match sender.try_send(order) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::warn!(
                %id, %from,
                "refused a command of others: {AT_ONCE} are being carried out, and {WAITING} more wait"
            ),
            Err(TrySendError::Closed(_)) => {
                tracing::info!(%id, %from, "refused a command of others: this agent is about to end");
            }
        }
    }
}

/// Carries out what is ordered, on the node of this name, for as long as there is a desk. If this future is dropped, all that was started
/// is killed.
pub(crate) async fn carry_out(orders: Receiver<Order>, node: String, backend: Arc<dyn Backend>) {
    serve(&orders, &node, &Cluster(backend)).await;
}

async fn serve(orders: &Receiver<Order>, node: &str, store: &dyn Store) {
    let mut jobs = FuturesUnordered::new();
    loop {
        let has_room = jobs.len() < AT_ONCE;
        let order = async {
            if !has_room {
                return pending().await;
            }
            orders.recv().await.map_or(Step::Closed, Step::Order)
        };
        // The jobs go on for as long as they are asked which of them has ended.
        let end = async {
            match jobs.next().await {
                Some(()) => Step::Ended,
                None => pending().await,
            }
        };
        let step = end.or(order).await;
        match step {
            Step::Order(order) => jobs.push(job::carry_out(order, node, store)),
            Step::Ended => {}
            Step::Closed => return,
        }
    }
}

/// What happens where orders are carried out.
enum Step {
    /// There is a new one.
    Order(Order),
    /// One is done.
    Ended,
    /// There will be no more.
    Closed,
}
