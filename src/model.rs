//! The nouns. Every value that crosses a border is parsed into one of these, so that the rest of
//! the program cannot hold a wrong one. Words: DESIGN.md section 2.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod member;
pub mod route;

pub use member::{Member, USUAL_PRIORITY};

/// A point on `CLOCK_BOOTTIME`, which counts on while the machine is suspended
/// (clock_gettime(2)). Only `clock.rs` makes one from the kernel; points of two machines, or of
/// two boots, do not compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time(Duration);

impl Time {
    /// Later than any point that comes.
    pub const MAX: Time = Time(Duration::MAX);

    pub const fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }

    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    pub fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time since `earlier`; zero where `earlier` is not earlier.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// So long before.
    pub fn before(self, d: Duration) -> Time {
        Time(self.0.saturating_sub(d))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(d))
    }
}

/// Milliseconds since 1970 on the wall clock: for people to read, never for a decision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallMs(pub u64);

/// Raft's term (Raft paper, section 5.1). With `leader_id_std` it names at most one leader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

/// A claim's log index. A later claim has a greater one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The random Raft id of one data directory. A wiped member comes back as a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// The random name of one group, made at its first start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u128);

impl GroupId {
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    /// `None` unless there are exactly 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

macro_rules! shown {
    ($($name:ident $format:literal),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    )+};
}
shown!(Term "{}", Epoch "{}", Incarnation "{:016x}", GroupId "{:032x}");

/// The longest text of another's that is told on, in characters: two lists of five members. Longer ones are no honest
/// one's, or nobody reads them to their end.
pub const WORDS_MAX: usize = 400;

/// The beginning of what another says, as it may stand in an error, an answer or the log.
pub fn brief(text: &str) -> String {
    cut(text, WORDS_MAX)
}

/// So many characters of it at most.
pub fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Why a text is not a name, an id or an address. The beginning of the text is in the message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseError {
    #[error("\"{0}\" is not a name: use 1 to 63 of a-z, 0-9 and -, a letter or digit first")]
    Name(String),
    #[error("\"{0}\" is not a route table's id: it looks like rtb-0a1b2c3d")]
    RouteTable(String),
    #[error("\"{0}\" is not a network interface's id: it looks like eni-0a1b2c3d")]
    Eni(String),
    #[error("\"{0}\" is not an overlay address: it looks like 192.168.77.10/32 or fd00:77::10/128")]
    Vip(String),
    #[error("{0} has host bits: an overlay address is one address, /32 (IPv4) or /128 (IPv6)")]
    HostBits(String),
    #[error("{0} can be no overlay address: {1}")]
    Reserved(String, &'static str),
}

fn is_label(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&text.len()) && text.starts_with(word) && text.chars().all(|c| word(c) || c == '-')
}

fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| {
        (1..=32).contains(&rest.len())
            && rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    })
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:expr, $error:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                let ok: fn(&str) -> bool = $check;
                if ok(text) { Ok(Self(text.to_owned())) } else { Err(ParseError::$error(brief(text))) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;
            fn try_from(text: String) -> Result<Self, ParseError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_type!(
    /// The name of a member, a cluster or a zone's label.
    Name, is_label, Name
);
text_type!(
    /// A route table's id.
    RouteTableId, |t| is_id(t, "rtb-"), RouteTable
);
text_type!(
    /// A network interface's id.
    EniId, |t| is_id(t, "eni-"), Eni
);

/// An overlay address. Never one that EC2 keeps for itself or that cannot be a unicast target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Vip(IpAddr);

impl Vip {
    pub fn ip(self) -> IpAddr {
        self.0
    }

    pub fn prefix_len(self) -> u8 {
        match self.0 {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.0, self.prefix_len()))
    }
}

impl From<Vip> for String {
    fn from(vip: Vip) -> String {
        vip.to_string()
    }
}

