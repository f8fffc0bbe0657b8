//! HAProxy's health: what its checks say, judged.
//!
//! ```text
//!   RuntimeSocket --Probe--> Judge --Health--+
//!                                            +--combine--> watch<Health> --> driver
//!   HttpCheck ------Probe--> Judge --Health--+
//! ```
//!
//! A check makes one probe, once, with a deadline. Its judge counts and gives the verdict, without
//! clock or IO. Each check runs by itself, so that one that hangs does not delay the other.

mod http;
mod judge;
mod socket;

#[cfg(any(test, fuzzing))]
pub use socket::fuzz;

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::http::HttpCheck;
pub use self::http::{Target, UrlError};
use self::judge::{Judge, Probe, combine};
use self::socket::RuntimeSocket;
use crate::config::{HealthConfig, InForce};
use crate::model::Health;

/// Starts the checks that `config` names, inside a tokio runtime; they end when the last receiver
/// is dropped. Without any, [`Health::NotChecked`] for good. Otherwise [`Health::Unknown`] until
/// the first verdict; a reason says which check it comes from.
pub fn spawn(config: &HealthConfig) -> watch::Receiver<Health> {
    let mut checks = Vec::new();
    if let Some(path) = &config.haproxy_socket {
        checks.push(Check::Socket(RuntimeSocket::new(path.clone(), config.timeout)));
    }
    if let Some(url) = &config.http {
        checks.push(Check::Http(HttpCheck::new(url, config.timeout)));
    }
    let (tx, rx) = watch::channel(Health::NotChecked);
    let tx = Arc::new(tx);
    if checks.is_empty() {
        // Held as long as someone reads: a receiver without a sender would report that as a change.
        tokio::spawn(async move { tx.closed().await });
        return rx;
    }
    let judge = Judge::new(config.rise, config.fall);
    let board = Board::new(tx, checks.iter().map(|_| judge.verdict()).collect());
    for (place, check) in checks.into_iter().enumerate() {
        let (board, judge) = (board.clone(), judge.clone());
        let (interval, timeout) = (config.interval, config.timeout);
        tokio::spawn(async move {
            tokio::select! {
                () = board.unread() => {}
                () = run(check, judge, &board, place, interval, timeout) => {}
            }
        });
    }
    rx
}

/// As [`spawn`], by the checks of the newest configuration. New ones take over with their first verdict, after 5 s at most: until then the old verdict stands, so that a reload by itself moves nothing.
pub fn follow(mut config: watch::Receiver<InForce>) -> watch::Receiver<Health> {
    let mut wanted = config.borrow_and_update().config.health.clone();
    let mut verdicts = spawn(&wanted);
    let (tx, rx) = watch::channel(verdicts.borrow_and_update().clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tx.closed() => return,
                Ok(()) = verdicts.changed() => {
                    let verdict = verdicts.borrow_and_update().clone();
                    tx.send_if_modified(|shown| std::mem::replace(shown, verdict.clone()) != verdict);
                }
                Ok(()) = config.changed() => {
                    let newer = config.borrow_and_update().config.health.clone();
                    if newer != wanted {
                        wanted = newer;
                        verdicts = spawn(&wanted);
                        let judged = verdicts.wait_for(|health| !matches!(health, Health::Unknown(_)));
                        let _ = tokio::time::timeout(FIRST_VERDICT, judged).await;
                        verdicts.mark_changed();
                    }
                }
            }
        }
    });
    rx
}

/// Within this time new checks have a verdict, or none that helps: twice the usual `(interval + timeout) x fall`, and
/// well above what an operator waits.
const FIRST_VERDICT: Duration = Duration::from_secs(5);

/// Between two probes that a closed connection asks for, so that one who closes after each answer
/// costs 50 probes a second and not a core. The first after a quiet time is not delayed.
const STIR_GAP: Duration = Duration::from_millis(20);

enum Check {
    Socket(RuntimeSocket),
    Http(HttpCheck),
}

impl Check {
    async fn probe(&mut self) -> Probe {
        match self {
            Check::Socket(socket) => socket.probe().await,
            Check::Http(http) => http.probe().await,
        }
    }

    /// Returns when there is a ground to probe before the interval is over.
    async fn stirred(&mut self) {
        match self {
            Check::Socket(socket) => socket.closed().await,
            Check::Http(_) => pending().await,
        }
    }
}

async fn run(
    mut check: Check,
    mut judge: Judge,
    board: &Board,
    place: usize,
    interval: Duration,
    timeout: Duration,
) {
    let mut gap_until = Instant::now();
    loop {
        let started = Instant::now();
        fault!(wait "health.probe");
        judge.note(check.probe().await);
        board.show(place, judge.verdict());
        // While failures are being counted the next probe starts one timeout after the last, so
        // that the verdict falls within interval + timeout x fall (FAULTS 80).
        let pause = if judge.is_falling() { interval.min(timeout) } else { interval };
        tokio::select! {
            () = sleep_until(started + pause) => {}
            () = check.stirred() => {
                sleep_until(gap_until).await;
                gap_until = Instant::now() + STIR_GAP;
            }
        }
    }
}

/// Where the checks write their verdicts.
#[derive(Clone)]
struct Board {
    tx: Arc<watch::Sender<Health>>,
    verdicts: Arc<Mutex<Vec<Health>>>,
}

impl Board {
    fn new(tx: Arc<watch::Sender<Health>>, verdicts: Vec<Health>) -> Self {
        tx.send_replace(combine(&verdicts));
        Self { tx, verdicts: Arc::new(Mutex::new(verdicts)) }
    }

    fn show(&self, place: usize, verdict: Health) {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = verdicts.get_mut(place) {
            *own = verdict;
        }
        let health = combine(&verdicts);
        self.tx.send_if_modified(|shown| {
            let changed = *shown != health;
            *shown = health;
            changed
        });
    }

    async fn unread(&self) {
        self.tx.closed().await;
    }
}
