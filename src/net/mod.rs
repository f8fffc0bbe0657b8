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
mod request;
mod watcher;

pub use addresses::Addresses;
pub use capability::may_configure;
pub use error::NetError;
