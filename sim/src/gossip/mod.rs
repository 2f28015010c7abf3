//! Pools of gossiping members in virtual time: from five of them under every fault, to ten thousand in calm.
//!
//! A run is made of a [seed](swarm) as elsewhere in the simulator. The [world](world::World) brings members, a [network](air::Air) and one
//! virtual time together, and knows the [truth](truth::Truth) about everybody; the [oracles] compare it with what each member sees, at each
//! transition; and at the end, in calm, everybody's view must come to be the truth. [`measure`] has the experiments whose numbers are stated in the
//! documentation.
//!
//! # Reading a failure
//!
//! Seats are printed as `m0`, `m1`...; the id of a member is the number of its seat plus one. `m0 -> m1` is a datagram, `m0 -x m1` a lost one,
//! `m0 => m1` one that arrived, `m0 calls m1` a stream. `m3 sees m7: Failed` is a transition. `--seed S --trace` prints the whole run.

pub mod air;
mod controls;
mod joining;
pub mod measure;
pub mod oracles;
pub mod run;
pub(crate) mod seat;
pub mod swarm;
pub mod tally;
pub mod trace;
mod traffic;
pub mod truth;
pub mod view;
pub mod world;

pub use controls::Keeps;
