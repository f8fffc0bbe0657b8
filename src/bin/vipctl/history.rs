//! `vipctl history`

use std::process::ExitCode;

use clap::Args;
use vipd::proto::{HistoryRequest, Move, Status};

use crate::Output;
use crate::client::Client;
use crate::error::Error;
use crate::render::{self, Column, Tone, clean, dash, ms, tone};

/// Show past moves, newest first, and where the time of each went
///
/// They are those that the asked member has in its copy of the log: the first line names it, and a
/// second says so where it has no quorum and its list may be old. With -o json there is the list alone.
/// Of many moves of many route tables the older ones come without EC2's request ids: request_ids_left_out
/// is how many these were.
///
/// The new owner measures. A failover's time counts from when it last heard the old owner; a switchover's from
/// the old owner's word, which comes after its verdict on HAProxy and the end of its own calls to EC2.
#[derive(Args)]
#[command(after_help = "\
Examples:
  vipctl history -n 3
  vipctl history -n 0 -o json | jq '.[] | [.at, .kind, .total_ms] | @tsv' -r")]
pub struct Arguments {
    /// At most this many moves; 0: all that the group keeps
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 10)]
    limit: u32,
}

pub async fn run(client: &Client, output: Output, arguments: &Arguments) -> Result<ExitCode, Error> {
    let deadline = client.deadline();
    let mut session = client.connect(deadline).await?;
    let request = HistoryRequest { limit: arguments.limit };
    let moves = session.history(request, deadline).await?.moves;
    match output {
        Output::Table => render::print(&(seen_by(session.local.as_ref()) + &page(&moves)))?,
        Output::Json => render::print(&render::json(&moves)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whose list it is. A member answers from its own copy of the log, which grows only while it has a quorum.
fn seen_by(member: Option<&Status>) -> String {
    let Some(member) = member else { return String::new() };
    let name = clean(&member.seen_by);
    let mut line = format!("{}   {} {name}\n", tone(Tone::Bold, &member.cluster), tone(Tone::Dim, "seen by"));
    if member.state == "no-quorum" {
        let why = "it has no quorum: newer moves may be missing; ask another member: --endpoint URL";
        line.push_str(&format!("  {} {why}\n", tone(Tone::Warn, "!")));
    }
    line + "\n"
}

fn page(moves: &[Move]) -> String {
    if moves.is_empty() {
        return "no moves yet\n".into();
    }
    let columns = [
        Column::left("WHEN"),
        Column::left("KIND"),
        Column::left("FROM"),
        Column::left("TO"),
        Column::right("TERM"),
        Column::right("TOTAL"),
        Column::left("REASON"),
    ];
    let rows = moves.iter().map(|m| {
        vec![
            dash(&m.at),
            render::move_kind(m),
            dash(m.from.as_deref().unwrap_or_default()),
            dash(&m.to),
            m.term.to_string(),
            m.total_ms.map_or_else(|| "-".into(), ms),
            dash(&m.reason),
        ]
    });
    let mut page = render::table(&columns, rows);
    for m in moves {
        page.push('\n');
        page.push_str(&format!("{}  ", tone(Tone::Dim, &m.at)));
        page.push_str(&render::move_in_words(m));
        page.push('\n');
        page.push_str(&render::waterfall(m));
        if !m.request_ids.is_empty() {
            let ids = tone(Tone::Dim, &m.request_ids.join(" "));
            page.push_str(&format!("  {} {ids}\n", tone(Tone::Dim, "EC2 requests")));
        }
        if m.request_ids_left_out != 0 {
            let left_out = format!("{} left out: the new owner's log has them", m.request_ids_left_out);
            page.push_str(&format!("  {} {left_out}\n", tone(Tone::Dim, "EC2 requests")));
        }
    }
    page
}
