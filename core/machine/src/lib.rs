//! The contract that all of Lictor's protocol cores share.
//!
//! A core is a [`Machine`]: typed inputs go in, one ordered queue of owned effects comes out, and there is
//! one deadline. It opens no socket or file, spawns nothing, reads no clock and draws no unseeded randomness,
//! so any executor can drive it, and a test needs no network.
//!
//! A *turn* is: any number of [`Machine::handle`] calls, then [`Machine::poll_effect`] until it yields `None`,
//! then sleep until [`Machine::poll_timeout`]. A driver may stop a drain early for budget; nothing is lost.

#![forbid(unsafe_code)]

mod ids;
mod rng;
mod time;

pub use ids::{Index, NodeId, ParseIdError, Token};
pub use rng::Rng;
pub use time::{Clamped, Deadline, Instant, Now, UnixMillis};

/// A protocol core: a pure state machine.
///
/// Implementations also offer well-named inherent methods (`propose`, `join`); this trait exists so that the
/// driver, the simulator and trace recorders are written once.
pub trait Machine {
    /// What may happen to the machine.
    type Input;
    /// What the machine wants done. Owned: it may be moved to any task.
    type Effect;
    /// Why an input was refused. The state is unchanged by a refused input.
    type Reject;
    /// Why the machine wants to be woken; for logs and tests.
    type Timer: Copy + core::fmt::Debug;
    /// Why the machine stopped for good.
    type Fault;

    /// Applies one input. On `Err` the state is unchanged.
    fn handle(&mut self, now: Now, input: Self::Input) -> Result<(), Self::Reject>;

    /// Services every deadline that is not later than `now`. Calling it early, or twice, does nothing.
    fn handle_timeout(&mut self, now: Now);

    /// The next effect, in order. `None` means: nothing until the next input or deadline.
    #[must_use]
    fn poll_effect(&mut self) -> Option<Self::Effect>;

    /// The earliest deadline that [`Machine::handle_timeout`] will really service when it is due. O(1).
    #[must_use]
    fn poll_timeout(&self) -> Option<Deadline<Self::Timer>>;

    /// `Some` after a fail-stop. From then on `poll_effect` yields `None` and `handle` rejects.
    fn fault(&self) -> Option<&Self::Fault>;
}
