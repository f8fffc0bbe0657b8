//! `vipctl drain`

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use vipd::proto::OrderRequest;

use crate::client::Client;
use crate::error::Error;
use crate::order::{self, Order};
use crate::{Output, duration};

/// Keep a member from owning the VIP, until undrain
///
/// The owner hands over first, and the verb returns when the route has moved; it is refused (exit 4) if
/// no other member may own, or while the group is paused. A drained member goes on voting. The deadline
/// is --timeout and --wait together.
#[derive(Args)]
#[command(after_help = "\
Examples:
  vipctl drain az-a
  vipctl drain az-a --wait 30s && systemctl restart haproxy && vipctl undrain az-a")]
pub struct Arguments {
    /// The member, as vipctl status names it
    #[arg(value_name = "NAME")]
    member: String,
    /// How long the route may take to move: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    wait: Duration,
    /// Let the owner hand over although the group is paused
    #[arg(long)]
    force: bool,
}

pub async fn run(client: &Client, output: Output, arguments: Arguments) -> Result<ExitCode, Error> {
    let Arguments { member, wait, force } = arguments;
    let words = format!("{member} is drained: it owns nothing until vipctl undrain {member}");
    let request = OrderRequest { order: Order::Drain.into(), member, force, ..OrderRequest::default() };
    order::give(client, output, request, Some(wait), &words).await
}
