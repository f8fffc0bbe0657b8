//! The fuzz target's way in (`crate::fuzz`).

use super::{Answer, understand};
use crate::health::Target;

/// At so many cuts the answer is looked at, as it would come in parts.
const CUTS: usize = 64;

/// What is known of an answer stays as it is, whatever comes after it.
pub fn haproxy(data: &[u8]) {
    let mut known = Answer::Partial;
    for cut in (0..data.len().min(CUTS)).chain([data.len()]) {
        let heard = understand(data.get(..cut).unwrap_or(data));
        if known != Answer::Partial {
            assert_eq!(heard, known, "after {cut} bytes");
        }
        known = heard;
    }
    if let Ok(url) = std::str::from_utf8(data) {
        drop(url.parse::<Target>());
    }
}

/// Target, name, bytes.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let serves = "\n> \n> Name: HAProxy\nPid: 7\nStopping: 0\nnode: a\n\n> ";
    vec![
        ("haproxy", "serves", serves.into()),
        ("haproxy", "stopping", serves.replace(": 0", ": 1").into()),
        ("haproxy", "unknown-command", "Unknown command.\n\n> ".into()),
        ("haproxy", "url", "http://[::1]:8404/healthz?a=b".into()),
    ]
}
