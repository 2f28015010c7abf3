//! The replicated state of a Lictor data center.
#![forbid(unsafe_code)]

mod command;
mod kv;
mod row;

pub use command::{
    Action, Command, Found, Key, KvPair, KvTxnOp, KvWrite, Outcome, Query, SessionRef, TxnError, TxnOp, TxnResult,
};
pub use kv::KvEntry;
pub use row::{Row, Table};
