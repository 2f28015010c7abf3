//! Lictor's runtime on async-std, for programs that run on it already.

#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::Pin;

use async_std::task;
use lictor_runtime::{Executor, Runtime};

/// async-std's global executor. `ASYNC_STD_THREAD_COUNT` sets how many threads it has.
pub fn runtime() -> Runtime {
    Runtime::new(AsyncStd)
}

#[derive(Debug)]
struct AsyncStd;

impl Executor for AsyncStd {
    fn name(&self) -> &'static str {
        "async-std"
    }

    fn spawn_detached(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        // Dropping async-std's handle detaches the task.
        drop(task::spawn(future));
    }

    fn block_on(&self, future: Pin<&mut dyn Future<Output = ()>>) {
        task::block_on(future);
    }
}
