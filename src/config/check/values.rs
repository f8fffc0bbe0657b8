//! One value at a time: the helpers that refuse it with its place, its cause and its next step.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;

use toml::Spanned;

use crate::config::raw::{Number, Word};
use crate::config::reason::Reason;
use crate::config::report::{Mistake, Place, Text};
use crate::model::ParseError;

/// `sun_path` is 108 bytes with its closing zero (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Collects what is wrong.
pub(super) struct Checker {
    text: Text,
    mistakes: Vec<Mistake>,
}

impl Checker {
    pub fn new(text: Text) -> Self {
        Self { text, mistakes: Vec::new() }
    }

    pub fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    /// Notes a mistake at `places`, the culprit first.
    pub fn refuse(&mut self, reason: Reason, places: Vec<Place>) {
        self.mistakes.push(Mistake::new(&self.text, reason, places));
    }

    /// The value, or a mistake at `within`, the table that lacks it.
    pub fn required<'a, T>(
        &mut self,
        value: &'a Option<Spanned<T>>,
        key: &'static str,
        example: &'static str,
        within: Option<Range<usize>>,
    ) -> Option<&'a Spanned<T>> {
        if value.is_none() {
            let places = within.map(|span| (span, "missing in this table")).into_iter().collect();
            self.refuse(Reason::Missing { key, example }, places);
        }
        value.as_ref()
    }

    pub fn parsed<T: FromStr<Err = ParseError>>(
        &mut self,
        key: &'static str,
        value: &Spanned<String>,
    ) -> Option<T> {
        match value.get_ref().parse() {
            Ok(parsed) => Some(parsed),
            Err(source) => {
                self.refuse(Reason::Parse { key, source }, vec![(value.span(), "this value")]);
                None
            }
        }
    }

    /// The number, or `default` where it is absent or refused.
    pub fn number(
        &mut self,
        key: &'static str,
        value: &Number,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let Some(value) = value else { return default };
        let number = *value.get_ref();
        if let Ok(number) = u64::try_from(number)
            && range.contains(&number)
        {
            return number;
        }
        let reason = Reason::Range { key, value: number, min: *range.start(), max: *range.end() };
        self.refuse(reason, vec![(value.span(), "out of range")]);
        default
    }

    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        value: &Word,
        names: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let value = value.as_ref()?;
        let chosen = choices.iter().find(|(name, _)| name == value.get_ref());
        if chosen.is_none() {
            let reason = Reason::Choice { key, value: value.get_ref().clone(), choices: names };
            self.refuse(reason, vec![(value.span(), "no such choice")]);
        }
        chosen.map(|(_, choice)| *choice)
    }

    pub fn listen(&mut self, key: &'static str, value: &Spanned<String>) -> Option<SocketAddr> {
        let address = value.get_ref().parse().ok();
        if address.is_none() {
            let reason = Reason::NotListen { key, value: value.get_ref().clone() };
            self.refuse(reason, vec![(value.span(), "not IP:PORT")]);
        }
        address
    }

    /// `HOST:PORT` that can be dialled. An IP address comes out in its canonical spelling.
    pub fn host_port(&mut self, key: &'static str, value: &Spanned<String>) -> Option<String> {
        let reachable = reachable_address(value.get_ref());
        if reachable.is_none() {
            let reason = Reason::NotHostPort { key, value: value.get_ref().clone() };
            self.refuse(reason, vec![(value.span(), "not HOST:PORT")]);
        }
        reachable
    }

    pub fn path(&mut self, key: &'static str, value: &Word) -> Option<PathBuf> {
        let value = value.as_ref()?;
        let text = value.get_ref();
        if text.is_empty() {
            self.refuse(Reason::Empty { key }, vec![(value.span(), "empty")]);
            return None;
        }
        if text.contains('\0') {
            self.refuse(Reason::ZeroByte { key }, vec![(value.span(), "not a path")]);
            return None;
        }
        Some(text.into())
    }

    /// A name as groupadd(8) takes it. Whether the host has the group is seen at the start.
    pub fn group(&mut self, key: &'static str, value: &Spanned<String>) -> Option<String> {
        let text = value.get_ref();
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let further = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if (1..=32).contains(&text.len()) && text.starts_with(first) && text.chars().all(further) {
            return Some(text.clone());
        }
        self.refuse(Reason::Group { key, value: text.clone() }, vec![(value.span(), "no group's name")]);
        None
    }

    pub fn socket_path(&mut self, key: &'static str, value: &Spanned<String>) -> Option<PathBuf> {
        let bytes = value.get_ref().len();
        if bytes > MAX_SOCKET_PATH_BYTES {
            let reason = Reason::SocketPath { key, bytes, max: MAX_SOCKET_PATH_BYTES };
            self.refuse(reason, vec![(value.span(), "too long")]);
            return None;
        }
        self.path(key, &Some(value.clone()))
    }

    /// A URL of one of `schemes`, each with its `://`.
    pub fn url(
        &mut self,
        value: &Spanned<String>,
        schemes: &[&str],
        refusal: impl FnOnce(String) -> Reason,
    ) -> Option<String> {
        let text = value.get_ref();
        let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
        if rest.is_some_and(is_authority_and_path) {
            return Some(text.clone());
        }
        self.refuse(refusal(text.clone()), vec![(value.span(), "this URL")]);
        None
    }
}

/// What stands before the port, of `host:port` or of a URL; without the brackets of IPv6.
/// `text` as a `host:port` that others can reach; `None` where it is none.
pub fn reachable_address(text: &str) -> Option<String> {
    match text.parse::<SocketAddr>() {
        Ok(a) => (!a.ip().is_unspecified() && !a.ip().is_multicast() && a.port() != 0).then(|| a.to_string()),
        Err(_) => is_host_port(text).then(|| text.to_owned()),
    }
}

pub(super) fn host_of(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    is_dns_name(host) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// RFC 1123, section 2.1. A last label of digits is a misspelt IPv4 address.
fn is_dns_name(host: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let last = host.rsplit('.').next().unwrap_or(host);
    host.len() <= 253 && host.split('.').all(label) && !last.chars().all(|c| c.is_ascii_digit())
}

fn is_authority_and_path(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = host_of(authority);
    let bracketed = authority.starts_with('[');
    let known = match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_ipv6() == bracketed,
        Err(_) => !bracketed && is_dns_name(host),
    };
    let after = if bracketed {
        authority.split_once(']').map_or("", |(_, a)| a)
    } else {
        authority.strip_prefix(host).unwrap_or("")
    };
    let port = match after.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port != 0),
        None => after.is_empty(),
    };
    known && port && rest.chars().all(|c| c.is_ascii_graphic())
}
