//! The only reader of time.

#[cfg(not(feature = "sim"))]
use std::time::SystemTime;

use crate::model::{Time, WallMs};

/// Now on `CLOCK_BOOTTIME`, which does not stand still while the machine is suspended
/// (clock_gettime(2)): a lease measured on it is over when the others think so.
#[cfg(not(feature = "sim"))]
pub fn now() -> Time {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
    Time::from_nanos(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Now on the wall clock: for people to read, never for a decision.
#[cfg(not(feature = "sim"))]
#[allow(clippy::disallowed_methods, reason = "the one reader of time")]
pub fn wall() -> WallMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Now on the clock of the virtual member that asks; true time in the world around them.
#[cfg(feature = "sim")]
pub fn now() -> Time {
    use crate::runtime::simulated::{Host, true_now};
    let nanos = u64::try_from(true_now().as_nanos()).unwrap_or(u64::MAX);
    Host::current().map_or(Time::from_nanos(nanos), |host| host.now())
}

/// The wall clock of the virtual member that asks.
#[cfg(feature = "sim")]
pub fn wall() -> WallMs {
    crate::runtime::simulated::Host::current().map_or(WallMs(0), |host| host.wall())
}

#[cfg(all(test, not(feature = "sim")))]
mod tests {
    /// The child's clock namespace shifts CLOCK_BOOTTIME alone, as a suspension does.
    #[test]
    fn fault_24_the_clock_goes_on_while_the_machine_is_suspended() {
        const SUSPENDED_S: u64 = 1_000_000;
        let before = super::now();
        let output = std::process::Command::new("unshare")
            .args(["-rT", "--boottime", &SUSPENDED_S.to_string()])
            .arg(std::env::current_exe().unwrap())
            .args(["clock::tests::tell", "--exact", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = text.lines().find_map(|line| line.strip_prefix("NOW "));
        let told: u64 = told.unwrap_or_else(|| panic!("{output:?}")).parse().unwrap();
        let ahead_s = (told - before.as_nanos()) / 1_000_000_000;
        assert!((SUSPENDED_S..SUSPENDED_S + 60).contains(&ahead_s), "{ahead_s}");
    }

    #[test]
    #[ignore = "run by fault_24_the_clock_goes_on_while_the_machine_is_suspended"]
    fn tell() {
        println!("\nNOW {}", super::now().as_nanos());
    }
}
