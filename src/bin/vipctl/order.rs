//! What drain, undrain, pause and resume have in common.

use std::process::ExitCode;
use std::time::Duration;

use vipd::proto::OrderRequest;
pub use vipd::proto::order_request::Order;

use crate::Output;
use crate::client::Client;
use crate::error::Error;
use crate::render::{self, Tone, tone};

/// Gives the order and prints what came of it: `words` for people, every order that stands for
/// programs. `wait` is added to `--timeout`.
pub async fn give(
    client: &Client,
    output: Output,
    request: OrderRequest,
    wait: Option<Duration>,
    words: &str,
) -> Result<ExitCode, Error> {
    let mut session = client.connect(client.deadline()).await?;
    let within = wait.unwrap_or_else(|| client.patience());
    let wait_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    let deadline = client.deadline() + wait.unwrap_or_default();
    let standing = session.order(OrderRequest { wait_ms, ..request }, deadline).await?;
    match output {
        Output::Table => {
            let moved = standing.last_move.as_ref();
            let moved = moved.map(|m| format!("{}\n{}", render::move_in_words(m), render::waterfall(m)));
            render::print(&format!("{}{}\n", moved.unwrap_or_default(), tone(Tone::Good, words)))?;
        }
        Output::Json => render::print(&render::json(&standing)?)?,
    }
    Ok(ExitCode::SUCCESS)
}
