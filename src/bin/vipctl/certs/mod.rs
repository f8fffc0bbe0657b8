//! `vipctl certs`: a CA and certificates for those who have no PKI. Nothing is asked of any member.

mod files;
mod init;
mod issue;
mod revoke;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::Output;
use crate::error::Error;

/// Make a CA and certificates for members, operators and viewers, and show what stands in them
///
/// A certificate names its holder by one URI: spiffe://CLUSTER/member/NAME speaks Raft on the peer port,
/// /operator/NAME may use every verb, /viewer/NAME those that change nothing. Keep ca.key on no member: who
/// has it can pass for anybody.
#[derive(Args)]
#[command(after_help = "\
Examples:
  vipctl certs init --cluster edge --dir pki
  vipctl certs issue member az-a --dir pki
  vipctl certs issue operator alice --dir pki
  vipctl certs revoke pki/operator-alice.pem --dir pki
  vipctl certs show pki/*.pem")]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Init(init::Arguments),
    Issue(issue::Arguments),
    Revoke(revoke::Arguments),
    Show(show::Arguments),
}

pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Error> {
    match &arguments.what {
        What::Init(arguments) => init::run(arguments, output),
        What::Issue(arguments) => issue::run(arguments, output),
        What::Revoke(arguments) => revoke::run(arguments, output),
        What::Show(arguments) => show::run(arguments, output),
    }
}
