//! The driver loop, over a toy machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::future::yield_now;
use lictor_machine::{Instant, Machine as _, Now};

use super::toy::{Broken, Effect, Input, Letter, Outbox, Record, Reject, Toy, untagged};
use super::{run, until};
use crate::clock::{Clock, SystemClock};
use crate::driver::{Ended, Envelope, Limits, drive};
use crate::executor::Runtime;
use crate::inbox::{Completions, Inbox, Receiver, Taken, channel};
use crate::task::Task;

/// A machine that is being driven.
struct Driven {
    inbox: Inbox<Letter>,
    completions: Completions<Letter>,
    record: Record,
    task: Task<Result<Ended, Broken>>,
}

/// How a case wants its machine driven.
struct Setup<C> {
    machine: Toy,
    outbox: Outbox,
    clock: C,
    limits: Limits,
    capacity: usize,
}

impl Setup<SystemClock> {
    fn plain() -> Self {
        Self {
            machine: Toy::default(),
            outbox: Outbox::default(),
            clock: SystemClock,
            limits: Limits::default(),
            capacity: 64,
        }
    }
}

impl<C: Clock + Send + Sync + 'static> Setup<C> {
    fn start(self, runtime: &Runtime) -> Driven {
        let capacity = self.capacity;
        self.start_on(runtime, channel(capacity))
    }

    fn start_on(
        self,
        runtime: &Runtime,
        (inbox, completions, mut receiver): (Inbox<Letter>, Completions<Letter>, Receiver<Letter>),
    ) -> Driven {
        let Self {
            mut machine,
            mut outbox,
            clock,
            limits,
            capacity: _,
        } = self;
        let record = outbox.record.clone();
        let task = runtime.spawn(async move {
            match drive(&mut machine, &mut receiver, &clock, &mut outbox, limits).await {
                Ok(ended) => {
                    assert_eq!(
                        machine.poll_effect(),
                        None,
                        "a loop that ends in peace leaves no effect behind"
                    );
                    Ok(ended)
                }
                Err(Broken) => Err(Broken),
            }
        });
        Driven {
            inbox,
            completions,
            record,
            task,
        }
    }
}

/// Queues of one and of two in a row, senders on tasks and on threads: nothing is lost, and each sender's inputs come
/// out in the order sent.
pub fn no_input_is_lost_when_every_queue_is_full(runtime: &Runtime) {
    const SENDERS: u64 = 8;
    const EACH: u64 = 500;
    const STRIDE: u64 = 1_000_000;
    let (downstream, _unused, mut words) = channel(1);
    let outbox = Outbox::passing_on(downstream);
    let limits = Limits {
        inputs: 3,
        effects: 2,
    };
    let driven = Setup {
        outbox,
        limits,
        capacity: 2,
        ..Setup::plain()
    }
    .start(runtime);

    let mut threads = Vec::new();
    for sender in 0..SENDERS {
        let inbox = driven.inbox.clone();
        let inputs = (0..EACH).map(move |n| untagged(Input::Say(sender * STRIDE + n)));
        if sender % 2 == 0 {
            threads.push(thread::spawn(move || {
                for input in inputs {
                    inbox.send_blocking(input).expect("the loop runs");
                }
            }));
        } else {
            let sending = async move {
                for input in inputs {
                    inbox.send(input).await.expect("the loop runs");
                }
            };
            runtime.spawn(sending).detach();
        }
    }
    drop(driven.inbox);

    let received = run(runtime, async {
        let mut received = Vec::new();
        while words.take(&mut received, 5).await == Taken::Inputs {
            yield_now().await;
        }
        assert_eq!(driven.task.await, Ok(Ended::Closed));
        received
    });
    for thread in threads {
        thread.join().expect("a sender panicked");
    }
    assert_eq!(received.len() as u64, SENDERS * EACH);
    for sender in 0..SENDERS {
        let of_sender: Vec<u64> = received
            .iter()
            .copied()
            .filter(|word| word / STRIDE == sender)
            .collect();
        assert!(
            of_sender
                .iter()
                .copied()
                .eq((0..EACH).map(|n| sender * STRIDE + n)),
            "sender {sender}"
        );
    }
    assert_eq!(driven.record.said(), received);
}

/// One sender's inputs are handled in order, and each is reported as accepted.
pub fn inputs_keep_their_order(runtime: &Runtime) {
    let driven = Setup {
        capacity: 16,
        ..Setup::plain()
    }
    .start(runtime);
    run(runtime, async {
        for n in 0..1000 {
            driven
                .inbox
                .send(Envelope {
                    input: Input::Say(n),
                    tag: n,
                })
                .await
                .expect("the loop runs");
        }
        drop(driven.inbox);
        assert_eq!(driven.task.await, Ok(Ended::Closed));
    });
    let expected: Vec<u64> = (0..1000).collect();
    assert_eq!(driven.record.said(), expected);
    assert_eq!(driven.record.lock().accepted, expected);
}

