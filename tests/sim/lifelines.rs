//! Lifelines through the simulated network. A process that ends closes its end: a FIN, sent again until
//! it arrives. A host that loses its power says nothing, nor does one that is frozen or cut off. And the
//! network may lie: a FIN of a living process, a reset.

use std::io;
use std::time::Duration;

use futures_util::future::pending;
use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use tokio::sync::oneshot;

use vipd::raft::{End, Held};

use crate::wires::{Leg, Wires};

/// After how long a FIN that was lost is sent again, and how often (tcp(7), tcp_orphan_retries).
const RETRANSMIT: Duration = Duration::from_millis(200);
const ATTEMPTS: u32 = 8;

/// One that is held.
pub struct Line {
    holder: usize,
    leader: usize,
    end: oneshot::Sender<End>,
}

/// All that are held, and what became of others.
#[derive(Default)]
pub struct Lines {
    held: Vec<Line>,
    /// Their leaders' hosts are gone: nothing comes any more.
    silent: Vec<Line>,
    pub ended: u64,
    pub false_ends: u64,
    pub resets: u64,
}

impl Lines {
    fn take(&mut self, which: impl Fn(&Line) -> bool) -> Vec<Line> {
        self.held.retain(|line| !line.end.is_closed());
        let (taken, kept) = std::mem::take(&mut self.held).into_iter().partition(which);
        self.held = kept;
        taken
    }
}

impl Wires {
    pub(crate) async fn hold(self, from: usize, address: String, greeting: Vec<u8>) -> io::Result<Held> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let Some((to, _)) = self.door(&address) else {
            SimRuntime::sleep(Duration::from_micros(500)).await;
            return Err(refused());
        };
        self.travel(from, to).await;
        let Some((to, (host, lifelines))) = self.door(&address) else { return Err(refused()) };
        let (tx, admitted) = oneshot::channel();
        let wires = self.clone();
        let speaker = self.speaker(from);
        drop(host.spawn(async move {
            let (end, held) = oneshot::channel();
            let answer = lifelines.admit(&speaker, &greeting).map_err(io::Error::other).map(|_| {
                wires.with_lines(|lines| lines.held.push(Line { holder: from, leader: to, end }));
                held
            });
            let _ = tx.send(answer);
        }));
        let held = admitted.await.map_err(|_| refused())??;
        self.travel(to, from).await;
        Ok(Box::pin(async move { held.await.unwrap_or(End::Broken) }))
    }

    /// Returns when a message would have arrived; never, where it is lost.
    async fn travel(&self, from: usize, to: usize) {
        match self.leg(from, to) {
            Leg::After(delay) => SimRuntime::sleep(delay).await,
            Leg::Lost => pending().await,
        }
    }

    /// The process at `seat` has ended: its kernel closes what it held.
    pub fn process_ends(&self, seat: usize) {
        for line in self.with_lines(|lines| lines.take(|line| line.leader == seat)) {
            drop(SimRuntime::spawn(self.clone().fin(line)));
        }
    }

    async fn fin(self, line: Line) {
        for _ in 0..ATTEMPTS {
            if let Leg::After(delay) = self.leg(line.leader, line.holder) {
                SimRuntime::sleep(delay).await;
                let told = line.end.send(End::Fin).is_ok();
                self.with_lines(|lines| lines.ended += u64::from(told));
                return;
            }
            SimRuntime::sleep(RETRANSMIT).await;
        }
        self.with_lines(|lines| lines.silent.push(line));
    }

    /// The host of `seat` has lost its power.
    pub fn host_ends(&self, seat: usize) {
        self.with_lines(|lines| {
            let silent = lines.take(|line| line.leader == seat);
            lines.silent.extend(silent);
        });
    }

    /// What `holder` holds is closed as if by the other end, which lives.
    pub fn end_falsely(&self, holder: usize) {
        self.with_lines(|lines| {
            for line in lines.take(|line| line.holder == holder) {
                lines.false_ends += u64::from(line.end.send(End::Fin).is_ok());
            }
        });
    }

    /// Every lifeline is reset.
    pub fn reset_lifelines(&self) {
        self.with_lines(|lines| {
            for line in lines.take(|_| true) {
                lines.resets += u64::from(line.end.send(End::Broken).is_ok());
            }
        });
    }
}
