//! Drives a machine on an executor of one's own.
//!
//! The executor is the one in `executor.rs`: two threads and a queue, which Lictor knows nothing of. The machine is a
//! rate limiter: it grants ten permits every twenty milliseconds, keeps thirty requests waiting, and refuses more. Any
//! other [`Machine`], such as Raft, is driven the same way.
//!
//! ```text
//! cargo run -p lictor-runtime --example own_executor
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::VecDeque;
use std::time::Duration;

use async_channel::Sender;
use lictor_machine::{Deadline, Instant, Machine, Now};
use lictor_runtime::{Ended, Envelope, Limits, Outlet, Runtime, SystemClock, channel, drive};

use self::executor::Pool;

mod executor;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::new(Pool::new(2)?);
    let (inbox, _completions, mut receiver) = channel(64);

    let limiter = runtime.spawn(async move {
        let (mut machine, mut answers) = (Limiter::default(), Answers::default());
        match drive(
            &mut machine,
            &mut receiver,
            &SystemClock,
            &mut answers,
            Limits::default(),
        )
        .await
        {
            Ok(ended) => (ended, answers),
            Err(&never) => match never {},
        }
    });

    let clients: Vec<_> = (0..50)
        .map(|number| {
            let inbox = inbox.clone();
            runtime.spawn(async move {
                let (tag, answer) = async_channel::bounded(1);
                inbox
                    .send(Envelope {
                        input: Ask(number),
                        tag,
                    })
                    .await?;
                Ok::<bool, Box<dyn std::error::Error + Send + Sync>>(answer.recv().await?)
            })
        })
        .collect();
    // The clients have clones; when the last is done, the loop ends.
    drop(inbox);

    runtime.block_on(async {
        let (mut granted, mut refused) = (0, 0);
        for client in clients {
            match client.await {
                Ok(true) => granted += 1,
                Ok(false) => refused += 1,
                Err(error) => return Err(error.to_string().into()),
            }
        }
        let (ended, answers) = limiter.await;
        println!(
            "on the executor {:?}: {granted} granted, {refused} refused",
            runtime.name()
        );
        println!("the loop ended ({ended:?}) after {} turns", answers.turns);
        assert_eq!(ended, Ended::Closed);
        Ok(())
    })
}

/// One request for a permit.
struct Ask(u64);

/// The effect: this request may go ahead.
struct Grant(u64);

/// The refusal: too many wait already.
struct Busy;

#[derive(Clone, Copy, Debug)]
enum Never {}

/// The state machine: no clock, no channel, no lock.
#[derive(Default)]
struct Limiter {
    granted: VecDeque<u64>,
    waiting: VecDeque<u64>,
    used: usize,
    /// When the permits used since the last refill are given back. `None`: none was used.
    refill: Option<Instant>,
}

impl Limiter {
    const PERMITS: usize = 10;
    const WAITING: usize = 30;
    const PERIOD: Duration = Duration::from_millis(20);

    fn grant(&mut self, now: Now, request: u64) {
        self.used += 1;
        self.granted.push_back(request);
        self.refill.get_or_insert(now.mono + Self::PERIOD);
    }
}

impl Machine for Limiter {
    type Input = Ask;
    type Effect = Grant;
    type Reject = Busy;
    type Timer = &'static str;
    type Fault = Never;

    fn handle(&mut self, now: Now, Ask(request): Ask) -> Result<(), Busy> {
        if self.used < Self::PERMITS {
            self.grant(now, request);
        } else if self.waiting.len() < Self::WAITING {
            self.waiting.push_back(request);
        } else {
            return Err(Busy);
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.refill.take_if(|at| *at <= now.mono).is_some() {
            self.used = 0;
            while self.used < Self::PERMITS
                && let Some(request) = self.waiting.pop_front()
            {
                self.grant(now, request);
            }
        }
    }

    fn poll_effect(&mut self) -> Option<Grant> {
        self.granted.pop_front().map(Grant)
    }

    fn poll_timeout(&self) -> Option<Deadline<&'static str>> {
        self.refill.map(|at| Deadline { at, reason: "refill" })
    }

    fn fault(&self) -> Option<&Never> {
        None
    }
}

/// Tells each client what came of its request. The tag of an input is the client's reply channel.
#[derive(Default)]
struct Answers {
    /// The replies of requests that the machine has taken, in the order taken, which is the order granted.
    open: VecDeque<Sender<bool>>,
    turns: u64,
}

impl Answers {
    fn answer(client: Sender<bool>, granted: bool) {
        if client.try_send(granted).is_err() {
            println!("a client did not wait for its answer");
        }
    }
}

impl Outlet<Limiter> for Answers {
    type Tag = Sender<bool>;

    fn accepted(&mut self, client: Self::Tag) {
        self.open.push_back(client);
    }

    fn rejected(&mut self, client: Self::Tag, _busy: Busy) {
        Self::answer(client, false);
    }

    fn effect(&mut self, Grant(_request): Grant) {
        if let Some(client) = self.open.pop_front() {
            Self::answer(client, true);
        }
    }

    fn turn_ended(&mut self, _limiter: &Limiter) {
        self.turns += 1;
    }
}
