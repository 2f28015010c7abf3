//! What the hot paths cost.
fn main() {}
