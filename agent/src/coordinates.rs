//! Gathers what clients of the API say about where nodes are: each write of its own would cost a round of consensus.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::Event;
use lictor_catalog::{Action, MAX_COORDINATE_UPDATES, NodeCoordinate};
use lictor_node::{Answer, Request};

use crate::handle::Handle;

/// Updates that wait to be written together.
#[derive(Debug, Default)]
pub(crate) struct CoordinateUpdates {
    /// The latest of each node and segment.
    waiting: Mutex<BTreeMap<(String, String), NodeCoordinate>>,
    news: Event,
}

impl CoordinateUpdates {
    /// Has an update written with the next batch. When that is full a new node's is dropped: it will say so again.
    pub(crate) fn add(&self, update: NodeCoordinate) {
        let mut waiting = self.lock();
        let place = (update.node.to_ascii_lowercase(), update.segment.clone());
        if waiting.len() >= MAX_COORDINATE_UPDATES && !waiting.contains_key(&place) {
            tracing::debug!(
                node = update.node,
                "too many updates of coordinates: this one is dropped"
            );
            return;
        }
        waiting.insert(place, update);
        drop(waiting);
        self.news.notify(1);
    }

    /// Writes what has gathered, at most once in `period`, for ever. One task of the agent runs this.
    pub(crate) async fn keep_writing(self: Arc<Self>, handle: Handle, period: Duration) {
        loop {
            let listener = self.news.listen();
            if self.lock().is_empty() {
                listener.await;
            }
            async_io::Timer::after(period).await;
            let updates: Vec<_> = std::mem::take(&mut *self.lock()).into_values().collect();
            if updates.is_empty() {
                continue;
            }
            let count = updates.len();
            if let Answer::Failed(error) = handle.request(Request::Write(Action::Coordinates(updates))).await
            {
                tracing::debug!(count, %error, "updates of coordinates are lost");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), NodeCoordinate>> {
        // Sound after any step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::FutureExt as _;
    use futures_lite::future::block_on;
    use lictor_catalog::Coordinate;
    use lictor_node::agent::Input;
    use lictor_runtime::channel;

    use super::*;

    fn update(node: &str, height: f64) -> NodeCoordinate {
        NodeCoordinate {
            node: node.into(),
            segment: String::new(),
            coordinate: Coordinate::new([0.0; 8], 1.5, 0.0, height).unwrap(),
        }
    }

    #[test]
    fn the_latest_of_each_node_goes_into_one_write() {
        let updates = Arc::new(CoordinateUpdates::default());
        for (node, height) in [("a", 0.1), ("b", 0.2), ("A", 0.3)] {
            updates.add(update(node, height));
        }
        for number in 0..2 * MAX_COORDINATE_UPDATES {
            updates.add(update(&format!("n{number}"), 0.1));
        }
        updates.add(update("B", 0.4));
        let (inbox, completions, mut inputs) = channel(8);
        let handle = Handle::new(inbox, completions);
        let writing = Arc::clone(&updates).keep_writing(handle, Duration::from_millis(1));
        let written = async {
            let mut taken = Vec::new();
            inputs.take(&mut taken, 8).await;
            let input = taken.pop().unwrap().input;
            let Input::Server(lictor_node::Input::Request {
                request: Request::Write(Action::Coordinates(written)),
                ..
            }) = input
            else {
                panic!("{input:?}")
            };
            written
        };
        let never = async {
            writing.await;
            Vec::new()
        };
        let written = block_on(written.or(never));
        assert_eq!(written.len(), MAX_COORDINATE_UPDATES);
        assert_eq!(written[0], update("A", 0.3));
        assert_eq!(written[1], update("B", 0.4));
        assert!(updates.lock().is_empty());
    }
}
