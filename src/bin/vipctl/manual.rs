//! `vipctl manual`, for the package

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};

use crate::Cli;
use crate::error::{Error, Kind};

/// Write the manual pages, one a verb, into a directory
#[derive(Args)]
pub struct Arguments {
    dir: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    match clap_mangen::generate_to(Cli::command(), &arguments.dir) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            let cause = format!("{}: {error}", arguments.dir.display());
            Err(Error::new(Kind::Failed, cause, "name a directory that exists and can be written"))
        }
    }
}
