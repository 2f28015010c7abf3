//! How many connections are begun at a time for the sake of datagrams.
//!
//! Handshakes cost processor time on both ends. Where there is too little of it for all that are begun, none is done
//! before its time is over, and all the work is lost. So there are few at first, and each that succeeds lets one more;
//! and when as many in a row came to nothing as there may be at a time, only half as many are begun.

use std::sync::{Arc, Mutex};

use crate::shared::lock;

/// How many there may be before any has succeeded.
const FIRST: usize = 4;

/// The attempts of one transport.
#[derive(Debug)]
pub(crate) struct Dials {
    most: usize,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    allowed: usize,
    open: usize,
    failed_in_a_row: usize,
}

/// One attempt. Dropping it untold counts as neither.
#[derive(Debug)]
pub(crate) struct Dial(Arc<Dials>);

impl Dials {
    /// There will never be more than `most` at a time, or one if it is none.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let most = most.max(1);
        let now = Mutex::new(Now {
            allowed: most.min(FIRST),
            open: 0,
            failed_in_a_row: 0,
        });
        Arc::new(Self { most, now })
    }

    /// Room for one more, if there is.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Dial> {
        let mut now = lock(&self.now);
        if now.open >= now.allowed {
            return None;
        }
        now.open += 1;
        Some(Dial(Arc::clone(self)))
    }
}

impl Dial {
    /// It came to a connection, or not.
    pub(crate) fn end(self, connected: bool) {
        let mut now = lock(&self.0.now);
        if connected {
            now.failed_in_a_row = 0;
            now.allowed = self.0.most.min(now.allowed + 1);
        } else {
            now.failed_in_a_row += 1;
            if now.failed_in_a_row >= now.allowed {
                now.failed_in_a_row = 0;
                now.allowed = now.allowed.div_ceil(2);
            }
        }
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        lock(&self.0.now).open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(dials: &Arc<Dials>) -> usize {
        std::iter::from_fn(|| dials.begin()).collect::<Vec<_>>().len()
    }

    fn end(dials: &Arc<Dials>, connected: bool) {
        dials.begin().unwrap().end(connected);
    }

    #[test]
    fn there_are_as_many_as_allowed_and_never_none() {
        let dials = Dials::new(4);
        assert_eq!(room(&dials), 4);
        assert_eq!(room(&dials), 4, "who has ended makes room");
        for left in [2, 1, 1, 1] {
            for _ in 0..room(&dials) {
                end(&dials, false);
            }
            assert_eq!(room(&dials), left);
        }
        for left in [2, 3, 4, 4] {
            end(&dials, true);
            assert_eq!(room(&dials), left);
        }
        assert_eq!(room(&Dials::new(0)), 1);
    }

    #[test]
    fn peers_that_are_dead_do_not_take_the_room_of_those_that_live() {
        let dials = Dials::new(8);
        for _ in 0..100 {
            for _ in 0..3 {
                end(&dials, false);
            }
            end(&dials, true);
        }
        assert_eq!(room(&dials), 8);
    }
}
