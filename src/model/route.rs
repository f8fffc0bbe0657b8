//! What is said about routes between the judgement and the cloud.

use std::collections::BTreeSet;

use super::{EniId, Epoch, RouteKey, RouteMap, RouteTableId, Term};

/// Route tables times VIPs that one group manages at most. A claim names every route it is about to change in one log
/// entry, which has to fit into 32 KiB (`raft::codec::MAX_COMMAND_BYTES`): 92 bytes for the longest, an IPv6 VIP in a
/// table whose id has 17 digits.
pub const ROUTES_MAX: usize = 350;

/// Under which term and claim a request is made: the end of its User-Agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamp {
    pub term: Term,
    pub epoch: Epoch,
}

/// What one look showed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sight {
    /// Every VIP in every table that was found.
    pub routes: RouteMap,
    /// The tables in the order in which they are to be swapped: as listed, then by tag.
    pub tables: Vec<RouteTableId>,
    /// Listed, but not there.
    pub absent: BTreeSet<RouteTableId>,
}

/// One route to be changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swap {
    pub route: RouteKey,
    pub eni: EniId,
    pub verb: Verb,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// ReplaceRoute.
    Replace,
    /// CreateRoute.
    Create,
}

impl Verb {
    /// EC2's name of the call.
    pub fn action(self) -> &'static str {
        match self {
            Verb::Replace => "ReplaceRoute",
            Verb::Create => "CreateRoute",
        }
    }
}

/// The command by which people make a missing route (FAULTS 40): what vipd does itself with `aws.create_missing`.
pub fn create_command(table: &str, destination: &str, eni: &str) -> String {
    let flag =
        if destination.contains(':') { "destination-ipv6-cidr-block" } else { "destination-cidr-block" };
    format!(
        "aws ec2 create-route --route-table-id {table} --{flag} {destination} --network-interface-id {eni}"
    )
}

/// How an attempt ended. Only a later look says what EC2 did in the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// EC2 said yes.
    Done { request_id: Option<String> },
    /// EC2 said no, or no byte left and none will: nothing was changed.
    Refused(CloudError),
    /// The fence stopped it: no byte of the request left.
    Fenced(Fenced),
    /// No answer, or one that cannot be read: EC2 may still do it.
    Unknown(CloudError),
}

/// Why a call failed. The message names the cause and the next step.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CloudError {
    #[error(
        "EC2 throttles {action} (RequestLimitExceeded): vipd backs off; find what else calls EC2 in this account and region"
    )]
    Throttled { action: &'static str },
    #[error(
        "not allowed to call ec2:{action} on {resource}: {message}; add to the policy of the instance's role: {{\"Effect\": \"Allow\", \"Action\": \"ec2:{action}\", \"Resource\": \"{resource}\"}}"
    )]
    Unauthorized { action: &'static str, resource: String, message: String },
    #[error("{action}: EC2 does not know it ({code}): {message}")]
    NotFound { action: &'static str, code: String, message: String },
    #[error(
        "{action}: EC2 says that this machine's clock is wrong ({code}); set it by chrony or the Amazon Time Sync Service"
    )]
    Clock { action: &'static str, code: String },
    #[error(
        "no usable AWS credentials: {message}; attach an instance profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    Credentials { message: String },
    #[error(
        "{action}: cannot reach {endpoint}: {message}; check the route, DNS and security group to the EC2 endpoint"
    )]
    Unreachable { action: &'static str, endpoint: String, message: String },
    #[error("{action}: no answer within {ms} ms")]
    Timeout { action: &'static str, ms: u64 },
    #[error(
        "{action}: dropped, since the lease under which it began ended before EC2 answered; EC2 may have it all the same, and the next owner reads what became of it"
    )]
    Dropped { action: &'static str },
    #[error("{action}: the answer cannot be read: {message}")]
    Garbled { action: &'static str, message: String },
    /// EC2 answers every DryRun by an error; whoever says yes has done it.
    #[error("the endpoint ignores DryRun: it carried {action} out; vipd asks it for no DryRun again")]
    DryRunIgnored { action: &'static str },
    #[error("{action}: {code}: {message}")]
    Other { action: &'static str, code: String, message: String },
}

impl CloudError {
    /// Whether it lies with this member, its way to EC2 or its rights, so that another one may do better. EC2
    /// itself answered otherwise.
    pub fn is_own(&self) -> bool {
        match self {
            CloudError::Unauthorized { .. }
            | CloudError::Clock { .. }
            | CloudError::Credentials { .. }
            | CloudError::Unreachable { .. }
            | CloudError::Timeout { .. }
            | CloudError::Dropped { .. }
            | CloudError::Garbled { .. } => true,
            CloudError::Throttled { .. }
            | CloudError::NotFound { .. }
            | CloudError::DryRunIgnored { .. }
            | CloudError::Other { .. } => false,
        }
    }

    /// The label of `vipd_ec2_requests_total`.
    pub fn label(&self) -> &'static str {
        match self {
            CloudError::Throttled { .. } => "throttled",
            CloudError::Unauthorized { .. } => "unauthorized",
            CloudError::NotFound { .. } => "not-found",
            CloudError::Clock { .. } => "clock",
            CloudError::Credentials { .. } => "credentials",
            CloudError::Unreachable { .. } => "unreachable",
            CloudError::Timeout { .. } => "timeout",
            CloudError::Dropped { .. } => "dropped",
            CloudError::Garbled { .. } => "garbled",
            CloudError::DryRunIgnored { .. } | CloudError::Other { .. } => "error",
        }
    }
}

/// Why the gate let nothing pass. The label of `vipd_fenced_calls_total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fenced {
    #[error("this member holds no open permit")]
    Closed,
    #[error("the permit is of another term or claim")]
    Superseded,
    #[error("the lease is over")]
    LeaseOver,
}

impl Fenced {
    pub const ALL: [Fenced; 3] = [Fenced::Closed, Fenced::Superseded, Fenced::LeaseOver];

    pub fn label(self) -> &'static str {
        match self {
            Fenced::Closed => "closed",
            Fenced::Superseded => "superseded",
            Fenced::LeaseOver => "lease-over",
        }
    }
}
