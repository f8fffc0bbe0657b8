//! tokio, and the kernel's random numbers.

use std::future::Future;
use std::time::Duration;

use super::Elapsed;

/// What openraft runs on.
pub type Runtime = openraft_rt_tokio::TokioRuntime;

/// Runs `task` until it ends or the process does.
pub fn spawn<F>(task: F)
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task);
}

/// Returns after `duration`.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// `work`'s outcome, if it has one within `duration`.
pub async fn timeout<F: Future + Send>(duration: Duration, work: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(duration, work).await.map_err(|_| Elapsed)
}

/// Eight bytes of the kernel's generator.
pub fn random_u64() -> u64 {
    let number = getrandom::u64();
    // It does not fail once it is seeded (getrandom(2)).
    assert!(number.is_ok(), "the kernel gives no random bytes");
    number.unwrap_or_default()
}
