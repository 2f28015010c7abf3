//! Lictor's log and state on LMDB.
