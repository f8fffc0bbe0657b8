//! `vipctl pause`

use std::process::ExitCode;

use clap::Args;
use vipd::proto::OrderRequest;

use crate::Output;
use crate::client::Client;
use crate::error::Error;
use crate::order::{self, Order};

/// Keep the VIP where it is, until resume
///
/// No move for health, by failback or by an operator without --force. A failover from a dead leader
/// still happens, and an owner whose vipd is stopped still hands over.
#[derive(Args)]
#[command(after_help = "Example:\n  vipctl pause")]
pub struct Arguments {}

pub async fn run(client: &Client, output: Output) -> Result<ExitCode, Error> {
    let request = OrderRequest { order: Order::Pause.into(), ..OrderRequest::default() };
    let words = "the group is paused: the VIP stays, unless its owner dies or stops, until vipctl resume";
    order::give(client, output, request, None, words).await
}
