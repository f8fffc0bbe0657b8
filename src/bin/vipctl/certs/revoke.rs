//! `vipctl certs revoke`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use serde::Serialize;
use vipd::model::WallMs;
use vipd::tls::{Revoked, describe, revoked};

use super::files::{CRL, DAY_MS, failed, moment};
use super::issue::{Ca, read};
use crate::Output;
use crate::error::{Error, Kind};
use crate::render;

/// When a list says that it should be replaced. vipd counts an older one all the same.
const NEXT_DAYS: u64 = 365;

/// Take certificates back: crl.pem, for tls.crl of every member
///
/// The list keeps what it has. Copy it to each member and have vipd reload: whoever shows such a certificate is let
/// in no more, and whoever is in is out within an hour. An operator whose certificate was lost needs a new one.
#[derive(Args)]
#[command(after_help = "\
Examples:
  vipctl certs revoke pki/operator-alice.pem --dir pki
  vipctl certs revoke old/az-b.pem old/az-c.pem --dir pki")]
pub struct Arguments {
    /// The certificates, as they were issued; none: the list is signed anew, and made where there is none
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where ca.pem and ca.key are, and crl.pem is to be
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

#[derive(Serialize)]
struct List {
    crl: PathBuf,
    cluster: Option<String>,
    revoked: Vec<String>,
    certificates: usize,
}

pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Error> {
    let ca = Ca::read(&arguments.dir)?;
    let path = arguments.dir.join(CRL);
    let now = vipd::clock::wall();
    let mut all = already(&path)?;
    let mut named = Vec::new();
    for file in &arguments.files {
        let unfit = |why: String| {
            let cause = format!("{}: {why}", file.display());
            Error::new(Kind::Usage, cause, "name the certificate's file, as certs issue wrote it")
        };
        let described = describe(read(file)?.as_bytes()).map_err(|e| unfit(e.to_string()))?;
        let leaf = described.first().ok_or_else(|| unfit("it is empty".to_owned()))?;
        if leaf.is_ca || leaf.issuer != ca.subject {
            return Err(unfit(format!("it was issued by {}, not by the CA {}", leaf.issuer, ca.subject)));
        }
        named.push(leaf.uris.first().cloned().unwrap_or_else(|| leaf.subject.clone()));
        if all.iter().all(|one| one.serial != leaf.serial_bytes) {
            all.push(Revoked { serial: leaf.serial_bytes.clone(), at: now });
        }
    }
    let certificates = all.len();
    let list = CertificateRevocationListParams {
        this_update: moment(now),
        next_update: moment(WallMs(now.0.saturating_add(NEXT_DAYS * DAY_MS))),
        // Only ever larger (RFC 5280, section 5.2.3).
        crl_number: SerialNumber::from(now.0),
        issuing_distribution_point: None,
        revoked_certs: all.into_iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&ca.issuer).and_then(|list| list.pem()).map_err(|e| failed(&e))?;
    replace(&path, &list)?;
    let list = List { crl: path, cluster: ca.cluster.map(|c| c.to_string()), revoked: named, certificates };
    match output {
        Output::Json => render::print(&render::json(&list)?)?,
        Output::Table => {
            let file = list.crl.display();
            let taken = list.revoked.iter().map(|who| format!("{file}  takes back {who}\n"));
            let all =
                format!("{file}  {} in all: to tls.crl of every member, and reload\n", list.certificates);
            render::print(&taken.chain([all]).collect::<String>())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn entry(one: Revoked) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from(one.serial),
        revocation_time: moment(one.at),
        reason_code: None,
        invalidity_date: None,
    }
}

/// What the list has already: none of it is lost.
fn already(path: &Path) -> Result<Vec<Revoked>, Error> {
    let refused = |why: String| {
        let cause = format!("{}: {why}", path.display());
        Error::new(Kind::Refused, cause, "move it away if it is none; what it takes back would count no more")
    };
    match std::fs::read(path) {
        Ok(pem) => revoked(&pem).map_err(|error| refused(error.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// The new list in the old one's place, or the old one: never half of it.
fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let beside = path.with_extension("pem.new");
    let write = || {
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| {
        let cause = format!("{} cannot be written: {error}", path.display());
        Error::new(Kind::Failed, cause, "make room on its disk, and the folder yours to write")
    })
}
