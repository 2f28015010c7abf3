//! Work that would hold a thread of the executor for too long.

use async_lock::Semaphore;

/// Work on this many bytes, or more, is done elsewhere. Encoding and compressing them takes some milliseconds; moving the work takes
/// some microseconds.
const MUCH_BYTES: usize = 256 << 10;

/// How much work is done elsewhere at the same time. Every piece more would take a processor's time from all others.
static TURNS: Semaphore = Semaphore::new(2);

/// Does `work`, which is on about `bytes` bytes: a little of it here, much of it on a thread for such work, while this task waits. The
/// executor's threads also carry the heartbeats that keep a leader in office.
pub async fn offload<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes < MUCH_BYTES {
        return work();
    }
    let _turn = TURNS.acquire().await;
    blocking::unblock(work).await
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use futures_lite::future::block_on;

    use super::*;

    fn worker(bytes: usize) -> ThreadId {
        block_on(offload(bytes, || thread::current().id()))
    }

    #[test]
    fn only_much_work_is_done_elsewhere() {
        let here = thread::current().id();
        assert_eq!(worker(MUCH_BYTES - 1), here);
        assert_ne!(worker(MUCH_BYTES), here);
    }
}
