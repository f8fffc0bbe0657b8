//! The only reader of time.

use std::time::SystemTime;

use crate::model::{Time, WallMs};

/// Now on `CLOCK_BOOTTIME`, which does not stand still while the machine is suspended
/// (clock_gettime(2)): a lease measured on it is over when the others think so.
pub fn now() -> Time {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
    Time::from_nanos(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Now on the wall clock: for people to read, never for a decision.
#[allow(clippy::disallowed_methods, reason = "the one reader of time")]
pub fn wall() -> WallMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
