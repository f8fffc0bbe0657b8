//! `vipctl undrain`

use std::process::ExitCode;

use clap::Args;
use vipd::proto::OrderRequest;

use crate::Output;
use crate::client::Client;
use crate::error::Error;
use crate::order::{self, Order};

/// Let a drained member own the VIP again
///
/// Nothing moves by it, unless policy.failback is on and the member has the highest priority.
#[derive(Args)]
#[command(after_help = "Example:\n  vipctl undrain az-a")]
pub struct Arguments {
    /// The member, as vipctl status names it
    #[arg(value_name = "NAME")]
    member: String,
}

pub async fn run(client: &Client, output: Output, arguments: Arguments) -> Result<ExitCode, Error> {
    let words = format!("{} may own the VIP", arguments.member);
    let request =
        OrderRequest { order: Order::Undrain.into(), member: arguments.member, ..OrderRequest::default() };
    order::give(client, output, request, None, &words).await
}
