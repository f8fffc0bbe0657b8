//! vipctl, the operators' program: it asks any member, prints what it answered, and says by its
//! exit code how that went.
//!
//! ```text
//! main (arguments) -> client (which member answers) -> a verb (what to ask) -> render (how it looks)
//!                                   error (cause, next step, exit code)
//! ```

mod certs;
mod client;
mod completion;
mod doctor;
mod drain;
mod duration;
mod error;
mod history;
mod iam_policy;
mod manual;
mod member;
mod order;
mod pause;
mod render;
mod resume;
mod routes;
mod status;
mod transfer_leader;
mod undrain;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client::Client;
use crate::error::{Error, Kind};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage or configuration
  3  no leader or no quorum, or a member that answered fell silent
  4  refused, a precondition does not hold
  5  no endpoint reached

Errors go to standard error as `error: CAUSE` and `next: NEXT`, with -o json to standard output as
{\"error\":{\"kind\",\"cause\",\"next\"}}.

Example:
  vipctl --endpoint https://10.0.1.10:7401 --endpoint https://10.0.2.10:7401 \\
         --ca ca.pem --cert me.pem --key me.key status";

/// Ask a vipd group how it is, and move its VIP
#[derive(Parser)]
#[command(name = "vipctl", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// A member to ask, as http://, https:// or unix:PATH; repeat it to have several tried in order
    #[arg(long = "endpoint", value_name = "URL", global = true, value_delimiter = ',')]
    #[arg(env = "VIPCTL_ENDPOINTS", hide_env_values = true)]
    #[arg(default_value = "unix:/run/vipd/admin.sock")]
    pub endpoints: Vec<String>,
    /// The CA that issued the members' certificates, PEM; https:// needs it and the next two
    #[arg(long, value_name = "FILE", global = true, env = "VIPCTL_CA", hide_env_values = true)]
    pub ca: Option<PathBuf>,
    /// Your certificate, an operator's or a viewer's, PEM
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        requires = "key",
        env = "VIPCTL_CERT",
        hide_env_values = true
    )]
    pub cert: Option<PathBuf>,
    /// Your certificate's key, PEM
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        requires = "cert",
        env = "VIPCTL_KEY",
        hide_env_values = true
    )]
    pub key: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "table", global = true)]
    pub output: Output,
    /// How long to wait for an answer, over all endpoints: 500ms, 5s, 2m
    #[arg(long, value_name = "TIME", default_value = "5s", global = true)]
    #[arg(value_parser = duration::parse)]
    pub timeout: Duration,
}

/// For people or for programs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Subcommand)]
enum Verb {
    Status(status::Arguments),
    Routes(routes::Arguments),
    TransferLeader(transfer_leader::Arguments),
    Drain(drain::Arguments),
    Undrain(undrain::Arguments),
    Pause(pause::Arguments),
    Resume(resume::Arguments),
    History(history::Arguments),
    Certs(certs::Arguments),
    Doctor(doctor::Arguments),
    IamPolicy(iam_policy::Arguments),
    Member(member::Arguments),
    Completion(completion::Arguments),
    #[command(hide = true)]
    Manual(manual::Arguments),
}

// One connection at a time: a second thread would have nothing to do.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(wrong) => return wrong_usage(&wrong),
    };
    let output = cli.global.output;
    match run(cli).await {
        Ok(code) => code,
        Err(error) => {
            error.report(output);
            error.kind.exit_code()
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Error> {
    let output = cli.global.output;
    let client = || Client::new(&cli.global);
    match cli.verb {
        Verb::Status(arguments) => status::run(&client()?, output, &arguments).await,
        Verb::Routes(_) => routes::run(&client()?, output).await,
        Verb::TransferLeader(arguments) => transfer_leader::run(&client()?, output, arguments).await,
        Verb::Drain(arguments) => drain::run(&client()?, output, arguments).await,
        Verb::Undrain(arguments) => undrain::run(&client()?, output, arguments).await,
        Verb::Pause(_) => pause::run(&client()?, output).await,
        Verb::Resume(_) => resume::run(&client()?, output).await,
        Verb::History(arguments) => history::run(&client()?, output, &arguments).await,
        Verb::Certs(arguments) => certs::run(&arguments, output),
        Verb::Doctor(_) => doctor::run(&client()?, output).await,
        Verb::IamPolicy(arguments) => iam_policy::run(&cli.global, arguments).await,
        Verb::Member(arguments) => member::run(&client()?, output, arguments).await,
        Verb::Completion(arguments) => completion::run(&arguments),
        Verb::Manual(arguments) => manual::run(&arguments),
    }
}

/// What clap refuses: in its own words for people, as the contract's object where JSON was asked
/// for, as far as the arguments can be read.
fn wrong_usage(wrong: &clap::Error) -> ExitCode {
    let asked_for_help = matches!(wrong.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let wants_json = arguments.iter().any(|a| ["-ojson", "-o=json", "--output=json"].contains(&a.as_str()))
        || arguments.windows(2).any(
            |pair| matches!(pair, [flag, value] if (flag == "-o" || flag == "--output") && value == "json"),
        );
    if let Some(next) = missing_verb(wrong) {
        let output = if wants_json { Output::Json } else { Output::Table };
        if !wants_json && wrong.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            let _ = wrong.print();
        }
        Error::new(Kind::Usage, "a verb is missing".to_owned(), next).report(output);
    } else if wants_json && !asked_for_help {
        Error::new(Kind::Usage, cause_of(wrong), "see vipctl --help").report(Output::Json);
    } else {
        // Nobody is left to tell where standard error is closed.
        let _ = wrong.print();
    }
    // clap's own: 0 for --help and --version, 2 for the rest.
    ExitCode::from(u8::try_from(wrong.exit_code()).unwrap_or(2))
}

/// Whose help to see where a verb is missing. clap's own words are the help's title, or list hidden verbs too.
fn missing_verb(wrong: &clap::Error) -> Option<String> {
    let kinds = [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
    if !kinds.contains(&wrong.kind()) {
        return None;
    }
    let text = wrong.to_string();
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or("vipctl");
    let command: Vec<_> = usage.split(' ').take_while(|word| !word.starts_with(['[', '<'])).collect();
    Some(format!("see {} --help", command.join(" ")))
}

/// In one line: clap names what is missing, or what is possible, in lines of its own, indented below the first. What
/// follows after an empty line is usage.
fn cause_of(wrong: &clap::Error) -> String {
    let text = wrong.to_string();
    let paragraph = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let cause = paragraph.collect::<Vec<_>>().join(" ");
    cause.strip_prefix("error: ").unwrap_or(&cause).to_owned()
}
