//! Whether this process may change addresses.

use super::NetError;

/// CAP_NET_ADMIN's bit in a capability mask (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;

/// Ok where this process may set addresses: its effective capabilities have CAP_NET_ADMIN
/// (capabilities(7), `CapEff` of /proc/self/status). For the start, so that a missing
/// capability shows then and not in the first failover.
pub fn may_configure() -> Result<(), NetError> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(NetError::Capabilities)?;
    if has_net_admin(&status) { Ok(()) } else { Err(NetError::NotPermitted) }
}

fn has_net_admin(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << CAP_NET_ADMIN) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_effective_mask_counts() {
        for (status, may) in [
            ("Name:\tvipd\nCapPrm:\t0000000000000000\nCapEff:\t0000000000001000\n", true),
            ("CapEff:\t000001ffffffffff\n", true),
            ("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n", false),
            ("CapEff:\t000001ffffffefff\n", false),
            ("CapEff:\tnot a mask\n", false),
            ("", false),
        ] {
            assert_eq!(has_net_admin(status), may, "{status}");
        }
    }
}
