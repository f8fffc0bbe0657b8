//! `vipctl transfer-leader`

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use vipd::proto::{Move, Right, TransferLeaderRequest};

use crate::client::Client;
use crate::error::{Error, Kind};
use crate::render::{self, Tone, tone};
use crate::{Output, duration};

/// Move the VIP to another member; returns when the route has moved
///
/// Without --to the best healthy member is taken: by priority, then by lag. The deadline is --timeout and --wait together.
#[derive(Args)]
#[command(after_help = "\
Examples:
  vipctl transfer-leader --dry-run
  vipctl transfer-leader --to az-b --wait 30s")]
pub struct Arguments {
    /// The member that shall own the VIP
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// How long the route may take to move: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    wait: Duration,
    /// Say what would happen, what EC2 said of the target's permissions too, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Move although the group is paused
    #[arg(long)]
    force: bool,
}

pub async fn run(client: &Client, output: Output, arguments: Arguments) -> Result<ExitCode, Error> {
    let mut session = client.connect(client.deadline()).await?;
    let request = TransferLeaderRequest {
        to: arguments.to,
        wait_ms: u64::try_from(arguments.wait.as_millis()).unwrap_or(u64::MAX),
        dry_run: arguments.dry_run,
        force: arguments.force,
    };
    let deadline = client.deadline() + arguments.wait;
    let answer = session.transfer_leader(request, deadline).await?;
    let last_move = answer.last_move.ok_or_else(|| {
        let next = "see vipctl history -n 1";
        Error::new(Kind::Failed, format!("{}: answered without a move", session.endpoint), next)
    })?;
    match output {
        Output::Table if arguments.dry_run => {
            render::print(&would(&last_move, &answer.rights, &answer.not_asked))?;
        }
        Output::Table => render::print(&page(&last_move))?,
        Output::Json if arguments.dry_run => {
            let (rights, not_asked) = (&answer.rights, &answer.not_asked);
            render::print(&render::json(&Would {
                last_move: &last_move,
                dry_run: answer.dry_run,
                rights,
                not_asked,
            })?)?;
        }
        Output::Json => render::print(&render::json(&last_move)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A move that would be, with what is known of the target's permissions.
#[derive(Serialize)]
struct Would<'a> {
    #[serde(flatten)]
    last_move: &'a Move,
    dry_run: bool,
    rights: &'a [Right],
    not_asked: &'a [String],
}

fn would(m: &Move, rights: &[Right], not_asked: &[String]) -> String {
    let mut text = format!("would move: {}\n", render::move_in_words(m));
    for right in rights {
        let table = render::clean(&right.route_table);
        let said = if right.allowed {
            format!("{} may change it, EC2 said {} s ago (DryRun)", render::clean(&m.to), right.age_ms / 1000)
        } else {
            tone(Tone::Bad, &right.error)
        };
        text.push_str(&format!("  {table}  {said}\n"));
    }
    for table in not_asked {
        text.push_str(&format!("  {}  EC2 was not asked yet\n", render::clean(table)));
    }
    text.push_str(&format!("{}\n", tone(Tone::Dim, "nothing was changed")));
    text
}

fn page(m: &Move) -> String {
    format!("{}\n{}", render::move_in_words(m), render::waterfall(m))
}
