//! The behaviour that every executor must show.

lictor_runtime::suite!(lictor_runtime_async_std::runtime());
