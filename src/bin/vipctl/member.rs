//! `vipctl member`

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use vipd::proto::members_request::Change;
use vipd::proto::{Member, Members, MembersRequest, Newcomer};

use crate::client::Client;
use crate::error::Error;
use crate::render::{self, Column, Tone, dash, tone};
use crate::{Output, duration};

/// List the members, take one in, make it a voter, remove or replace one
#[derive(Args)]
#[command(after_help = "\
A member that was wiped comes back by itself under its old name and address: nothing is to be done here.

Examples:
  vipctl member list
  vipctl member add az-d --peer 10.0.4.10:7400 && vipctl member promote az-d
  vipctl member replace az-c az-d --peer 10.0.4.10:7400
  vipctl member remove az-c")]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Who is in the group, and who votes
    #[command(after_help = "Example:\n  vipctl member list -o json | jq '.members[] | select(.voter)'")]
    List,
    /// Take in a new member as a learner: it gets the log and does not vote
    ///
    /// Start its vipd first, or meanwhile: its file lists the members and itself. Returns when it has the
    /// log. Refused (exit 4) if its name or address is another's, or if it is not there within --wait.
    #[command(after_help = "Example:\n  vipctl member add az-d --peer 10.0.4.10:7400 --wait 1m")]
    Add {
        /// The new member, as its own vipd.toml names it
        #[arg(value_name = "NAME")]
        member: String,
        #[command(flatten)]
        newcomer: New,
        /// How long it may take, besides --timeout: 500ms, 10s, 2m
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
        wait: Duration,
    },
    /// Make a learner a voter
    ///
    /// Refused (exit 4) if it does not answer or lags, or if the group would lose its quorum by it.
    #[command(after_help = "Example:\n  vipctl member promote az-d")]
    Promote {
        /// The learner, as vipctl member list names it
        #[arg(value_name = "NAME")]
        member: String,
        /// How long it may take, besides --timeout: 500ms, 10s, 2m
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
        wait: Duration,
    },
    /// Put a member out of the group, dead or alive
    ///
    /// The owner hands over first. Refused (exit 4) if the voters that are left and answer are no majority.
    /// The member's vipd says that it was removed, and does no harm; stop it.
    #[command(after_help = "Example:\n  vipctl member remove az-c")]
    Remove {
        /// The member, as vipctl member list names it
        #[arg(value_name = "NAME")]
        member: String,
        /// Let the owner hand over although the group is paused
        #[arg(long)]
        force: bool,
        /// How long it may take, besides --timeout: 500ms, 10s, 2m
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
        wait: Duration,
    },
    /// Put a new member in another's place, in one change
    ///
    /// As add, promote and remove together, but the group never has a voter more or fewer. Without NEW the
    /// name stays and the address is another: the old one must not live.
    #[command(after_help = "\
Examples:
  vipctl member replace az-c az-d --peer 10.0.4.10:7400
  vipctl member replace az-c --peer 10.0.3.11:7400")]
    Replace {
        /// The member that goes, as vipctl member list names it
        #[arg(value_name = "OLD")]
        old: String,
        /// The one that comes, as its own vipd.toml names it; none: OLD comes back at another address
        #[arg(value_name = "NEW")]
        new: Option<String>,
        #[command(flatten)]
        newcomer: New,
        /// Let the owner hand over although the group is paused
        #[arg(long)]
        force: bool,
        /// How long it may take, besides --timeout: 500ms, 10s, 2m
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
        wait: Duration,
    },
}

/// What a new member is, until its own file says so.
#[derive(Args)]
struct New {
    /// Where the others reach it
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    /// Where operators reach it
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// It votes, and never owns
    #[arg(long)]
    witness: bool,
    /// A higher one is the better target of a move (100)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    priority: Option<u32>,
}

impl New {
    fn named(self, name: String) -> Newcomer {
        let New { peer, admin, witness, priority } = self;
        Newcomer { name, peer, admin, witness, priority }
    }
}

