//! Places for archives on their way out, or in: how many there are, how slowly one may go, and who gives way when there are no more.
//!
//! Until an archive has been taken to its end, what is replaced in the state stays in memory; until one has come to its end, it takes room on
//! a disk; and nobody else has its place. So one of which next to nothing is taken is given up (of those that come, whoever reads from
//! their senders sees to that), and one that is merely slow gives way to the next when all places are taken.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender, TrySendError};
use async_io::Timer;
use bytes::Bytes;
use futures_lite::FutureExt as _;
use futures_lite::future::block_on;

/// How many archives a server makes at once, and how many it takes in. Each of the former keeps the state as it was when it began.
pub(super) const PLACES: usize = 4;

/// How long nothing of an archive may be taken. Waiting uses it up, and what is taken gives some of it back.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many bytes have to be taken in a second, in the long run.
const BYTES_A_SECOND: u64 = 64 << 10;

/// After so long a wait, in all, it is known how fast an archive is taken.
const KNOWN: Duration = Duration::from_secs(10);

/// One that goes faster than this gives way to nobody.
pub(super) const STEADY_BYTES_A_SECOND: u64 = 1 << 20;

/// All places of a server for one direction.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Vec<Arc<Taken>>>);

/// One of them. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    taken: Arc<Taken>,
}

/// Why an archive is not made to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    /// Nobody is there who takes it.
    #[error("nobody takes it any more")]
    Gone,
    /// It is taken too slowly.
    #[error("it was given up: fewer than {BYTES_A_SECOND} bytes a second were taken")]
    TooSlow,
    /// Another one has its place.
    #[error(
        "it gave way to another one: too many are made, and fewer than {STEADY_BYTES_A_SECOND} bytes a second were taken"
    )]
    GaveWay,
}

#[derive(Debug)]
struct Taken {
    pace: Mutex<Pace>,
    /// Closed when the place is another's.
    kept: (Sender<Infallible>, Receiver<Infallible>),
}

impl Places {
    /// A place for one more; `None` if all are taken by archives that are fast enough, or for which that is not known yet. When it comes
    /// from another one, that is lost at once: so ask for it last, when nothing else is in the way.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Place> {
        let mut all = lock(&self.0);
        if all.len() >= PLACES {
            let now = Instant::now();
            let slowest = all
                .iter()
                .enumerate()
                .filter_map(|(at, taken)| Some((lock(&taken.pace).speed(now)?, at)))
                .min();
            let (speed, at) = slowest?;
            if speed >= STEADY_BYTES_A_SECOND {
                return None;
            }
            all.swap_remove(at).kept.0.close();
        }
        let taken = Arc::new(Taken {
            pace: Mutex::new(Pace::new(PATIENCE)),
            kept: async_channel::bounded(1),
        });
        all.push(Arc::clone(&taken));
        drop(all);
        Some(Place {
            places: Arc::clone(self),
            taken,
        })
    }
}

impl Place {
    /// Waits for a piece that is to come. `None`: another one has the place, and there is no sense in going on.
    pub(super) async fn receive<E>(
        &self,
        piece: impl Future<Output = Result<Bytes, E>>,
    ) -> Option<Result<Bytes, E>> {
        lock(&self.taken.pace).wait(Instant::now());
        let giving_way = async {
            self.taken.given_away().await;
            None
        };
        let piece = giving_way.or(async { Some(piece.await) }).await?;
        let bytes = piece.as_ref().map_or(0, |piece| piece.len() as u64);
        lock(&self.taken.pace).took(bytes, Instant::now());
        Some(piece)
    }

    /// All has come: the place is kept from now on, however slowly that went. False if another one has it already.
    pub(super) fn keep(&self) -> bool {
        // Nobody else is just looking for one that may give way.
        let _all = lock(&self.places.0);
        lock(&self.taken.pace).settled = true;
        !self.taken.kept.1.is_closed()
    }