/// What the machine waits for overtakes what others want of it.
pub fn completions_come_before_requests(runtime: &Runtime) {
    let ends = channel(8);
    for n in 0..3 {
        ends.0.try_send(untagged(Input::Say(n))).expect("there is room");
    }
    for n in 10..13 {
        ends.1.push(untagged(Input::Say(n))).expect("the channel is open");
    }
    let driven = Setup::plain().start_on(runtime, ends);
    driven.inbox.close();
    assert_eq!(run(runtime, driven.task), Ok(Ended::Closed));
    assert_eq!(driven.record.said(), [10, 11, 12, 0, 1, 2]);
}

/// A refusal is told with the tag of its input; its neighbours are handled.
pub fn refused_inputs_are_reported_with_their_tags(runtime: &Runtime) {
    let driven = Setup::plain().start(runtime);
    run(runtime, async {
        for (tag, input) in [(1, Input::Say(10)), (2, Input::Refuse(20)), (3, Input::Say(30))] {
            driven
                .inbox
                .send(Envelope { input, tag })
                .await
                .expect("the loop runs");
        }
        drop(driven.inbox);
        assert_eq!(driven.task.await, Ok(Ended::Closed));
    });
    let seen = driven.record.lock();
    assert_eq!(seen.rejected, [(2, Reject::Refused(20))]);
    assert_eq!(seen.accepted, [1, 3]);
    assert_eq!(seen.effects, [Effect::Said(10), Effect::Said(30)]);
}

/// What a machine has to say when it is made does not wait for a first input.
pub fn effects_of_the_start_need_no_input(runtime: &Runtime) {
    let driven = Setup {
        machine: Toy::that_says([1, 2]),
        ..Setup::plain()
    }
    .start(runtime);
    run(runtime, until(runtime, || driven.record.said() == [1, 2]));
}

/// An idle machine is woken by its deadline alone, not before it.
pub fn a_deadline_needs_no_input(runtime: &Runtime) {
    let driven = Setup::plain().start(runtime);
    run(runtime, async {
        driven
            .inbox
            .send(untagged(Input::Ring(Duration::from_millis(20))))
            .await
            .expect("the loop runs");
        until(runtime, || driven.record.rang().is_some()).await;
    });
    let (due, now) = driven.record.rang().expect("it rang");
    assert!(now >= due);
}

/// A loop that never runs out of inputs looks at the clock all the same.
pub fn a_deadline_is_met_although_inputs_pour_in(runtime: &Runtime) {
    let ends = channel(8);
    let outbox = Outbox::echoing(ends.1.clone());
    let driven = Setup {
        outbox,
        ..Setup::plain()
    }
    .start_on(runtime, ends);
    run(runtime, async {
        // From the first word on there is always an input waiting: the answer to the last one.
        driven
            .completions
            .push(untagged(Input::Say(0)))
            .expect("the loop runs");
        driven
            .inbox
            .send(untagged(Input::Ring(Duration::from_millis(20))))
            .await
            .expect("the loop runs");
        until(runtime, || driven.record.rang().is_some()).await;
    });
}

/// An alarm that is set earlier rings earlier.
pub fn a_deadline_may_move_to_earlier(runtime: &Runtime) {
    let driven = Setup::plain().start(runtime);
    run(runtime, async {
        for delay in [
            Duration::from_hours(1),
            Duration::from_mins(30),
            Duration::from_millis(5),
        ] {
            driven
                .inbox
                .send(untagged(Input::Ring(delay)))
                .await
                .expect("the loop runs");
            let sent = driven.record.clone();
            until(runtime, || driven.inbox.is_empty() && sent.lock().flushes > 0).await;
        }
        until(runtime, || driven.record.rang().is_some()).await;
    });
}

/// While the driver's clock stands still nothing is due, whatever the reactor's timer says; and when it jumps ahead, as
/// after a suspension, everything that was passed over is due soon, whatever the timer says.
pub fn the_clock_and_not_the_timer_decides(runtime: &Runtime) {
    let clock = Arc::new(StandingClock::default());
    let driven = {
        let Setup {
            machine,
            outbox,
            clock: _,
            limits,
            capacity,
        } = Setup::plain();
        Setup {
            machine,
            outbox,
            clock: Arc::clone(&clock),
            limits,
            capacity,
        }
        .start(runtime)
    };
    run(runtime, async {
        driven
            .inbox
            .send(untagged(Input::Ring(Duration::from_millis(1))))
            .await
            .expect("the loop runs");
        until(runtime, || driven.record.lock().accepted.len() == 1).await;
        // Each time the timer fires, the loop looks at the clock again.
        let looked = clock.looks.load(Ordering::SeqCst);
        until(runtime, || clock.looks.load(Ordering::SeqCst) >= looked + 10).await;
        assert_eq!(driven.record.rang(), None, "the clock did not move");

        clock.jump(Duration::from_millis(1));
        until(runtime, || driven.record.rang().is_some()).await;

        let hours = Duration::from_hours(2);
        driven.record.lock().effects.clear();
        driven
            .inbox
            .send(untagged(Input::Ring(hours)))
            .await
            .expect("the loop runs");
        until(runtime, || driven.record.lock().accepted.len() == 2).await;
        clock.jump(hours);
        until(runtime, || driven.record.rang().is_some()).await;
    });
}

