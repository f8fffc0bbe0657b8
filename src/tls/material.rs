//! The three files, read and held against each other before anything of them is used.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::error::LoadError;
use super::identity::{Identity, IdentityError};
use super::shown::next_list;
use super::verify::{Issued, provider};
use crate::config::{Tls, key_exposure};
use crate::model::WallMs;

/// A longer file is no PEM file that anybody means: a chain of ten certificates takes 20 KiB.
const FILE_MAX: u64 = 1 << 20;

/// Where the CA's certificates, this end's own and its key are, and what the CA has taken back.
#[derive(Clone, Debug)]
pub struct Files {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub crl: Option<PathBuf>,
}

impl Files {
    /// `None` where the configuration says `insecure`.
    pub fn of(tls: &Tls) -> Option<Self> {
        Some(Self {
            ca: tls.ca.clone()?,
            cert: tls.cert.clone()?,
            key: tls.key.clone()?,
            crl: tls.crl.clone(),
        })
    }
}

/// A certificate with its key and the CA, which fit each other.
#[derive(Debug)]
pub struct Material {
    pub identity: Identity,
    /// The first moment at which all certificates of the chain are valid, and the last.
    pub from: WallMs,
    pub until: WallMs,
    /// When the first of the revocation lists should be replaced.
    pub next_list: Option<WallMs>,
    pub(super) issued: Issued,
    pub(super) key: Arc<CertifiedKey>,
}

impl Material {
    /// Reads the files. One that is not valid yet is taken: a clock may be behind; one that is over is not.
    pub fn read(files: &Files, now: WallMs) -> Result<Self, LoadError> {
        let roots = read_roots(&files.ca)?;
        let chain = certificates("tls.cert", &files.cert)?;
        let key = read_key(&files.key)?;
        let leaf = chain.first().ok_or_else(|| no_certificate("tls.cert", &files.cert))?;
        let nobody = |source| LoadError::Nobody { path: files.cert.clone(), source };
        let identity = Identity::of_certificate(leaf).map_err(nobody)?;
        let (from, until) = validity(&chain).map_err(nobody)?;
        if now >= until {
            let ago = Duration::from_millis(now.0 - until.0);
            return Err(LoadError::Expired { path: files.cert.clone(), at: shown(until), ago });
        }
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(LoadError::Mismatch { key: files.key.clone(), cert: files.cert.clone() });
            }
            Err(error) => return Err(error.into()),
        }
        let at = UnixTime::since_unix_epoch(Duration::from_millis(now.max(from).0));
        let lists = read_crls(files.crl.as_deref())?;
        let next_list = lists.iter().filter_map(|list| next_list(list)).min();
        let issued = Issued::new(roots, lists).map_err(|source| unfit_list(files.crl.as_deref(), source))?;
        issued.check(identity.role, &key.cert, at).map_err(|error| LoadError::NotOfTheCa {
            path: files.cert.clone(),
            ca: files.ca.clone(),
            why: super::error::refusal(&error).map_or_else(
                || error.to_string(),
                |why| match why {
                    super::error::Refusal::Mine(why) => why,
                    super::error::Refusal::Theirs(why) => why.to_owned(),
                },
            ),
        })?;
        Ok(Self { identity, from, until, next_list, issued, key: Arc::new(key) })
    }
}

fn no_certificate(key: &'static str, path: &Path) -> LoadError {
    LoadError::Empty { key, path: path.to_owned(), what: "certificate" }
}

/// RFC 3339, in UTC.
fn shown(at: WallMs) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|t| t.to_string()).unwrap_or_default()
}

fn open(key: &'static str, path: &Path) -> Result<File, LoadError> {
    File::open(path).map_err(|source| LoadError::Unreadable { key, path: path.to_owned(), source })
}

fn read(key: &'static str, path: &Path, file: File) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::new();
    let read = file.take(FILE_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|source| LoadError::Unreadable { key, path: path.to_owned(), source })?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(LoadError::TooLong { key, path: path.to_owned() });
    }
    Ok(bytes)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let bytes = read(key, path, open(key, path)?)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(|| no_certificate(key, path))
}

fn read_roots(path: &Path) -> Result<RootCertStore, LoadError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.ca", path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The lists of one PEM file; none where no file is named.
fn read_crls(path: Option<&Path>) -> Result<Vec<CertificateRevocationListDer<'static>>, LoadError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let bytes = read("tls.crl", path, open("tls.crl", path)?)?;
    let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let none = || LoadError::Empty { key: "tls.crl", path: path.to_owned(), what: "revocation list" };
    all.ok().filter(|all| !all.is_empty()).ok_or_else(none)
}

fn unfit_list(path: Option<&Path>, source: rustls::Error) -> LoadError {
    match path {
        Some(path) => LoadError::List { path: path.to_owned(), source },
        None => source.into(),
    }
}

/// The mode is that of the file which is read, not of what stands at the path a moment later.
fn read_key(path: &Path) -> Result<Arc<dyn rustls::sign::SigningKey>, LoadError> {
    let file = open("tls.key", path)?;
    let meta = file.metadata();
    let meta =
        meta.map_err(|source| LoadError::Unreadable { key: "tls.key", path: path.to_owned(), source })?;
    let mode = meta.permissions().mode() & 0o7777;
    if let Some(who) = key_exposure(mode) {
        return Err(LoadError::Exposed { path: path.to_owned(), mode, who });
    }
    let bytes = read("tls.key", path, file)?;
    let der = PrivateKeyDer::from_pem_slice(&bytes);
    let der =
        der.map_err(|_| LoadError::Empty { key: "tls.key", path: path.to_owned(), what: "private key" })?;
    provider().key_provider.load_private_key(der).map_err(|_| LoadError::KeyKind { path: path.to_owned() })
}

fn validity(chain: &[CertificateDer<'_>]) -> Result<(WallMs, WallMs), IdentityError> {
    let mut from = WallMs(0);
    let mut until = WallMs(u64::MAX);
    for der in chain {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Garbled)?;
        from = from.max(wall(certificate.validity().not_before.timestamp()));
        until = until.min(wall(certificate.validity().not_after.timestamp()));
    }
    Ok((from, until))
}

pub(super) fn wall(unix_s: i64) -> WallMs {
    WallMs(u64::try_from(unix_s).unwrap_or(0).saturating_mul(1000))
}