    /// Hands a piece over, and waits for it to be taken. After an error there is no sense in going on.
    pub(super) fn hand_over(&self, piece: Bytes, to: &Sender<Bytes>) -> Result<(), Lost> {
        let bytes = piece.len() as u64;
        let piece = match to.try_send(piece) {
            Ok(()) => {
                lock(&self.taken.pace).took(bytes, Instant::now());
                return Ok(());
            }
            Err(TrySendError::Closed(_)) => return Err(Lost::Gone),
            Err(TrySendError::Full(piece)) => piece,
        };
        let due = lock(&self.taken.pace).wait(Instant::now());
        let sending = async { to.send(piece).await.map_err(|_| Lost::Gone) };
        let giving_way = async {
            self.taken.given_away().await;
            Err(Lost::GaveWay)
        };
        let giving_up = async {
            Timer::at(due).await;
            Err(Lost::TooSlow)
        };
        block_on(sending.or(giving_way).or(giving_up))?;
        lock(&self.taken.pace).took(bytes, Instant::now());
        Ok(())
    }
}

impl Taken {
    /// Waits until the place is another's.
    async fn given_away(&self) {
        // Nothing is ever sent: this ends when it is closed.
        let _ = self.kept.1.recv().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.0).retain(|taken| !Arc::ptr_eq(taken, &self.taken));
    }
}

/// How fast an archive is taken, or comes.
#[derive(Debug)]
struct Pace {
    /// How long nothing may be taken from now on, and at first.
    patience: Duration,
    patience_max: Duration,
    /// How long was waited, in all.
    waited: Duration,
    /// Since when nothing was taken.
    since: Option<Instant>,
    /// How many bytes were taken.
    bytes: u64,
    /// Whether it gives way to nobody any more.
    settled: bool,
}

impl Pace {
    const fn new(patience: Duration) -> Self {
        Self {
            patience,
            patience_max: patience,
            waited: Duration::ZERO,
            since: None,
            bytes: 0,
            settled: false,
        }
    }

    /// The next piece waits. Until when it is worth waiting.
    fn wait(&mut self, now: Instant) -> Instant {
        let since = *self.since.get_or_insert(now);
        since + self.patience
    }

