//! The one loop that runs a machine.

use std::future::{Future, poll_fn, ready};
use std::task::Poll;

use futures_lite::future::yield_now;
use lictor_machine::{Machine, Now};

use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::inbox::{Receiver, Taken};

/// An input for a machine, and what the [`Outlet`] needs to answer for it: a token, the sender's reply channel, or
/// `()` for inputs that nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<I, T> {
    /// What the machine gets.
    pub input: I,
    /// What the outlet gets, once the machine has taken or refused the input.
    pub tag: T,
}

impl<I> From<I> for Envelope<I, ()> {
    fn from(input: I) -> Self {
        Self { input, tag: () }
    }
}

/// Where everything that leaves a machine goes. Its methods are called from the loop: only [`Outlet::flush`] may wait.
pub trait Outlet<M: Machine> {
    /// Identifies an input; see [`Envelope::tag`].
    type Tag;

    /// A turn begins, with this many inputs.
    fn turn_started(&mut self, now: Now, inputs: usize) {
        let _ = (now, inputs);
    }

    /// The machine took the input of `tag`. Comes before the effects that the input has.
    fn accepted(&mut self, tag: Self::Tag) {
        drop(tag);
    }

    /// The machine refused the input of `tag`; its state is unchanged.
    fn rejected(&mut self, tag: Self::Tag, reject: M::Reject);

    /// The machine wants something done. Cheap: work that is slow, or that pays in bulk, is gathered here and
    /// handed on in `flush`.
    fn effect(&mut self, effect: M::Effect);

    /// The turn's effects have all been seen, and `flush` is next. The place to publish what `machine` looks like now.
    fn turn_ended(&mut self, machine: &M) {
        let _ = machine;
    }

    /// Hands on what the turn has gathered, waiting for room where there is none. While it waits the machine takes
    /// no inputs, so senders come to wait too: that is the back-pressure. Must not wait for anything that needs the
    /// machine's next turn. Called at the end of every turn, also of an empty one.
    fn flush(&mut self) -> impl Future<Output = ()> + Send {
        ready(())
    }
}

/// How much one turn may do. 0 counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inputs taken in one turn, at most. More of them share one flush; fewer look at the deadline more often.
    pub inputs: usize,
    /// Effects drained in one turn, at most. What remains comes in the next turns, ahead of new inputs.
    pub effects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inputs: 256,
            effects: 1024,
        }
    }
}

/// Why a loop ended while its machine was sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The inbox was closed, or its last sender dropped, and every request has been handled.
    Closed,
    /// [`Inbox::stop`](crate::Inbox::stop) was called.
    Stopped,
}

/// Runs `machine` in turns until its inputs end, a stop is asked for, or it fails.
///
/// A turn takes the inputs that wait, hands each to the machine, services deadlines by `clock`, drains effects into
/// `outlet`, and flushes it. The first turn comes at once: a machine may have effects from its start. A turn always
/// looks at the deadline, whatever woke it. Every effect of a turn that was begun reaches the outlet, also before a stop.
///
/// Dropping the future ends the loop at once; what the outlet has gathered and not flushed stays with it.
///
/// # Errors
///
/// The machine's fault, once what it emitted before is flushed.
pub async fn drive<'m, M, O, C>(
    machine: &'m mut M,
    inputs: &mut Receiver<Envelope<M::Input, O::Tag>>,
    clock: &C,
    outlet: &mut O,
    limits: Limits,
) -> Result<Ended, &'m M::Fault>
where
    M: Machine,
    O: Outlet<M>,
    C: Clock + ?Sized,
{
    let mut alarm = Alarm::new();
    let mut batch = Vec::new();
    let mut more_effects = true;
    while machine.fault().is_none() {
        let mut waited = false;
        if !more_effects {
            let deadline = machine.poll_timeout().map(|deadline| deadline.at);
            let woken = poll_fn(|cx| {
                let woken = match inputs.poll_take(cx, &mut batch, limits.inputs) {
                    Poll::Ready(taken) => Poll::Ready(taken),
                    // A deadline alone makes a turn without inputs.
                    Poll::Pending => alarm.poll_due(cx, clock, deadline).map(|()| Taken::Inputs),
                };
                waited |= woken.is_pending();
                woken
            });
            match woken.await {
                Taken::Inputs => {}
                Taken::Closed => return Ok(Ended::Closed),
                Taken::Stopped => return Ok(Ended::Stopped),
            }
        }

        let now = clock.now();
        outlet.turn_started(now, batch.len());
        for Envelope { input, tag } in batch.drain(..) {
            match machine.handle(now, input) {
                Ok(()) => outlet.accepted(tag),
                Err(reject) => outlet.rejected(tag, reject),
            }
        }
        machine.handle_timeout(clock.now());
        more_effects = drain(machine, outlet, limits.effects.max(1));
        outlet.turn_ended(machine);
        outlet.flush().await;

        // Under load there is always another input, and the executor has other tasks.
        if !waited {
            yield_now().await;
        }
    }
    Err(machine
        .fault()
        .expect("only a fault ends the loop without returning"))
}

/// Whether the budget ran out before the effects did.
fn drain<M: Machine, O: Outlet<M>>(machine: &mut M, outlet: &mut O, budget: usize) -> bool {
    for _ in 0..budget {
        match machine.poll_effect() {
            Some(effect) => outlet.effect(effect),
            None => return false,
        }
    }
    true
}
