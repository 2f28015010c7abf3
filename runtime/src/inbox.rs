//! The way into a machine: a bounded queue of requests, and a queue of completions that is served first.
//!
//! *Requests* come from outside (peers, clients) and there may be any number of them, so their queue is bounded and a
//! full one makes the sender wait or refuses. *Completions* are answers to what the machine itself asked for (a write
//! is durable, a call was answered). The machine bounds how many it has outstanding; making them wait, or losing
//! one, could stop it for good. They never wait and are never refused while the loop runs.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use event_listener::{Event, EventListener, Listener as _};

/// A channel into a driver loop, for up to `capacity` waiting requests; 0 counts as 1.
///
/// Its senders may be used from any thread, on or off an executor.
pub fn channel<I>(capacity: usize) -> (Inbox<I>, Completions<I>, Receiver<I>) {
    let queues = Queues {
        phase: Phase::Open,
        requests: VecDeque::new(),
        completions: VecDeque::new(),
        parked: None,
        inboxes: 1,
    };
    let shared = Arc::new(Shared {
        capacity: capacity.max(1),
        queues: Mutex::new(queues),
        room: Event::new(),
    });
    (
        Inbox {
            shared: Arc::clone(&shared),
        },
        Completions {
            shared: Arc::clone(&shared),
        },
        Receiver { shared },
    )
}

/// Sends requests. When the last clone is dropped the channel is closed.
pub struct Inbox<I> {
    shared: Arc<Shared<I>>,
}

impl<I> Inbox<I> {
    /// Queues `request` as soon as there is room. The requests of one sender are handled in the order sent.
    ///
    /// Dropping the future before it is ready drops the request unsent.
    ///
    /// # Errors
    ///
    /// Gives the request back if the channel is closed, or is closed while this waits.
    pub async fn send(&self, request: I) -> Result<(), Closed<I>> {
        let mut attempt = Attempt::new(request);
        loop {
            match attempt.make(&self.shared) {
                Tried::Done(result) => return result,
                Tried::Wait(room) => room.await,
            }
        }
    }

    /// As [`Inbox::send`], holding up the calling thread. Not for use inside a task.
    ///
    /// # Errors
    ///
    /// As [`Inbox::send`].
    pub fn send_blocking(&self, request: I) -> Result<(), Closed<I>> {
        let mut attempt = Attempt::new(request);
        loop {
            match attempt.make(&self.shared) {
                Tried::Done(result) => return result,
                Tried::Wait(room) => room.wait(),
            }
        }
    }

    /// Queues `request` if there is room now.
    ///
    /// # Errors
    ///
    /// Gives the request back if the queue is full or the channel closed.
    pub fn try_send(&self, request: I) -> Result<(), TrySendError<I>> {
        self.shared.try_send(request)
    }

    /// Takes no more requests. Those already queued are still handled; then the loop ends.
    pub fn close(&self) {
        self.shared.enter(Phase::Closing);
    }

    /// Ends the loop after its current turn. Requests and completions still queued are dropped.
    pub fn stop(&self) {
        self.shared.enter(Phase::Stopped);
    }

    /// Whether the channel takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().phase != Phase::Open
    }

    /// How many requests are waiting; at most [`Inbox::capacity`].
    pub fn len(&self) -> usize {
        self.shared.lock().requests.len()
    }

    /// Whether no request is waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many requests may wait.
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }
}

impl<I> Clone for Inbox<I> {
    fn clone(&self) -> Self {
        self.shared.lock().inboxes += 1;
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<I> Drop for Inbox<I> {
    fn drop(&mut self) {
        let last = {
            let mut queues = self.shared.lock();
            queues.inboxes -= 1;
            queues.inboxes == 0
        };
        if last {
            self.close();
        }
    }
}

impl<I> fmt::Debug for Inbox<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.describe("Inbox", f)
    }
}

/// Sends completions: answers that the machine waits for. Does not keep the channel open.
pub struct Completions<I> {
    shared: Arc<Shared<I>>,
}

impl<I> Completions<I> {
    /// Queues `completion` ahead of all requests and behind earlier completions. Never waits, never refuses while the
    /// loop runs.
    ///
    /// The queue has no bound of its own: push only what the machine asked for, one answer per question. Then it holds
    /// no more than the machine has outstanding.
    ///
    /// # Errors
    ///
    /// Gives the completion back if the loop has ended or was told to stop.
    pub fn push(&self, completion: I) -> Result<(), Closed<I>> {
        let parked = {
            let mut queues = self.shared.lock();
            match queues.phase {
                Phase::Open | Phase::Closing => {}
                Phase::Stopped | Phase::Gone => return Err(Closed(completion)),
            }
            queues.completions.push_back(completion);
            queues.parked.take()
        };
        wake(parked);
        Ok(())
    }
}

impl<I> Clone for Completions<I> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<I> fmt::Debug for Completions<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.describe("Completions", f)
    }
}

/// The loop's end of the channel. Dropping it drops what is queued and gives every waiting sender its request back.
pub struct Receiver<I> {
    shared: Arc<Shared<I>>,
}

/// What [`Receiver::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// At least one input.
    Inputs,
    /// The channel is closed and every request has been taken.
    Closed,
    /// A stop was asked for; what is still queued is not given out.
    Stopped,
}

