//! The behaviour that every executor must show, as tests that an adapter runs on itself.
//!
//! ```text
//! lictor_runtime::suite!(lictor_runtime_smol::runtime());
//! ```
//!
//! expands to one `#[test]` per case. A case panics if the executor does not behave, and no later than a minute after
//! its start.

mod driver;
mod tasks;
mod toy;

use std::future::Future;
use std::time::Duration;

use futures_lite::FutureExt as _;

pub use driver::*;
pub use tasks::*;

use crate::executor::Runtime;

/// Expands to the tests of the suite, each on the runtime that the expression yields.
#[macro_export]
macro_rules! suite {
    ($runtime:expr) => {
        $crate::suite!(@cases $runtime;
            spawn_and_join, a_detached_task_runs_on, a_dropped_task_is_cancelled,
            cancel_waits_until_the_future_is_dropped, cancel_returns_a_result_that_was_ready,
            a_panic_is_resumed_in_the_joiner, a_panic_is_logged_even_if_nobody_joins,
            a_panicking_destructor_is_a_panic_of_the_task, the_executor_survives_panics,
            tasks_spawn_tasks, tasks_run_in_parallel_with_block_on, block_on_returns_and_may_borrow,
            a_sleep_is_never_short, timers_fire_under_load,
            no_input_is_lost_when_every_queue_is_full, inputs_keep_their_order,
            completions_come_before_requests, refused_inputs_are_reported_with_their_tags,
            effects_of_the_start_need_no_input, a_deadline_needs_no_input, a_deadline_is_met_although_inputs_pour_in,
            a_deadline_may_move_to_earlier, the_clock_and_not_the_timer_decides, a_small_budget_leaves_nothing_behind,
            a_fault_ends_the_loop_and_is_returned, closing_handles_what_is_queued, a_stop_ends_the_loop_within_a_turn,
            other_tasks_run_while_inputs_pour_in,
        );
    };
    (@cases $runtime:expr; $($case:ident),+ $(,)?) => {
        $(
            #[test]
            fn $case() {
                $crate::suite::$case(&$runtime);
            }
        )+
    };
}

/// Longer than any case takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs `case`, and panics if it hangs.
fn run<T>(runtime: &Runtime, case: impl Future<Output = T>) -> T {
    runtime.block_on(patiently(runtime, case))
}

async fn patiently<T>(runtime: &Runtime, case: impl Future<Output = T>) -> T {
    let too_long = async {
        runtime.sleep(PATIENCE).await;
        panic!("still waiting after {PATIENCE:?}");
    };
    case.or(too_long).await
}

/// Lets other tasks run until `condition` holds.
async fn until(runtime: &Runtime, mut condition: impl FnMut() -> bool) {
    while !condition() {
        runtime.sleep(Duration::from_millis(1)).await;
    }
}
