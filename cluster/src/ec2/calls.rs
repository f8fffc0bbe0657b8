//! Every call that reached the endpoint, in memory and as JSON lines in `calls.jsonl`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// An hour at thirty calls a second; older ones are still in the file.
const KEPT: usize = 100_000;

/// One call. Times are CLOCK_BOOTTIME nanoseconds unless they say otherwise.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Call {
    /// Counts from 1 in the order of arrival.
    pub id: u64,
    /// As in the answer.
    pub request_id: String,
    /// When the request's head was read.
    pub received_boot_ns: u64,
    /// The same on the wall clock.
    pub received_unix_ms: u64,
    /// When it took effect (or was read); null: never, or not yet.
    pub executed_boot_ns: Option<u64>,
    /// When the answer was handed to the socket; null: never, or not yet.
    pub answered_boot_ns: Option<u64>,
    /// The caller's address, or `hand`.
    pub source: String,
    /// And its port: whose calls share one share a connection.
    pub port: u16,
    /// The member with that address.
    pub member: Option<String>,
    /// `ReplaceRoute`; empty where the body never came.
    pub action: String,
    /// RouteTableId.
    pub table: Option<String>,
    /// DestinationCidrBlock or DestinationIpv6CidrBlock.
    pub destination: Option<String>,
    /// NetworkInterfaceId.
    pub eni: Option<String>,
    /// DryRun.
    pub dry_run: bool,
    /// The User-Agent, whole.
    pub user_agent: String,
    /// What its tail says.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The faults that were applied.
    pub faults: Vec<String>,
    /// `ok`, EC2's error code, `pending`, `hung`, or `incomplete` where the body broke off.
    pub outcome: String,
}

/// The tail ` vipd/VERSION (cluster=edge; member=az-a; term=7; epoch=93)` of a User-Agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// vipd's version.
    pub version: Option<String>,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// The member as it names itself.
    pub claims_member: Option<String>,
    /// The term.
    pub term: Option<u64>,
    /// The claim's epoch.
    pub epoch: Option<u64>,
}

impl Stamp {
    /// Everything absent unless the text ends as vipd's requests do.
    pub fn parse(user_agent: &str) -> Self {
        Self::tail(user_agent).unwrap_or_default()
    }

    fn tail(user_agent: &str) -> Option<Self> {
        let (_, tail) = user_agent.rsplit_once("vipd/")?;
        let (version, rest) = tail.split_once(" (")?;
        let inside = rest.strip_suffix(')')?;
        let mut stamp = Self { version: Some(version.into()), ..Self::default() };
        for pair in inside.split("; ") {
            let (key, value) = pair.split_once('=')?;
            match key {
                "cluster" => stamp.cluster = Some(value.into()),
                "member" => stamp.claims_member = Some(value.into()),
                "term" => stamp.term = Some(value.parse().ok()?),
                "epoch" => stamp.epoch = Some(value.parse().ok()?),
                _ => {}
            }
        }
        Some(stamp)
    }
}

/// The log.
pub struct Calls {
    kept: VecDeque<Call>,
    next: u64,
    file: Option<File>,
}

impl Calls {
    /// In memory only, or with a file too.
    pub fn new(path: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path| File::options().create(true).append(true).open(path);
        Ok(Self { kept: VecDeque::new(), next: 1, file: path.map(open).transpose()? })
    }

    /// Notes a call's arrival and gives it its id.
    pub fn begin(&mut self, mut call: Call) -> u64 {
        call.id = self.next;
        self.next += 1;
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        let id = call.id;
        self.kept.push_back(call);
        id
    }

    /// Changes a call that is still kept.
    pub fn update(&mut self, id: u64, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self.find(id) {
            change(call);
        }
    }

    /// Writes the call's line: its outcome stands.
    pub fn settle(&mut self, id: u64) {
        let Some(call) = self.find(id) else { return };
        let Ok(mut line) = serde_json::to_vec(call) else { return };
        line.push(b'\n');
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(&line)
        {
            eprintln!("calls.jsonl: {error}");
        }
    }

    /// Those received at `since_ns` or later, in the order of arrival.
    pub fn since(&self, since_ns: u64) -> Vec<Call> {
        self.kept.iter().filter(|call| call.received_boot_ns >= since_ns).cloned().collect()
    }

    fn find(&mut self, id: u64) -> Option<&mut Call> {
        let first = self.kept.front()?.id;
        let index = usize::try_from(id.checked_sub(first)?).ok()?;
        self.kept.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_stamp() {
        let stamp = Stamp::parse(
            "aws-sdk-rust/1.3 os/linux vipd/0.1.0 (cluster=edge; member=az-a; term=7; epoch=93)",
        );
        assert_eq!(
            stamp,
            Stamp {
                version: Some("0.1.0".into()),
                cluster: Some("edge".into()),
                claims_member: Some("az-a".into()),
                term: Some(7),
                epoch: Some(93)
            }
        );
        assert_eq!(Stamp::parse("aws-cli/2 vipd/0.1.0 (term=x)"), Stamp::default());
        assert_eq!(Stamp::parse("curl/8"), Stamp::default());
    }

    #[test]
    fn keeps_the_order() {
        let mut calls = Calls::new(None).unwrap();
        let a = calls.begin(Call { received_boot_ns: 5, ..Call::default() });
        let b = calls.begin(Call { received_boot_ns: 9, ..Call::default() });
        calls.update(b, |call| call.outcome = "ok".into());
        assert_eq!((a, b), (1, 2));
        let late = calls.since(6);
        assert_eq!(late.len(), 1);
        assert_eq!(late[0].outcome, "ok");
    }
}