impl<I> Receiver<I> {
    /// Waits for inputs, and appends up to `limit` of them (0 counts as 1) to `into`: first completions, then
    /// requests, each in the order queued. Takes as many as there are at once, under one lock.
    ///
    /// Dropping the future before it is ready loses nothing.
    pub async fn take(&mut self, into: &mut Vec<I>, limit: usize) -> Taken {
        poll_fn(|cx| self.poll_take(cx, into, limit)).await
    }

    /// As [`Receiver::take`], in the form of a poll.
    pub fn poll_take(&mut self, cx: &mut Context<'_>, into: &mut Vec<I>, limit: usize) -> Poll<Taken> {
        let limit = limit.max(1);
        let freed = {
            let mut queues = self.shared.lock();
            if queues.phase == Phase::Stopped {
                return Poll::Ready(Taken::Stopped);
            }
            let completions = queues.completions.len().min(limit);
            let requests = queues.requests.len().min(limit - completions);
            if completions + requests == 0 {
                if queues.phase != Phase::Open {
                    return Poll::Ready(Taken::Closed);
                }
                queues.parked = Some(cx.waker().clone());
                return Poll::Pending;
            }
            into.extend(queues.completions.drain(..completions));
            into.extend(queues.requests.drain(..requests));
            requests
        };
        if freed > 0 {
            self.shared.room.notify_additional(freed);
        }
        Poll::Ready(Taken::Inputs)
    }
}

impl<I> Drop for Receiver<I> {
    fn drop(&mut self) {
        self.shared.enter(Phase::Gone);
    }
}

impl<I> fmt::Debug for Receiver<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.describe("Receiver", f)
    }
}

/// The loop takes no more inputs; here is the one that it did not take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<I>(pub I);

impl<I> fmt::Debug for Closed<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed(..)")
    }
}

impl<I> fmt::Display for Closed<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the loop that would handle this has ended")
    }
}

impl<I> std::error::Error for Closed<I> {}

/// Why a request was not queued; holds the request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<I> {
    /// The queue is full. It may have room later.
    Full(I),
    /// The loop takes no more inputs.
    Closed(I),
}

impl<I> fmt::Debug for TrySendError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<I> fmt::Display for TrySendError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "too many requests are waiting already",
            Self::Closed(_) => "the loop that would handle this has ended",
        })
    }
}

impl<I> std::error::Error for TrySendError<I> {}

struct Shared<I> {
    capacity: usize,
    queues: Mutex<Queues<I>>,
    /// Notified once per request that leaves a queue, and of every change of phase.
    room: Event,
}

struct Queues<I> {
    phase: Phase,
    requests: VecDeque<I>,
    completions: VecDeque<I>,
    /// Who to wake when something is queued; present only while the receiver waits.
    parked: Option<Waker>,
    inboxes: usize,
}

/// How far the channel is on its way to its end. It only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Closing,
    Stopped,
    Gone,
}

impl<I> Shared<I> {
    /// No foreign code runs under the lock, so a poisoned one still guards sound queues.
    fn lock(&self) -> MutexGuard<'_, Queues<I>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_send(&self, request: I) -> Result<(), TrySendError<I>> {
        let parked = {
            let mut queues = self.lock();
            if queues.phase != Phase::Open {
                return Err(TrySendError::Closed(request));
            }
            if queues.requests.len() >= self.capacity {
                return Err(TrySendError::Full(request));
            }
            queues.requests.push_back(request);
            queues.parked.take()
        };
        wake(parked);
        Ok(())
    }

    fn enter(&self, phase: Phase) {
        // What is dropped may own senders of this very channel, so it outlives the lock.
        let (parked, _dropped) = {
            let mut queues = self.lock();
            if queues.phase >= phase {
                return;
            }
            queues.phase = phase;
            let dropped = match phase {
                Phase::Open | Phase::Closing => None,
                Phase::Stopped | Phase::Gone => Some((
                    mem::take(&mut queues.requests),
                    mem::take(&mut queues.completions),
                )),
            };
            (queues.parked.take(), dropped)
        };
        wake(parked);
        self.room.notify(usize::MAX);
    }

    fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queues = self.lock();
        f.debug_struct(name)
            .field("phase", &queues.phase)
            .field("requests", &queues.requests.len())
            .field("completions", &queues.completions.len())
            .field("capacity", &self.capacity)
            .finish()
    }
}

fn wake(parked: Option<Waker>) {
    if let Some(waker) = parked {
        waker.wake();
    }
}

/// A request on its way into a queue that may be full.
struct Attempt<I> {
    /// `None` once it is queued or given back.
    request: Option<I>,
    room: Option<EventListener>,
}

enum Tried<I> {
    Done(Result<(), Closed<I>>),
    /// Try again after this.
    Wait(EventListener),
}

impl<I> Attempt<I> {
    fn new(request: I) -> Self {
        Self {
            request: Some(request),
            room: None,
        }
    }

    fn make(&mut self, shared: &Shared<I>) -> Tried<I> {
        loop {
            let request = self
                .request
                .take()
                .expect("an attempt that is done is not made again");
            match shared.try_send(request) {
                Ok(()) => return Tried::Done(Ok(())),
                Err(TrySendError::Closed(request)) => return Tried::Done(Err(Closed(request))),
                Err(TrySendError::Full(request)) => self.request = Some(request),
            }
            // Room that comes between a look and the start of listening would go unnoticed: look again.
            match self.room.take() {
                Some(room) => return Tried::Wait(room),
                None => self.room = Some(shared.room.listen()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
