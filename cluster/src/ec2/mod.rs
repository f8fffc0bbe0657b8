//! EC2, as far as vipd calls it, with faults on demand and a log of every call.
//!
//! ```text
//!   request -> http (receive, log) -> faults (what shall go wrong?) -> api (parse, judge) -> state -> kernel route
//! ```
//!
//! Shapes and error codes are EC2's (API reference, version 2016-11-15).

pub mod api;
pub mod calls;
pub mod faults;
pub mod http;
pub mod params;
pub mod state;
pub mod xml;

#[cfg(test)]
mod tests;

use thiserror::Error;

/// Why EC2 says no.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The table is unknown.
    #[error("The routeTable ID '{0}' does not exist")]
    NoTable(String),
    /// ReplaceRoute of a route that is not there. The reference lists InvalidRoute.NotFound; what EC2 really answers
    /// is InvalidParameterValue (measured by moto's authors, getmoto/moto pull request 6425).
    #[error("There is no route defined for '{0}' in the route table. Use CreateRoute instead.")]
    NoRoute(String),
    /// The ENI is unknown, or gone.
    #[error("The networkInterface ID '{0}' does not exist")]
    NoEni(String),
    /// CreateRoute of a route that is there.
    #[error("The route identified by {0} already exists.")]
    RouteExists(String),
    /// A parameter is missing.
    #[error("The request must contain the parameter {0}")]
    Missing(&'static str),
    /// A parameter does not fit.
    #[error("{0}")]
    BadValue(String),
    /// The lab does not have the action.
    #[error("The action {0} is not valid for this web service.")]
    BadAction(String),
    /// A DryRun that would have succeeded.
    #[error("Request would have succeeded, but DryRun flag is set.")]
    DryRun,
    /// Too many calls.
    #[error("Request limit exceeded.")]
    Throttled,
    /// The caller's role lacks the action.
    #[error(
        "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/vipd/{instance} is not authorized to perform: ec2:{action} on resource: {resource} because no identity-based policy allows the ec2:{action} action"
    )]
    Denied {
        /// `ReplaceRoute`.
        action: String,
        /// The table's ARN, or `*`.
        resource: String,
        /// The caller's instance.
        instance: String,
    },
    /// A fault asked for this code.
    #[error("The lab was told to answer {0}.")]
    Injected(String),
    /// The kernel refused the route.
    #[error("An internal error has occurred: {0}")]
    Internal(String),
}

impl Refusal {
    /// EC2's error code.
    pub fn code(&self) -> &str {
        match self {
            Self::NoTable(_) => "InvalidRouteTableID.NotFound",
            Self::NoRoute(_) | Self::BadValue(_) => "InvalidParameterValue",
            Self::NoEni(_) => "InvalidNetworkInterfaceID.NotFound",
            Self::RouteExists(_) => "RouteAlreadyExists",
            Self::Missing(_) => "MissingParameter",
            Self::BadAction(_) => "InvalidAction",
            Self::DryRun => "DryRunOperation",
            Self::Throttled => "RequestLimitExceeded",
            Self::Denied { .. } => "UnauthorizedOperation",
            Self::Injected(code) => code,
            Self::Internal(_) => "InternalError",
        }
    }

    /// EC2's HTTP status for the code.
    pub fn status(&self) -> u16 {
        match self.code() {
            "DryRunOperation" => 412,
            "UnauthorizedOperation" => 403,
            "AuthFailure" => 401,
            "RequestLimitExceeded" | "Unavailable" | "ServiceUnavailable" => 503,
            "InternalError" | "InternalFailure" => 500,
            _ => 400,
        }
    }
}
