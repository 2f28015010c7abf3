//! The executor seam: a small runtime trait and the one driver loop over a machine.
//!
//! [`Runtime`] is what the rest of Lictor asks of an executor: spawn, sleep, block on. Anything that can poll a
//! future to its end can be one ([`Executor`]); sockets and timers come from async-io, whose one reactor thread
//! serves every executor alike.
//!
//! A protocol core is run by [`drive`], which is written once for every [`Machine`](lictor_machine::Machine): inputs
//! reach it through a bounded [`channel`], effects leave it through an [`Outlet`], and time is what its [`Clock`]
//! says.
//!
//! This crate knows nothing of any protocol, and of no executor by name.

#![forbid(unsafe_code)]

mod alarm;
mod clock;
mod driver;
mod executor;
mod inbox;
#[cfg(feature = "suite")]
pub mod suite;
mod task;

pub use clock::{Clock, SystemClock};
pub use driver::{Ended, Envelope, Limits, Outlet, drive};
pub use executor::{Executor, Runtime, Sleep};
pub use inbox::{Closed, Completions, Inbox, Receiver, Taken, TrySendError, channel};
pub use task::Task;
