//! Who may speak to this member, and for how much longer its own certificate says so.

use super::finding::{Finding, Level};
use super::host::Root;
use crate::config::Config;
use crate::model::WallMs;
use crate::tls::describe;

const CHECK: &str = "tls";

/// Time to renew: a month, since somebody has to do it.
const SOON_DAYS: u64 = 30;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub fn tls(root: &Root, config: &Config, now: WallMs) -> Finding {
    if config.tls.insecure {
        return Finding::new(
            Level::Warn,
            CHECK,
            "tls.insecure is on",
            "whoever reaches the peer port can vote, and whoever reaches the operators' port can move the VIP",
            "set tls.ca, tls.cert and tls.key on every member",
        );
    }
    let path = config.tls.cert.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let pem = root.read(path.trim_start_matches('/'));
    // The member's own comes first; what follows is the way to the CA.
    let until = pem.and_then(|pem| Some(describe(pem.as_bytes()).ok()?.first()?.until));
    expiry(&path, now, until)
}

pub fn expiry(path: &str, now: WallMs, until: Option<WallMs>) -> Finding {
    let mend = "vipctl certs, or whoever signs for you: a new certificate; then systemctl reload vipd";
    let Some(until) = until else {
        return Finding::new(
            Level::Warn,
            CHECK,
            format!("{path} cannot be read"),
            "when this member's certificate ends is not known",
            "see that tls.cert names a PEM file which vipd may read",
        );
    };
    let days = until.0.saturating_sub(now.0) / DAY_MS;
    if until <= now {
        Finding::new(
            Level::Fail,
            CHECK,
            format!("the certificate in {path} is over"),
            "the other members refuse this one: it neither votes nor leads",
            mend,
        )
    } else if days < SOON_DAYS {
        Finding::new(
            Level::Warn,
            CHECK,
            format!("the certificate in {path} ends in {days} days"),
            "once it is over the other members refuse this one",
            mend,
        )
    } else {
        Finding::ok(CHECK, format!("the certificate in {path} is good for {days} days"))
    }
}
