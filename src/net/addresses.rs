//! The overlay addresses on one interface.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rtnetlink::Handle;
use tokio::sync::watch;

use super::request::{Lifetime, add, ask, find_interface, lifetimes, list, remove};
use super::{Interface, NetError, watcher};
use crate::decide::Permit;
use crate::model::Vip;

/// The overlay addresses on one interface: a handle, cheap to clone.
#[derive(Clone, Debug)]
pub struct Addresses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    interface: String,
    vips: Vec<Vip>,
    lifetime_s: u32,
    present: watch::Sender<bool>,
    /// The interface's index when it was last found by its name: a renamed one keeps it, and its
    /// addresses.
    last_index: AtomicU32,
}

/// What one listing showed.
pub(super) struct Seen {
    pub(super) vips: BTreeSet<Vip>,
    /// Those that the kernel would keep although they should have a lifetime (`lifetime_s`).
    pub(super) without_lifetime: BTreeSet<Vip>,
}

impl Addresses {
    /// Reads which of `vips` are on `interface` and goes on watching. The receiver always shows the
    /// newest reading, and follows a change within milliseconds, until its last clone is dropped.
    /// With `lifetime_s` > 0 an address that is not added again within that many seconds is removed
    /// by the kernel itself, up to a second late.
    ///
    /// Fails where the interface is missing or netlink does not work; CAP_NET_ADMIN is not needed
    /// for reading, [`may_configure`](super::may_configure) checks it.
    pub async fn open(
        interface: &str,
        vips: Vec<Vip>,
        lifetime_s: u32,
    ) -> Result<(Addresses, watch::Receiver<BTreeSet<Vip>>), NetError> {
        let addresses = Addresses(Arc::new(Inner {
            interface: interface.to_owned(),
            vips,
            lifetime_s,
            present: watch::Sender::new(false),
            last_index: AtomicU32::new(0),
        }));
        // Subscribed before the first listing: a change between the two is not lost.
        let monitor = watcher::subscribe(&watcher::GROUPS)?;
        let seen = addresses.look().await?;
        if !addresses.has_interface() {
            return Err(NetError::NoInterface(interface.to_owned()));
        }
        let (tx, rx) = watch::channel(seen.vips.clone());
        tokio::spawn(watcher::run(addresses.clone(), monitor, seen, tx));
        Ok((addresses, rx))
    }

    /// Whether the interface is there: without it every `add` fails (FAULTS 75).
    pub fn has_interface(&self) -> bool {
        *self.0.present.borrow()
    }

    /// Follows [`has_interface`](Self::has_interface).
    pub fn watch_interface(&self) -> watch::Receiver<bool> {
        self.0.present.subscribe()
    }

    /// The interface's name, from the configuration.
    pub fn interface(&self) -> &str {
        &self.0.interface
    }

    /// One reading.
    pub(super) async fn look(&self) -> Result<Seen, NetError> {
        fault!(wait "net.look", error(e) => return Err(NetError::Socket(e)));
        ask(|handle| async move {
            let found = match self.locate(&handle).await? {
                Some(index) => lifetimes(&list(&handle, index, &self.0.vips).await?),
                None => Default::default(),
            };
            let forever =
                |(vip, lifetime): (&Vip, &Lifetime)| (*lifetime == Lifetime::Forever).then_some(*vip);
            let without_lifetime = if self.0.lifetime_s == 0 {
                BTreeSet::new()
            } else {
                found.iter().filter_map(forever).collect()
            };
            Ok(Seen { vips: found.into_keys().collect(), without_lifetime })
        })
        .await
    }

    fn found(&self, now: bool) {
        self.0.present.send_if_modified(|before| std::mem::replace(before, now) != now);
    }

    /// Where the addresses are: on the interface of that name, or else on the one that had it last.
    /// `None`: there never was one.
    async fn locate(&self, handle: &Handle) -> Result<Option<u32>, NetError> {
        match find_interface(handle, &self.0.interface).await {
            Ok(index) => {
                self.0.last_index.store(index, Ordering::Relaxed);
                self.found(true);
                Ok(Some(index))
            }
            Err(NetError::NoInterface(_)) => {
                self.found(false);
                let last = self.0.last_index.load(Ordering::Relaxed);
                Ok((last != 0).then_some(last))
            }
            Err(other) => Err(other),
        }
    }
}

impl Interface for Addresses {
    /// Adopts one that is there, and starts its lifetime anew. One attempt, within a second.
    async fn add(&self, vip: Vip, _permit: &Permit) -> Result<(), NetError> {
        ask(|handle| async move {
            let index = find_interface(&handle, &self.0.interface).await?;
            fault!(wait "net.add");
            add(&handle, index, vip, &self.0.interface, self.0.lifetime_s).await
        })
        .await
    }

    /// At whatever prefix length it is there; from an interface that was renamed too. One attempt,
    /// within a second.
    async fn remove(&self, vip: Vip) -> Result<(), NetError> {
        ask(|handle| async move {
            let Some(index) = self.locate(&handle).await? else {
                return Ok(());
            };
            fault!(wait "net.remove");
            let mut outcome = Ok(());
            for (_, found) in list(&handle, index, &[vip]).await? {
                // All are tried: one that stays must not keep the others.
                outcome = outcome.and(remove(&handle, found).await);
            }
            outcome
        })
        .await
    }
}
