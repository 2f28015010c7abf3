//! Sessions: what locks are held by, and what ends with the node or the checks that it depends on.
//!
//! A session with a TTL ends when it has not been renewed for long enough, and that is for the leader to say
//! ([`crate::Action::RunOut`]): here no time passes.

mod def;
mod id;
mod rows;
mod table;

pub use def::{
    Behavior, MAX_LOCK_DELAY, MAX_SESSION_CHECKS, MAX_SESSION_TTL, ServiceCheck, Session, SessionDef,
};
pub(crate) use id::SessionError;
pub use id::{MalformedSessionId, SessionId};
pub(crate) use rows::SessionParts;
pub(crate) use table::Sessions;
