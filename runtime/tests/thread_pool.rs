//! The suite on an executor that Lictor does not ship, to show that nothing leans on one of those it does.

use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;

use futures::executor::{ThreadPool, block_on};
use lictor_runtime::{Executor, Runtime};

#[derive(Debug)]
struct Pool(ThreadPool);

impl Executor for Pool {
    fn name(&self) -> &'static str {
        "futures"
    }

    fn spawn_detached(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn_ok(future);
    }

    fn block_on(&self, future: Pin<&mut dyn Future<Output = ()>>) {
        block_on(future);
    }
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new(Pool(ThreadPool::new().expect("threads can be started"))));

lictor_runtime::suite!(*RUNTIME);
