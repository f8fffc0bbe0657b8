//! `vipctl certs init`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use serde::Serialize;
use vipd::model::{Name, WallMs};

use super::files::{CA_CERT, CA_KEY, days_left, failed, make_dir, shown, valid_for, write_pair};
use crate::Output;
use crate::error::Error;
use crate::render;

/// Make a CA for one cluster: ca.pem, which every member and operator gets, and ca.key, which none does
#[derive(Args)]
#[command(after_help = "Example:\n  vipctl certs init --cluster edge --dir pki")]
pub struct Arguments {
    /// The cluster, as in vipd.toml
    #[arg(long, value_name = "NAME", value_parser = super::issue::name)]
    cluster: Name,
    /// Where to put the two files; made where it is missing, for your user alone
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How long the CA is valid
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

#[derive(Serialize)]
struct Made {
    cluster: String,
    ca: PathBuf,
    key: PathBuf,
    expires: String,
    days: i64,
}

pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    // The day: two CAs of one cluster stand side by side while certificates are exchanged.
    let today: String = shown(vipd::clock::wall()).chars().take(10).collect();
    let name = format!("vipd CA of {} ({today})", arguments.cluster);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // What `issue` reads the cluster from; SPIFFE's form of a signing certificate.
    let uri = format!("spiffe://{}", arguments.cluster);
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().map_err(|e| failed(&e))?)];
    let until = valid_for(&mut params, arguments.days, WallMs(u64::MAX));
    let key = KeyPair::generate().map_err(|e| failed(&e))?;
    let certificate = params.self_signed(&key).map_err(|e| failed(&e))?;

    make_dir(&arguments.dir)?;
    let (ca, ca_key) = (arguments.dir.join(CA_CERT), arguments.dir.join(CA_KEY));
    write_pair((&ca_key, &key.serialize_pem()), (&ca, &certificate.pem()))?;
    let made = Made {
        cluster: arguments.cluster.to_string(),
        expires: shown(until),
        days: days_left(until),
        ca,
        key: ca_key,
    };
    match output {
        Output::Json => render::print(&render::json(&made)?)?,
        Output::Table => render::print(&format!(
            "{}  the CA of cluster {}, until {}: for every member and operator\n{}  its key: keep it on no member\n",
            made.ca.display(),
            made.cluster,
            made.expires,
            made.key.display(),
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}
