//! The file's shape: which tables and keys there are and the TOML type of each. Nothing here is
//! required, so that everything that is missing can be named at once by `check`.

use serde::Deserialize;
use toml::Spanned;

use super::reason::Reason;
use super::report::{ConfigError, Mistake, Text};

pub(super) type Word = Option<Spanned<String>>;
pub(super) type Number = Option<Spanned<i64>>;
pub(super) type Flag = Option<Spanned<bool>>;
pub(super) type Words = Option<Spanned<Vec<Spanned<String>>>>;
pub(super) type Table<T> = Option<Spanned<T>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Raw {
    pub cluster: Word,
    pub member: Word,
    pub data_dir: Word,
    pub peer: Table<Peer>,
    pub admin: Table<Admin>,
    #[serde(default)]
    pub members: Vec<Spanned<Member>>,
    pub vip: Table<Vip>,
    pub aws: Table<Aws>,
    pub raft: Table<Raft>,
    pub health: Table<Health>,
    pub policy: Table<Policy>,
    pub tls: Table<Tls>,
    pub metrics: Table<Metrics>,
    pub log: Table<Log>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Peer {
    pub listen: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Admin {
    pub listen: Word,
    pub socket: Word,
    pub group: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Member {
    pub name: Word,
    pub peer: Word,
    pub admin: Word,
    pub zone: Word,
    pub priority: Number,
    pub witness: Flag,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Vip {
    pub addresses: Words,
    pub interface: Word,
    pub lifetime_s: Number,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Aws {
    pub region: Word,
    pub route_tables: Words,
    pub route_table_tag: Word,
    pub eni: Word,
    pub endpoint_url: Word,
    pub assume_role_arn: Word,
    pub create_missing: Flag,
    pub source_dest_check: Word,
    pub attempt_timeout_ms: Number,
    pub reconcile_s: Number,
    pub warm_connections: Number,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Raft {
    pub profile: Word,
    pub heartbeat_ms: Number,
    pub election_ms: Option<Spanned<Vec<Spanned<i64>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Health {
    pub haproxy_socket: Word,
    pub http: Word,
    pub interval_ms: Number,
    pub timeout_ms: Number,
    pub fall: Number,
    pub rise: Number,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Policy {
    pub on_quorum_loss: Word,
    pub failback: Flag,
    pub min_hold_s: Number,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Tls {
    pub ca: Word,
    pub cert: Word,
    pub key: Word,
    pub crl: Word,
    pub insecure: Flag,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Metrics {
    pub listen: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Log {
    pub filter: Word,
}

/// Syntax first, then shape: the first error of either.
pub(super) fn parse(text: &Text) -> Result<Raw, ConfigError> {
    let tokens = toml::Deserializer::parse(text.as_str()).map_err(|e| {
        let reason = Reason::Syntax { message: e.message().to_owned() };
        mistake(text, &e, reason, "here")
    })?;
    Raw::deserialize(tokens).map_err(|e| {
        let (reason, label) = shape(e.message());
        mistake(text, &e, reason, label)
    })
}

fn mistake(text: &Text, e: &toml::de::Error, reason: Reason, label: &'static str) -> ConfigError {
    let span = e.span().unwrap_or(0..0);
    ConfigError::new(vec![Mistake::new(text, reason, vec![(span, label)])])
}

/// serde says what it expected only in words. They are kept where they are not understood.
fn shape(message: &str) -> (Reason, &'static str) {
    if let Some((key, expected)) =
        message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, expected "))
    {
        // The odd pieces between backticks are the names.
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let near = known.iter().min_by_key(|k| distance(k, key));
        let near = near.filter(|k| distance(k, key) <= key.len().min(9) / 3);
        let reason = Reason::UnknownKey {
            key: key.to_owned(),
            hint: near.map(|k| format!("did you mean {k}? ")).unwrap_or_default(),
            known: known.join(", "),
        };
        return (reason, "not a key of this table");
    }
    let message = message
        .replace("expected i64", "expected a whole number")
        .replace("expected a sequence", "expected an array");
    (Reason::WrongType { message }, "wrong type")
}

/// How many letters to add, drop or change to get from one word to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, pair) in b.chars().zip(row.windows(2)) {
            if let [diagonal, up] = pair {
                left = (diagonal + usize::from(x != y)).min(up + 1).min(left + 1);
                next.push(left);
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
