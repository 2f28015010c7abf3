//! The behaviour that every executor must show, and what is particular to this one.

use std::thread;

lictor_runtime::suite!(lictor_runtime_smol::runtime());

#[test]
fn tasks_run_on_the_named_threads_of_one_pool() {
    let names: Vec<Option<String>> = (0..20)
        .map(|_| {
            let runtime = lictor_runtime_smol::runtime();
            assert_eq!(runtime.name(), "smol");
            runtime.block_on(runtime.spawn(async { thread::current().name().map(String::from) }))
        })
        .collect();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let expected: Vec<Option<String>> = (0..threads).map(|n| Some(format!("lictor-exec-{n}"))).collect();
    for name in names {
        assert!(expected.contains(&name), "{name:?}");
    }
}