    /// A piece is taken.
    fn took(&mut self, bytes: u64, now: Instant) {
        if let Some(since) = self.since.take() {
            let waited = now.saturating_duration_since(since);
            self.waited += waited;
            let earned = Duration::from_secs_f64(bytes as f64 / BYTES_A_SECOND as f64);
            self.patience = (self.patience.saturating_sub(waited) + earned).min(self.patience_max);
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// How many bytes are taken in a second of waiting for that, if it has been seen for long enough and still matters.
    fn speed(&self, now: Instant) -> Option<u64> {
        if self.settled {
            return None;
        }
        let waiting = self
            .since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let waited = self.waited + waiting;
        (waited >= KNOWN).then(|| self.bytes / waited.as_secs())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Sound after any step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    impl Places {
        /// As if nothing had come of any of them for long enough to be known.
        pub(crate) fn slow_down(&self) {
            for taken in &*lock(&self.0) {
                let mut pace = lock(&taken.pace);
                (pace.bytes, pace.waited) = (0, 2 * KNOWN);
            }
        }

        /// How many are taken.
        pub(crate) fn taken(&self) -> usize {
            lock(&self.0).len()
        }
    }

    impl Place {
        /// Whether another one has it.
        pub(crate) fn is_lost(&self) -> bool {
            self.taken.kept.1.is_closed()
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::poll_once;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// As if so much had been taken in so long.
    fn taken_so_far(place: &Place, bytes: u64, waited: Duration) {
        let mut pace = lock(&place.taken.pace);
        pace.bytes = bytes;
        pace.waited = waited;
    }

    #[test]
    fn waiting_uses_patience_up_and_what_is_taken_gives_it_back() {
        let start = Instant::now();
        let mut pace = Pace::new(60 * SECOND);
        assert_eq!(pace.wait(start), start + 60 * SECOND);
        assert_eq!(
            pace.wait(start + SECOND),
            start + 60 * SECOND,
            "it waits since then"
        );
        // 40 seconds, for which it gets back 10.
        let later = start + 40 * SECOND;
        pace.took(10 * BYTES_A_SECOND, later);
        assert_eq!(pace.wait(later), later + 30 * SECOND);
        // It never has more than at first.
        pace.took(1 << 40, later + SECOND);
        assert_eq!(pace.wait(later), later + 60 * SECOND);
        pace.took(0, later + 100 * SECOND);
        assert_eq!(pace.wait(later), later, "all of it is used up");
    }

    #[test]
    fn what_is_taken_without_a_wait_costs_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(SECOND);
        pace.took(7, start);
        pace.took(7, start + 100 * SECOND);
        assert_eq!(pace.wait(start), start + SECOND);
        assert_eq!((pace.bytes, pace.waited), (14, Duration::ZERO));
    }

    #[test]
    fn how_fast_one_is_is_known_after_a_while() {
        let start = Instant::now();
        let mut pace = Pace::new(60 * SECOND);
        pace.wait(start);
        pace.took(5000, start + 6 * SECOND);
        assert_eq!(pace.speed(start + 100 * SECOND), None, "nothing waits");
        pace.wait(start + 6 * SECOND);
        assert_eq!(pace.speed(start + 9 * SECOND), None);
        assert_eq!(pace.speed(start + 10 * SECOND), Some(500));
        assert_eq!(pace.speed(start + 20 * SECOND), Some(250));
    }

    #[test]
    fn only_the_slowest_gives_way_and_only_when_there_is_no_other_place() {
        let places = Arc::new(Places::default());
        let mut taken: Vec<_> = (0..PLACES).map(|_| places.begin().unwrap()).collect();
        assert!(places.begin().is_none(), "nothing is known of them");
        for place in &taken {
            taken_so_far(place, STEADY_BYTES_A_SECOND * 20, 20 * SECOND);
        }
        assert!(places.begin().is_none(), "all are fast enough");
        taken_so_far(&taken[1], 1000, 20 * SECOND);
        taken_so_far(&taken[2], 100, 20 * SECOND);
        let new = places.begin().unwrap();
        assert!(places.begin().is_some(), "the next one gives way");
        let (sender, receiver) = async_channel::bounded(1);
        sender.try_send(Bytes::new()).unwrap();
        let piece = || Bytes::from_static(b"piece");
        assert_eq!(taken[2].hand_over(piece(), &sender), Err(Lost::GaveWay));
        assert_eq!(taken[1].hand_over(piece(), &sender), Err(Lost::GaveWay));
        receiver.try_recv().unwrap();
        assert_eq!(new.hand_over(piece(), &sender), Ok(()));
        // Whoever has no place any more gives none back, and the others do.
        drop(taken.remove(2));
        assert_eq!(
            lock(&places.0).len(),
            PLACES - 1,
            "one was asked for in vain, or is gone"
        );
        drop(taken);
        drop(new);
        assert!(lock(&places.0).is_empty());
    }

    #[test]
    fn one_that_comes_slowly_gives_way_until_all_of_it_has_come() {
        let places = Arc::new(Places::default());
        let taken: Vec<_> = (0..PLACES).map(|_| places.begin().unwrap()).collect();
        let piece = || async { Ok::<_, ()>(Bytes::from_static(b"piece")) };
        let nothing = std::future::pending::<Result<Bytes, ()>>;
        let received = block_on(taken[0].receive(piece()));
        assert_eq!(received, Some(Ok(Bytes::from_static(b"piece"))));
        assert_eq!(lock(&taken[0].taken.pace).bytes, 5);
        places.slow_down();
        for place in &taken[1..] {
            assert!(place.keep());
        }
        {
            let mut waiting = std::pin::pin!(taken[0].receive(nothing()));
            assert!(block_on(poll_once(&mut waiting)).is_none());
            let new = places.begin().unwrap();
            assert_eq!(block_on(waiting), None, "it gives way while it waits");
            assert!(places.begin().is_none(), "nobody else does");
            drop(new);
        }
        assert_eq!(
            block_on(taken[0].receive(piece())),
            None,
            "and has no place any more"
        );
        assert!(!taken[0].keep());
        assert!(taken[1..].iter().all(Place::keep));
    }

    #[test]
    fn one_of_which_nothing_is_taken_is_given_up() {
        let places = Arc::new(Places::default());
        let place = places.begin().unwrap();
        lock(&place.taken.pace).patience = Duration::from_millis(1);
        let (sender, receiver) = async_channel::bounded(1);
        let piece = || Bytes::from_static(b"piece");
        assert_eq!(place.hand_over(piece(), &sender), Ok(()));
        assert_eq!(place.hand_over(piece(), &sender), Err(Lost::TooSlow));
        drop(receiver);
        assert_eq!(place.hand_over(piece(), &sender), Err(Lost::Gone));
    }
}
