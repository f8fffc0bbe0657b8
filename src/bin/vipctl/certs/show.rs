//! `vipctl certs show`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use vipd::tls::{Described, Identity, describe};

use super::files::{days_left, shown};
use crate::Output;
use crate::error::{Error, Kind};
use crate::render::{self, Column, Tone, clean, dash, tone};

/// Show what stands in certificates: whose they are, who issued them, how long they are valid
#[derive(Args)]
#[command(after_help = "\
Examples:
  vipctl certs show /etc/vipd/*.pem
  vipctl certs show -o json /etc/vipd/az-a.pem | jq -e '.[0].days > 7'")]
pub struct Arguments {
    /// PEM files; each may hold several
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Shown {
    file: PathBuf,
    identity: Option<String>,
    role: Option<&'static str>,
    name: Option<String>,
    cluster: Option<String>,
    ca: bool,
    subject: String,
    issuer: String,
    serial: String,
    not_before: String,
    expires: String,
    days: i64,
}

// As in the first of the warnings that a member gives.
const SOON_DAYS: i64 = 30;

pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Error> {
    let mut all = Vec::new();
    for file in &arguments.files {
        for described in read(file)? {
            all.push(shown_of(file, described));
        }
    }
    match output {
        Output::Json => render::print(&render::json(&all)?)?,
        Output::Table => render::print(&table(&all))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Vec<Described>, Error> {
    let next = "name a file with certificates in PEM";
    let bytes = std::fs::read(file)
        .map_err(|error| Error::new(Kind::Usage, format!("cannot read {}: {error}", file.display()), next))?;
    describe(&bytes).map_err(|_| {
        Error::new(Kind::Failed, format!("{} holds no certificate in PEM", file.display()), next)
    })
}

fn shown_of(file: &Path, described: Described) -> Shown {
    let identity: Option<Identity> = match described.uris.as_slice() {
        [uri] => uri.parse().ok(),
        _ => None,
    };
    let days = days_left(described.until);
    Shown {
        file: file.to_owned(),
        role: identity.as_ref().map(|i| i.role.label()),
        name: identity.as_ref().map(|i| i.name.to_string()),
        cluster: match &identity {
            Some(identity) => Some(identity.cluster.to_string()),
            None => described.uris.iter().find_map(|u| u.strip_prefix("spiffe://")).map(str::to_owned),
        },
        identity: identity.map(|i| i.to_string()),
        ca: described.is_ca,
        subject: described.subject,
        issuer: described.issuer,
        serial: described.serial,
        not_before: shown(described.from),
        expires: shown(described.until),
        days,
    }
}

fn table(all: &[Shown]) -> String {
    let columns = [
        Column::left("FILE"),
        Column::left("WHO"),
        Column::left("ISSUED BY"),
        Column::left("EXPIRES"),
        Column::right("DAYS"),
    ];
    let rows = all.iter().map(|c| {
        let who = match &c.identity {
            Some(identity) => clean(identity),
            None if c.ca => format!("the CA of {}", dash(c.cluster.as_deref().unwrap_or_default())),
            None => tone(Tone::Bad, "nobody of a cluster"),
        };
        let left = match c.days {
            d if d < 0 => Tone::Bad,
            d if d < SOON_DAYS => Tone::Warn,
            _ => Tone::Good,
        };
        vec![
            clean(&c.file.display().to_string()),
            who,
            clean(&c.issuer),
            clean(&c.expires),
            tone(left, &c.days.to_string()),
        ]
    });
    render::table(&columns, rows)
}
