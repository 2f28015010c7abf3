//! The suite on an executor that Lictor does not ship, to show that nothing leans on one of those it does.

use std::sync::LazyLock;

use lictor_runtime::Runtime;

#[path = "../examples/own_executor/executor.rs"]
mod executor;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new(executor::Pool::new(2).expect("threads can be started")));

lictor_runtime::suite!(*RUNTIME);
