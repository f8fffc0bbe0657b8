//! The cloud: one way to look at the route tables, one to swap a route, one to ask whether a swap would be allowed.
//!
//! ```text
//!   driver --look------> Cloud ----> DescribeRouteTables
//!          --swap------> Cloud --+-> ReplaceRoute | CreateRoute
//!          |                     |
//!          |                   Gate: asked each time the request's body is polled
//!          '-rehearse--> Cloud ----> ReplaceRoute | CreateRoute with DryRun: changes nothing, needs no permit
//! ```
//!
//! An adapter makes one call, once, with a deadline. A retry is the next tick's decision.

use std::future::Future;
use std::sync::Arc;

use crate::decide::{Gate, Permit};
pub use crate::model::route::{CloudError, Fenced, Outcome, Sight, Stamp, Swap, Verb};

#[cfg(feature = "aws")]
mod call;
pub mod door;
#[cfg(feature = "aws")]
pub mod ec2;
#[cfg(feature = "aws")]
mod errors;
#[cfg(feature = "aws")]
mod fenced_body;
#[cfg(all(any(test, fuzzing), feature = "aws"))]
pub mod fuzz;
#[cfg(feature = "aws")]
pub mod http;
#[cfg(feature = "aws")]
pub mod imds;
#[cfg(feature = "aws")]
mod routes;
#[cfg(feature = "aws")]
mod user_agent;

/// The port. `vpc::ec2` is the real one.
pub trait Cloud: Send + Sync + 'static {
    /// Reads every route table in question, once.
    fn look(&self, stamp: Stamp) -> impl Future<Output = Result<Sight, CloudError>> + Send;

    /// Tries to change one route, once. Asks `gate` about `permit` each time bytes are about to
    /// leave.
    fn swap(&self, swap: Swap, permit: Permit, gate: Arc<Gate>) -> impl Future<Output = Outcome> + Send;

    /// Asks whether the swap would be allowed (`DryRun`), once, without making it. Needs no permit.
    fn rehearse(&self, swap: Swap, stamp: Stamp) -> impl Future<Output = Result<(), CloudError>> + Send;
}
