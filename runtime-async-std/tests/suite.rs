//! The behaviour that every executor must show, and what is particular to this one.

lictor_runtime::suite!(lictor_runtime_async_std::runtime());

#[test]
fn tasks_run_inside_async_std() {
    let runtime = lictor_runtime_async_std::runtime();
    assert_eq!(runtime.name(), "async-std");
    // async-std knows its own tasks, and only those.
    let inside = runtime.block_on(runtime.spawn(async { async_std::task::try_current().is_some() }));
    assert!(inside);
}
