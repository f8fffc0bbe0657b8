//! The kernel's side of an address: what is on the interface outlives the daemon.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use vipd::decide::Permit;
use vipd::model::Vip;
use vipd::net::{Interface, NetError};
use vipd::runtime;

/// netlink answers within microseconds.
const TAKES: Duration = Duration::from_micros(150);

#[derive(Default)]
struct Kernel {
    present: BTreeSet<Vip>,
    /// The living daemon's view, made anew for each life.
    shown: Option<watch::Sender<BTreeSet<Vip>>>,
}

/// The interface of one member.
#[derive(Clone, Default)]
pub struct SimInterface(Arc<Mutex<Kernel>>);

impl SimInterface {
    fn lock(&self) -> MutexGuard<'_, Kernel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a daemon that starts now watches.
    pub fn watch(&self) -> watch::Receiver<BTreeSet<Vip>> {
        let mut kernel = self.lock();
        let (tx, rx) = watch::channel(kernel.present.clone());
        kernel.shown = Some(tx);
        rx
    }

    pub fn present(&self) -> BTreeSet<Vip> {
        self.lock().present.clone()
    }

    /// Somebody takes the address away by hand.
    pub fn delete(&self, vip: Vip) {
        self.change(|present| present.remove(&vip));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<Vip>) -> bool) {
        let mut kernel = self.lock();
        if change(&mut kernel.present)
            && let Some(shown) = &kernel.shown
        {
            shown.send_replace(kernel.present.clone());
        }
    }
}

impl Interface for SimInterface {
    async fn add(&self, vip: Vip, _: &Permit) -> Result<(), NetError> {
        runtime::sleep(TAKES).await;
        self.change(|present| present.insert(vip));
        Ok(())
    }

    async fn remove(&self, vip: Vip) -> Result<(), NetError> {
        runtime::sleep(TAKES).await;
        self.change(|present| present.remove(&vip));
        Ok(())
    }
}
