//! `vipctl resume`

use std::process::ExitCode;

use clap::Args;
use vipd::proto::OrderRequest;

use crate::Output;
use crate::client::Client;
use crate::error::Error;
use crate::order::{self, Order};

/// End a pause
///
/// A move that had to wait, away from an unhealthy owner for instance, is made at once.
#[derive(Args)]
#[command(after_help = "Example:\n  vipctl resume")]
pub struct Arguments {}

pub async fn run(client: &Client, output: Output) -> Result<ExitCode, Error> {
    let request = OrderRequest { order: Order::Resume.into(), ..OrderRequest::default() };
    order::give(client, output, request, None, "the group is not paused: the VIP moves when it has to").await
}