impl TryFrom<String> for Vip {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl FromStr for Vip {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = || ParseError::Vip(brief(text));
        let (ip, len) = text.split_once('/').ok_or_else(bad)?;
        let ip: IpAddr = ip.parse().map_err(|_| bad())?;
        let len: u8 = len.parse().map_err(|_| bad())?;
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        if len > whole {
            return Err(bad());
        }
        if len < whole {
            return Err(ParseError::HostBits(brief(text)));
        }
        let reserved = |why| Err(ParseError::Reserved(brief(text), why));
        if ip.is_unspecified() {
            return reserved("it is the unspecified address");
        }
        if ip.is_multicast() {
            return reserved("it is multicast");
        }
        if ip.is_loopback() {
            return reserved("it is loopback");
        }
        match ip {
            IpAddr::V4(v4) if v4.is_link_local() => {
                return reserved("169.254.0.0/16 is link-local, EC2 uses it for its own services");
            }
            IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240 => {
                return reserved("it is not a unicast address");
            }
            IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80 => {
                return reserved("fe80::/10 is link-local");
            }
            IpAddr::V6(v6) if v6.segments()[0] == 0xfd00 && v6.segments()[1] == 0x0ec2 => {
                return reserved("fd00:ec2::/32 is EC2's own");
            }
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                return reserved("write a mapped IPv4 address as IPv4");
            }
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        Ok(Vip(ip))
    }
}

/// One entry of one route table: what a swap changes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct RouteKey {
    pub table: RouteTableId,
    pub vip: Vip,
}

/// What a read of the route tables showed for one entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Observed {
    /// The entry is there and EC2 calls it active. `None`: its target is not a network interface.
    Active(Option<EniId>),
    /// The entry is there; its target is gone.
    Blackhole(Option<EniId>),
    /// The table is there; the entry is not.
    Missing,
}

/// The entries of all route tables in question, as one read showed them.
pub type RouteMap = BTreeMap<RouteKey, Observed>;

/// What HAProxy's checks say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Health {
    Healthy,
    /// With the reason, for people.
    Unhealthy(String),
    /// Not known (yet), with the reason: never a ground to move.
    Unknown(String),
    /// No check is configured: always healthy.
    #[default]
    NotChecked,
}

impl Health {
    pub fn is_unhealthy(&self) -> bool {
        matches!(self, Health::Unhealthy(_))
    }
}

/// What an owner without a quorum does with its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnQuorumLoss {
    /// Nothing is called and nothing is removed.
    Hold,
    /// The address goes once the lease has been over for one election timeout; routes stay.
    Release,
}

impl fmt::Display for OnQuorumLoss {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hold => "hold",
            Self::Release => "release",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_address_is_one_unicast_address() {
        for good in ["192.168.77.10/32", "fd00:77::10/128", "2001:db8::1/128"] {
            assert_eq!(good.parse::<Vip>().map(|v| v.to_string()), Ok(good.to_owned()));
        }
        for (bad, word) in [
            ("192.168.77.10", "not an overlay"),
            ("192.168.77.10/24", "host bits"),
            ("fd00:77::10/64", "host bits"),
            ("192.168.77.10/33", "not an overlay"),
            ("0.0.0.0/32", "unspecified"),
            ("224.0.0.9/32", "multicast"),
            ("127.0.0.1/32", "loopback"),
            ("169.254.1.1/32", "link-local"),
            ("255.255.255.255/32", "unicast"),
            ("fe80::1/128", "link-local"),
            ("fd00:ec2::254/128", "EC2"),
            ("::ffff:10.0.0.1/128", "mapped"),
            ("", "not an overlay"),
        ] {
            let error = bad.parse::<Vip>().expect_err(bad).to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }

    #[test]
    fn names_and_ids_are_checked() {
        assert!("az-a".parse::<Name>().is_ok());
        for bad in ["", "-a", "A", "a_b", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert!("rtb-0a1b".parse::<RouteTableId>().is_ok());
        assert!("eni-0a1b".parse::<RouteTableId>().is_err());
        assert!("eni-".parse::<EniId>().is_err());
    }
}
