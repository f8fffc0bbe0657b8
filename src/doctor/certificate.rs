//! Who may speak to this member, and for how much longer its own certificate says so.

use std::path::{Path, PathBuf};

use super::finding::{Finding, Level};
use super::host::Root;
use crate::config::Config;
use crate::model::WallMs;
use crate::rpc::picture::rfc3339;
use crate::tls::{describe, next_update};

const CHECK: &str = "tls";

/// Time to renew: a month, since somebody has to do it.
const SOON_DAYS: u64 = 30;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub fn tls(root: &Root, config: &Config, now: WallMs) -> Vec<Finding> {
    if config.tls.insecure {
        return vec![Finding::new(
            Level::Warn,
            CHECK,
            "tls.insecure is on",
            "whoever reaches the peer port can vote, and whoever reaches the operators' port can move the VIP",
            "set tls.ca, tls.cert and tls.key on every member",
        )];
    }
    let read = |path: &Path| root.read(path.display().to_string().trim_start_matches('/'));
    let shown = |path: Option<&PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
    let pem = config.tls.cert.as_deref().and_then(read);
    // The member's own comes first; what follows is the way to the CA.
    let own = pem.and_then(|pem| describe(pem.as_bytes()).ok()?.into_iter().next());
    let mut all = vec![validity(&shown(config.tls.cert.as_ref()), now, own.map(|own| (own.from, own.until)))];
    if let Some(path) = &config.tls.crl {
        let next = read(path).ok_or(()).and_then(|pem| next_update(pem.as_bytes()).map_err(|_| ()));
        all.push(list(&path.display().to_string(), now, next.ok()));
    }
    all
}

/// `valid`: from when to when; `None`: it could not be read.
pub fn validity(path: &str, now: WallMs, valid: Option<(WallMs, WallMs)>) -> Finding {
    let mend = "vipctl certs, or whoever signs for you: a new certificate; then systemctl reload vipd";
    let Some((from, until)) = valid else {
        return Finding::new(
            Level::Warn,
            CHECK,
            format!("{path} cannot be read"),
            "when this member's certificate ends is not known",
            "see that tls.cert names a PEM file which vipd may read",
        );
    };
    if now < from {
        return Finding::new(
            Level::Fail,
            CHECK,
            format!("the certificate in {path} is valid from {} on", rfc3339(from)),
            "the other members refuse this one until then: it neither votes nor leads",
            "timedatectl: is this host's clock behind? Else wait, or have one issued that is valid now",
        );
    }
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

/// A revocation list: when its next one was due. `None`: it could not be read.
pub fn list(path: &str, now: WallMs, next: Option<Option<WallMs>>) -> Finding {
    match next {
        None => Finding::new(
            Level::Warn,
            CHECK,
            format!("{path} cannot be read"),
            "which certificates are taken back is known as of the last start or reload alone",
            "see that tls.crl names a PEM file of lists which vipd may read",
        ),
        Some(Some(next)) if next <= now => Finding::new(
            Level::Warn,
            CHECK,
            format!("the revocation list in {path} should have been renewed by {}", rfc3339(next)),
            "what it names is refused as before; what was taken back since is let in",
            "vipctl certs revoke --dir PKI, or your CA's new list, in its place; then systemctl reload vipd",
        ),
        Some(Some(next)) => {
            Finding::ok(CHECK, format!("the revocation list in {path} is good until {}", rfc3339(next)))
        }
        Some(None) => Finding::ok(CHECK, format!("the revocation list in {path} names no end")),
    }
}
