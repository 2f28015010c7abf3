//! How many files and connections the process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Allows as many as the process may allow itself. What is usual is a thousand, and a server has a connection for each who waits for a
/// change.
pub(crate) fn allow_all() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as low as it is");
    }
}
