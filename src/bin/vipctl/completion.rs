//! `vipctl completion`

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};

use crate::error::Error;
use crate::{Cli, render};

/// Print a script that completes vipctl's words in your shell
///
/// It is a script whatever -o says.
#[derive(Args)]
#[command(after_help = "Example:\n  vipctl completion bash > /etc/bash_completion.d/vipctl")]
pub struct Arguments {
    /// Whose completion it is
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "vipctl", &mut script);
    render::print_bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}
