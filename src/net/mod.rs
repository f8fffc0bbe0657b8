//! The kernel: which overlay addresses are on the interface, putting them there and taking them
//! away. The only home of rtnetlink.
//!
//! ```text
//!   driver --add, remove--> Addresses --a socket a request--> kernel
//!   driver <----watch------ watcher  <--list------------------  |
//!                             ^------a monitor socket: "look"---'
//! ```
//!
//! What the monitor socket says is never believed in itself: whatever it says, the addresses are
//! listed anew. A lost message (netlink(7), ENOBUFS) is then just one more ground to look.

mod addresses;
mod capability;
mod error;
mod loops;
mod request;
mod watcher;

#[cfg(any(test, fuzzing))]
pub use request::fuzz;

use std::future::Future;

use crate::decide::Permit;
use crate::model::Vip;

/// The port. [`Addresses`] is the real one.
pub trait Interface: Clone + Send + Sync + 'static {
    /// Puts the address there, or adopts it. Taking needs a permit.
    fn add(&self, vip: Vip, permit: &Permit) -> impl Future<Output = Result<(), NetError>> + Send;

    /// Takes it away; done, if it is not there.
    fn remove(&self, vip: Vip) -> impl Future<Output = Result<(), NetError>> + Send;
}

pub use addresses::Addresses;
pub use capability::may_configure;
pub use error::NetError;
pub use loops::LoopGuard;
