//! What the listeners bear, each number with its reason. docs/SECURITY.md has the sums.

use std::collections::BTreeSet;
use std::time::Duration;

use super::keeper::{Keeper, Places};

/// Members keep a channel, its successor and a lifeline to each other; dead ones are replaced within a
/// second and noticed within 20 s. A stranger is one that has not shown yet that it is none.
pub(super) const PEERS: Places = Places { strangers: 64, stranger: 16, member: 64, kept_part: 1 };

/// Operators are few, but sit behind one address. Half are kept for them: dashboards and the merely curious are more.
pub(super) const OPERATORS: Places = Places { strangers: 64, stranger: 16, member: 0, kept_part: 2 };

/// Of this host.
pub(super) const LOCAL: Places = Places { strangers: 64, stranger: 64, member: 0, kept_part: 2 };

/// What one port bears of what is sent to it.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Streams that one connection may have open: a member uses fewer than ten, unless many operators wait
    /// for the leader through it; an operator uses one.
    pub streams: u32,
    /// What may be sent on a stream, and on a connection, before it is read.
    pub stream_window_bytes: u32,
    pub connection_window_bytes: u32,
    /// Of requests that are not whole yet, from members' addresses and from others: a snapshot of the
    /// whole ledger is under 1 MiB, and a member sends one at a time.
    pub members_bytes: usize,
    pub strangers_bytes: usize,
}

pub(super) const PEER_BOUNDS: Bounds = Bounds {
    streams: 64,
    stream_window_bytes: 256 * 1024,
    connection_window_bytes: 256 * 1024,
    members_bytes: 32 * 1024 * 1024,
    strangers_bytes: 8 * 1024 * 1024,
};

pub(super) const OPERATOR_BOUNDS: Bounds = Bounds {
    streams: 16,
    stream_window_bytes: 64 * 1024,
    connection_window_bytes: 64 * 1024,
    members_bytes: 0,
    strangers_bytes: 2 * 1024 * 1024,
};

/// The longest message on any port (`raft/links.rs`).
pub(super) const MESSAGE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What gRPC's own services are asked: a name or two. Reflection repeats the whole request in its answer, the host twice.
pub(super) const NAMES_MAX_BYTES: usize = 4 * 1024;

/// Ours have some ten short headers.
pub(super) const HEADERS_MAX_BYTES: u32 = 8 * 1024;

/// Streams that were reset before they were looked at (CVE-2023-44487); one more ends the connection.
pub(super) const RESETS_PENDING_MAX: usize = 20;

/// Streams that this end had to reset for the other's mistakes; one more ends the connection.
pub(super) const RESETS_OF_ERRORS_MAX: usize = 32;

/// HTTP/2 keepalive: a half-open connection is noticed within two of these.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(10);

/// A request has to be whole within so long: one of 4 MiB takes a second on a bad day.
pub(super) const BODY_DEADLINE: Duration = Duration::from_secs(5);

/// A request, with its answer. The longest is a switchover that is waited for (`desk.rs`, 300 s) and then
/// forwarded.
pub(super) const REQUEST_DEADLINE: Duration = Duration::from_secs(330);

/// Names are looked up again so often: a member that comes back with another address is a stranger until
/// then, and gets in as one.
const LOOK_UP_EVERY: Duration = Duration::from_secs(60);

/// A name server that does not answer by then has none.
const LOOK_UP_DEADLINE: Duration = Duration::from_secs(5);

/// Tells the keeper the members' addresses, as they are now: also of those that came and went since the start.
pub(super) async fn know_members(keeper: Keeper, peers: impl Fn() -> BTreeSet<String>) {
    loop {
        let mut found = Vec::new();
        for peer in &peers() {
            // An address is its own; a name may have several.
            let looked_up = tokio::time::timeout(LOOK_UP_DEADLINE, tokio::net::lookup_host(peer)).await;
            match looked_up {
                Ok(Ok(addresses)) => found.extend(addresses.map(|a| a.ip())),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "the name is not known"),
                Err(_) => tracing::debug!(%peer, "the name was not told in time"),
            }
        }
        keeper.know_members(found);
        tokio::time::sleep(LOOK_UP_EVERY).await;
    }
}
