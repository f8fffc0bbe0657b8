//! The end of every request's User-Agent, by which CloudTrail shows under which term it was made.

use crate::model::Name;
use crate::vpc::Stamp;

/// ` vipd/VERSION (cluster=edge; member=az-a; term=7; epoch=93)`, with its leading blank.
pub(super) fn tail(cluster: &Name, member: &Name, stamp: Stamp) -> String {
    format!(
        " vipd/{} (cluster={cluster}; member={member}; term={}; epoch={})",
        env!("CARGO_PKG_VERSION"),
        stamp.term,
        stamp.epoch,
    )
}
