//! Tasks, timers and random numbers of everything that the simulation runs: tokio's and the kernel's,
//! or, in the build with feature `sim`, those of a virtual member (docs/decisions/0014). The code above
//! is the same in both.

#[cfg(not(feature = "sim"))]
mod real;
#[cfg(feature = "sim")]
pub mod simulated;

#[cfg(not(feature = "sim"))]
pub use real::{Runtime, random_u64, sleep, spawn, timeout};
#[cfg(feature = "sim")]
pub use simulated::{Runtime, random_u64, sleep, spawn, timeout};

/// The time of a [`timeout`] is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;
