//! `vipctl certs issue`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType};
use serde::Serialize;
use vipd::model::{Name, WallMs};
use vipd::tls::{Identity, Role, describe};

use super::files::{CA_CERT, CA_KEY, days_left, failed, make_dir, shown, valid_for, write_pair};
use crate::Output;
use crate::error::{Error, Kind};
use crate::render;

/// Issue a certificate and its key
///
/// A member's is written to NAME.pem and NAME.key, an operator's to operator-NAME.pem and operator-NAME.key, a
/// viewer's likewise. To renew, issue again into another place (--out), put both files where the old ones are, and
/// have vipd reload.
#[derive(Args)]
#[command(after_help = "\
Examples:
  vipctl certs issue member az-a --dir pki
  vipctl certs issue operator alice --dir pki --days 30
  vipctl certs issue viewer grafana --dir pki --out /tmp/grafana")]
pub struct Arguments {
    /// What it is for
    #[arg(value_enum)]
    role: Which,
    /// Whose: a member's name as in vipd.toml, or a person's or program's: a-z, 0-9 and -
    #[arg(value_parser = name)]
    name: Name,
    /// Where ca.pem and ca.key are
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Where to put the two files; --dir, where it is not given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How long it is valid, at most as long as the CA
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// The cluster, where the CA was not made by `certs init` and does not name one
    #[arg(long, value_name = "NAME", value_parser = name)]
    cluster: Option<Name>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// A member of the group: the peer port.
    Member,
    /// Every verb.
    Operator,
    /// The verbs that change nothing.
    Viewer,
}

#[derive(Serialize)]
struct Issued {
    identity: String,
    role: &'static str,
    name: String,
    cluster: String,
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    expires: String,
    days: i64,
}

/// A name, for clap.
pub fn name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|e: vipd::model::ParseError| e.to_string())
}

pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Error> {
    let role = match arguments.role {
        Which::Member => Role::Member,
        Which::Operator => Role::Operator,
        Which::Viewer => Role::Viewer,
    };
    let ca = Ca::read(&arguments.dir)?;
    let cluster = ca.cluster_of(&arguments.dir, arguments.cluster.as_ref())?;
    let identity = Identity { cluster, role, name: arguments.name.clone() };
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, format!("{}/{}", role.label(), identity.name));
    params.subject_alt_names =
        vec![SanType::URI(identity.to_string().as_str().try_into().map_err(|e| failed(&e))?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // An operator's certificate serves nothing: it could pass for a member towards other operators.
    params.extended_key_usages = match role {
        Role::Member => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        Role::Operator | Role::Viewer => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    let until = valid_for(&mut params, arguments.days, ca.until);
    let key = KeyPair::generate().map_err(|e| failed(&e))?;
    let certificate = params.signed_by(&key, &ca.issuer).map_err(|e| failed(&e))?;

    let stem = match role {
        Role::Member => identity.name.to_string(),
        Role::Operator | Role::Viewer => format!("{}-{}", role.label(), identity.name),
    };
    let out = arguments.out.as_ref().unwrap_or(&arguments.dir);
    make_dir(out)?;
    let (cert, key_file) = (out.join(format!("{stem}.pem")), out.join(format!("{stem}.key")));
    write_pair((&key_file, &key.serialize_pem()), (&cert, &certificate.pem()))?;
    let issued = Issued {
        identity: identity.to_string(),
        role: role.label(),
        name: identity.name.to_string(),
        cluster: identity.cluster.to_string(),
        cert,
        key: key_file,
        ca: arguments.dir.join(CA_CERT),
        expires: shown(until),
        days: days_left(until),
    };
    match output {
        Output::Json => render::print(&render::json(&issued)?)?,
        Output::Table => render::print(&format!(
            "{}  {}, until {}\n{}  its key: for {} alone\n",
            issued.cert.display(),
            issued.identity,
            issued.expires,
            issued.key.display(),
            issued.name,
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The CA of a folder.
pub struct Ca {
    /// The one that it was made for, where `certs init` made it.
    pub cluster: Option<Name>,
    pub subject: String,
    pub issuer: Issuer<'static, KeyPair>,
    until: WallMs,
}

impl Ca {
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let (cert_file, key_file) = (dir.join(CA_CERT), dir.join(CA_KEY));
        let cert = read(&cert_file)?;
        let unfit = |why: String| {
            Error::new(
                Kind::Usage,
                format!("{}: {why}", cert_file.display()),
                "name the CA's folder: --dir DIR",
            )
        };
        let described = describe(cert.as_bytes()).map_err(|e| unfit(e.to_string()))?;
        let described =
            described.first().filter(|d| d.is_ca).ok_or_else(|| unfit("it is no CA".to_owned()))?;
        if days_left(described.until) < 0 {
            return Err(Error::new(
                Kind::Refused,
                format!("{}: the CA is over since {}", cert_file.display(), shown(described.until)),
                "make a new one (vipctl certs init) and put both into every tls.ca while certificates are exchanged",
            ));
        }
        let cluster =
            described.uris.iter().find_map(|uri| uri.strip_prefix("spiffe://")?.parse::<Name>().ok());
        let key = KeyPair::from_pem(&read(&key_file)?);
        let key = key.map_err(|e| {
            let cause = format!("{} is no key that can be used: {e}", key_file.display());
            Error::new(Kind::Usage, cause, "put the key of ca.pem there")
        })?;
        let issuer = Issuer::from_ca_cert_pem(&cert, key).map_err(|e| unfit(e.to_string()))?;
        Ok(Self { cluster, subject: described.subject.clone(), issuer, until: described.until })
    }

    /// Whom it issues for.
    fn cluster_of(&self, dir: &Path, asked: Option<&Name>) -> Result<Name, Error> {
        let file = dir.join(CA_CERT);
        match (&self.cluster, asked) {
            (Some(named), Some(asked)) if named != asked => {
                let cause = format!("{} is the CA of {named}, not of {asked}", file.display());
                Err(Error::new(Kind::Refused, cause, "name the CA of that cluster: --dir DIR"))
            }
            (Some(cluster), _) | (None, Some(cluster)) => Ok(cluster.clone()),
            (None, None) => {
                let cause = format!("{} names no cluster", file.display());
                Err(Error::new(Kind::Usage, cause, "add --cluster NAME, as in vipd.toml"))
            }
        }
    }
}

/// A PEM file of the CA's folder.
pub fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| {
        let cause = format!("cannot read {}: {error}", path.display());
        Error::new(Kind::Usage, cause, "make a CA first (vipctl certs init), or name its folder: --dir DIR")
    })
}
