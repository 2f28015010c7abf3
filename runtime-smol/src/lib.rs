//! Lictor's runtime on smol: one multi-thread executor for everything.