pub async fn run(client: &Client, output: Output, arguments: Arguments) -> Result<ExitCode, Error> {
    let ask = |change: Change, member: String| MembersRequest {
        change: change.into(),
        member,
        ..MembersRequest::default()
    };
    let (request, wait, words) = match arguments.verb {
        Verb::List => return list(client, output).await,
        Verb::Add { member, newcomer, wait } => {
            let words = format!(
                "{member} gets the log, as a learner: vipctl member promote {member} makes it a voter"
            );
            let newcomer = Some(newcomer.named(member));
            (MembersRequest { newcomer, ..ask(Change::Add, String::new()) }, wait, words)
        }
        Verb::Promote { member, wait } => {
            let words = format!("{member} votes");
            (ask(Change::Promote, member), wait, words)
        }
        Verb::Remove { member, force, wait } => {
            let words = format!("{member} is out of the group: stop its vipd");
            (MembersRequest { force, ..ask(Change::Remove, member) }, wait, words)
        }
        Verb::Replace { old, new, newcomer, force, wait } => {
            let words = match &new {
                Some(new) if *new != old => format!("{new} is in the place of {old}: stop the vipd of {old}"),
                Some(_) | None => format!("{old} is at {}", newcomer.peer),
            };
            let newcomer = Some(newcomer.named(new.unwrap_or_else(|| old.clone())));
            (MembersRequest { newcomer, force, ..ask(Change::Replace, old) }, wait, words)
        }
    };
    let mut session = client.connect(client.deadline()).await?;
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let deadline = client.deadline() + wait;
    let members = session.change_members(MembersRequest { wait_ms, ..request }, deadline).await?;
    match output {
        Output::Table => {
            let moved = members.last_move.as_ref();
            let moved = moved.map(|m| format!("{}\n{}", render::move_in_words(m), render::waterfall(m)));
            let warnings = warnings(&members);
            render::print(&format!("{}{}\n{warnings}", moved.unwrap_or_default(), tone(Tone::Good, &words)))?;
        }
        Output::Json => render::print(&render::json(&members)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, output: Output) -> Result<ExitCode, Error> {
    let deadline = client.deadline();
    let mut session = client.connect(deadline).await?;
    let request = MembersRequest { change: Change::List.into(), ..MembersRequest::default() };
    let members = session.members(request, deadline).await?;
    match output {
        Output::Table => render::print(&page(&members))?,
        Output::Json => render::print(&render::json(&members)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: &[Column] = &[
    Column::left("NAME"),
    Column::left("IN THE GROUP"),
    Column::right("PRIORITY"),
    Column::left("ZONE"),
    Column::left("PEER"),
    Column::left("ADMIN"),
    Column::right("LAG"),
    Column::left("DIRECTORY"),
];

fn page(members: &Members) -> String {
    let changing = if members.changing {
        format!("  {} a change of the voters is half done: the leader ends it\n", tone(Tone::Warn, "!"))
    } else {
        String::new()
    };
    let table = render::table(COLUMNS, members.members.iter().map(row));
    format!("{table}{changing}{}", warnings(members))
}

fn warnings(members: &Members) -> String {
    let line = |warning: &String| format!("{} {}\n", tone(Tone::Warn, "warning:"), render::clean(warning));
    members.warnings.iter().map(line).collect()
}

fn row(m: &Member) -> Vec<String> {
    let part = match (m.role.as_str(), m.voter, m.witness) {
        ("removed", _, _) => tone(Tone::Bad, "removed"),
        (_, true, true) => "witness".to_owned(),
        (_, true, false) => "voter".to_owned(),
        (_, false, _) => tone(Tone::Warn, "learner"),
    };
    let lag = if m.reachable { m.lag.to_string() } else { tone(Tone::Bad, "silent") };
    let priority = m.priority.to_string();
    let texts = [&m.zone, &m.peer, &m.admin].map(|text| dash(text));
    let [zone, peer, admin] = texts;
    vec![tone(Tone::Bold, &m.name), part, priority, zone, peer, admin, lag, dash(&m.incarnation)]
}
