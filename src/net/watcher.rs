//! The task that keeps the watch true.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use rtnetlink::MulticastGroup;
use tokio::sync::watch;
use tracing::{info, warn};

use super::addresses::Seen;
use super::{Addresses, NetError};
use crate::model::Vip;

/// What tells of an address, and of an interface that is gone or renamed.
pub(super) const GROUPS: [MulticastGroup; 3] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];

/// Between two listings, so that a storm of changes costs 50 of them a second at most. The first
/// one after a quiet time is not delayed.
pub(super) const GAP: Duration = Duration::from_millis(20);

/// Before the next listing where one failed, and before a broken monitor is opened again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// Even without a message, since rtnetlink skips one that it cannot decode.
pub(super) const QUIET: Duration = Duration::from_secs(30);

/// Messages swept up by one listing. More than a full socket buffer holds (rmem_default 212992
/// bytes, some 800 a message).
const SWEEP: usize = 1024;

/// The monitor socket: one item for each message or loss of messages; it ends when it breaks.
pub(super) type Monitor = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// Subscribes to the changes of these groups.
///
/// The socket is read only while the stream is polled. So what waits, waits in the kernel's bounded
/// buffer, although rtnetlink's own queue has no bound; when that overflows, the loss is an item
/// too.
pub(super) fn subscribe(groups: &[MulticastGroup]) -> Result<Monitor, NetError> {
    let (mut connection, handle, mut messages) =
        rtnetlink::new_multicast_connection(groups).map_err(NetError::Socket)?;
    Ok(Box::pin(stream::poll_fn(move |cx| {
        // Held, or the connection ends.
        let _ = &handle;
        let broken = connection.poll_unpin(cx).is_ready();
        match messages.poll_next_unpin(cx) {
            Poll::Ready(message) => Poll::Ready(message.map(|_| ())),
            Poll::Pending if broken => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })))
}

/// Lists after each change and publishes, until nobody reads.
pub(super) async fn run(
    addresses: Addresses,
    monitor: Monitor,
    first: Seen,
    tx: watch::Sender<BTreeSet<Vip>>,
) {
    tokio::select! {
        () = tx.closed() => {}
        () = follow(&addresses, monitor, first, &tx) => {}
    }
}

async fn follow(
    addresses: &Addresses,
    mut monitor: Monitor,
    mut last: Seen,
    tx: &watch::Sender<BTreeSet<Vip>>,
) {
    let mut had_interface = true;
    tell(addresses, &BTreeSet::new(), &last.without_lifetime);
    let mut wait = QUIET;
    loop {
        match tokio::time::timeout(wait, monitor.next()).await {
            Ok(Some(())) => sweep(&mut monitor),
            Ok(None) => {
                warn!("the netlink monitor broke, opening it again");
                tokio::time::sleep(RETRY).await;
                match subscribe(&GROUPS) {
                    Ok(new) => monitor = new,
                    Err(error) => warn!(%error, "the netlink monitor could not be opened"),
                }
            }
            Err(_elapsed) => {}
        }
        wait = match addresses.look().await {
            Ok(seen) => {
                tell(addresses, &last.without_lifetime, &seen.without_lifetime);
                tx.send_if_modified(|shown| {
                    let changed = *shown != seen.vips;
                    shown.clone_from(&seen.vips);
                    changed
                });
                last = seen;
                QUIET
            }
            Err(error) => {
                warn!(%error, "the addresses could not be listed, trying again");
                RETRY
            }
        };
        if had_interface != addresses.has_interface() {
            had_interface = !had_interface;
            if had_interface {
                info!(interface = addresses.interface(), "the interface is there again");
            } else {
                warn!(interface = addresses.interface(), "the interface is gone or renamed");
            }
        }
        tokio::time::sleep(GAP).await;
    }
}

/// Drops what is there already: the listing that comes shows all of it.
pub(super) fn sweep(monitor: &mut Monitor) {
    for _ in 0..SWEEP {
        if !matches!(monitor.next().now_or_never(), Some(Some(()))) {
            break;
        }
    }
}

/// FAULTS 72: the next refresh puts it right, so here it is only said.
fn tell(addresses: &Addresses, before: &BTreeSet<Vip>, now: &BTreeSet<Vip>) {
    for vip in now.difference(before) {
        warn!(
            %vip,
            interface = addresses.interface(),
            "the address is there without the lifetime of vip.lifetime_s; the next refresh sets it"
        );
    }
}
