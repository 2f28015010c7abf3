//! Lictor's runtime on async-std.
