//! `vipctl routes`

use std::process::ExitCode;

use clap::Args;

use crate::client::Client;
use crate::error::Error;
use crate::{Output, render, status};

/// Show every VIP in every route table: where it points, and whether that is in sync
///
/// States: active, blackhole (the target is gone), missing (no such route), unknown (not looked
/// yet, or the look failed). Without a quorum it prints what the asked member knows and exits 3.
#[derive(Args)]
#[command(after_help = "\
Examples:
  vipctl routes
  vipctl routes -o json | jq -e 'all(.[].routes[]; .in_sync)'")]
pub struct Arguments {}

pub async fn run(client: &Client, output: Output) -> Result<ExitCode, Error> {
    let view = status::look(client, &mut None).await?;
    match output {
        Output::Table => render::print(&status::route_table(&view.status))?,
        Output::Json => render::print(&render::json(&view.status.vips)?)?,
    }
    Ok(view.finish(output))
}