/// However few effects a turn may drain, all of them come, in order, with no further input.
pub fn a_small_budget_leaves_nothing_behind(runtime: &Runtime) {
    for effects in [0, 1, 7, 1000] {
        let driven = Setup {
            limits: Limits { inputs: 1, effects },
            ..Setup::plain()
        }
        .start(runtime);
        run(runtime, async {
            driven
                .inbox
                .send(untagged(Input::Count(1000)))
                .await
                .expect("the loop runs");
            until(runtime, || driven.record.lock().effects.len() == 1000).await;
        });
        assert!(driven.record.said().into_iter().eq(0..1000));
        assert!(driven.record.lock().largest_turn <= effects.max(1));
    }
}

/// A fault ends the loop; what came before it in earlier turns is flushed, what comes after it is refused.
pub fn a_fault_ends_the_loop_and_is_returned(runtime: &Runtime) {
    let ends = channel(8);
    for (tag, input) in [(1, Input::Break), (2, Input::Say(2))] {
        ends.0.try_send(Envelope { input, tag }).expect("there is room");
    }
    let driven = Setup {
        machine: Toy::that_says([7]),
        ..Setup::plain()
    }
    .start_on(runtime, ends);
    assert_eq!(run(runtime, driven.task), Err(Broken));
    assert_eq!(driven.record.said(), [7]);
    assert_eq!(driven.record.lock().rejected, [(2, Reject::AlreadyBroken)]);
    assert!(driven.inbox.is_closed());
}

/// Closing is gentle: what was sent before it is handled.
pub fn closing_handles_what_is_queued(runtime: &Runtime) {
    let ends = channel(100);
    for n in 0..100 {
        ends.0.try_send(untagged(Input::Say(n))).expect("there is room");
    }
    ends.0.close();
    let limits = Limits {
        inputs: 3,
        effects: 2,
    };
    let driven = Setup {
        limits,
        ..Setup::plain()
    }
    .start_on(runtime, ends);
    assert_eq!(run(runtime, driven.task), Ok(Ended::Closed));
    assert!(driven.record.said().into_iter().eq(0..100));
}

/// A stop comes through although inputs pour in without end; the effects of the turn it interrupts are not lost.
pub fn a_stop_ends_the_loop_within_a_turn(runtime: &Runtime) {
    let driven = Setup {
        limits: Limits {
            inputs: 2,
            effects: 1,
        },
        ..Setup::plain()
    }
    .start(runtime);
    let inbox = driven.inbox.clone();
    let flood = runtime.spawn(async move { while inbox.send(untagged(Input::Count(3))).await.is_ok() {} });
    run(runtime, async {
        until(runtime, || driven.record.lock().accepted.len() > 10).await;
        driven.inbox.stop();
        assert_eq!(driven.task.await, Ok(Ended::Stopped));
        flood.await;
    });
    let accepted = driven.record.lock().accepted.len();
    assert_eq!(driven.record.said().len(), 3 * accepted);
}

/// A loop that always has work lets the executor's other tasks run: more such loops than threads do not starve them.
pub fn other_tasks_run_while_inputs_pour_in(runtime: &Runtime) {
    let loops: Vec<Driven> = (0..16)
        .map(|_| {
            let ends = channel(8);
            let outbox = Outbox::echoing(ends.1.clone());
            ends.1.push(untagged(Input::Say(0))).expect("the channel is open");
            Setup {
                outbox,
                ..Setup::plain()
            }
            .start_on(runtime, ends)
        })
        .collect();
    run(runtime, async {
        let ran = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ran);
        runtime
            .spawn(async move { flag.store(true, Ordering::SeqCst) })
            .await;
        assert!(ran.load(Ordering::SeqCst));
        for driven in loops {
            assert_eq!(driven.task.cancel().await, None);
        }
    });
}

/// Moves only when told to, and counts who looks.
#[derive(Debug, Default)]
struct StandingClock {
    nanos: AtomicU64,
    looks: AtomicU64,
}

impl StandingClock {
    fn jump(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).expect("the cases jump by hours at most");
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Now {
        self.looks.fetch_add(1, Ordering::SeqCst);
        Now::at(Instant::from_nanos(self.nanos.load(Ordering::SeqCst)))
    }
}
