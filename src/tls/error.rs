//! What goes wrong: with the files, and with the other end.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};

use super::identity::IdentityError;

/// Why the three files are not used. Nothing of them is.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{key}: {} cannot be read: {source}", .path.display())]
    Unreadable { key: &'static str, path: PathBuf, source: io::Error },
    #[error("{key}: {} is over 1 MiB long", .path.display())]
    TooLong { key: &'static str, path: PathBuf },
    #[error("tls.key: {} has mode {mode:04o}: {who}", .path.display())]
    Exposed { path: PathBuf, mode: u32, who: &'static str },
    #[error("{key}: {} has no {what} in PEM", .path.display())]
    Empty { key: &'static str, path: PathBuf, what: &'static str },
    #[error("tls.key: {}: no key that TLS 1.3 can sign with", .path.display())]
    KeyKind { path: PathBuf },
    #[error("tls.key: {} is not the key of the certificate in {}", .key.display(), .cert.display())]
    Mismatch { key: PathBuf, cert: PathBuf },
    #[error("tls.cert: {}: {source}", .path.display())]
    Nobody { path: PathBuf, source: IdentityError },
    #[error("tls.cert: {} is {found}, and this is {wanted}", .path.display())]
    Other { path: PathBuf, found: String, wanted: String },
    #[error("tls.cert: {} has been over for {} (since {at})", .path.display(), span(*.ago))]
    Expired { path: PathBuf, at: String, ago: Duration },
    #[error("tls.cert: {} was not issued by the CA in {}: {why}", .path.display(), .ca.display())]
    NotOfTheCa { path: PathBuf, ca: PathBuf, why: String },
    #[error("tls.crl: {}: no revocation list that can be used: {source}", .path.display())]
    List { path: PathBuf, source: rustls::Error },
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

impl LoadError {
    /// What to do about it.
    pub fn next(&self) -> &'static str {
        match self {
            LoadError::Unreadable { .. } => "put the PEM file there, and let the user that runs vipd read it",
            LoadError::TooLong { .. } => "name the PEM file",
            LoadError::Exposed { .. } => {
                "chmod 0600 it (0640 if vipd reads it as its group), and replace the key if others could have read it"
            }
            LoadError::Empty { .. } | LoadError::KeyKind { .. } | LoadError::Mismatch { .. } => {
                "put the key and the certificate there that were issued together: vipctl certs issue makes both"
            }
            LoadError::Nobody { .. } | LoadError::Other { .. } => {
                "issue the certificate for this member: vipctl certs issue member NAME"
            }
            LoadError::Expired { .. } => "issue a new one: vipctl certs issue member NAME",
            LoadError::NotOfTheCa { .. } => {
                "put the certificate of the CA that issued it into tls.ca; vipctl certs show names each one's issuer"
            }
            LoadError::List { .. } => {
                "put the list there, in PEM, that the CA has signed: vipctl certs revoke writes one"
            }
            LoadError::Rustls(_) => "compare the three files: vipctl certs show",
        }
    }
}

/// Days, or what is left of one.
pub(super) fn span(d: Duration) -> String {
    match d.as_secs() {
        s if s >= 2 * 86_400 => format!("{} days", s / 86_400),
        s if s >= 2 * 3600 => format!("{} hours", s / 3600),
        s => format!("{} minutes", s / 60),
    }
}

/// Why there is no connection to a member.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Tcp(#[source] io::Error),
    #[error("{}", in_words(.0))]
    Handshake(#[source] io::Error),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

fn in_words(error: &io::Error) -> String {
    match refusal(error) {
        Some(refusal) => refusal.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it ends the connection, as one without TLS does".to_owned()
        }
        None => format!("no TLS: {error}"),
    }
}

/// Who refused whose certificate, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// This end did.
    #[error("the certificate of the other end is refused: {0}")]
    Mine(String),
    /// The other end did, and said by its alert why.
    #[error("the other end refuses the certificate that it was shown: {0}")]
    Theirs(&'static str),
}

/// The refusal that lies under an error, if one does.
pub fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<Refusal> {
    let mut next = Some(error);
    // Eight: deeper than any chain that tonic builds, and an end if one loops.
    for _ in 0..8 {
        let error = next?;
        if let Some(found) = of_one(error) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The same error; a refusal in words, since what carries it on (h2) keeps only those.
pub(super) fn worded(error: io::Error) -> io::Error {
    match refusal(&error) {
        Some(refusal) => io::Error::new(error.kind(), refusal),
        None => error,
    }
}

fn of_one(error: &(dyn std::error::Error + 'static)) -> Option<Refusal> {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return Some(refusal.clone());
    }
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let rustls = match inner {
        Some(inner) => match inner.downcast_ref::<rustls::Error>() {
            Some(rustls) => rustls,
            // `io::Error` leaves what it holds out of its sources.
            None => return refusal(inner),
        },
        None => error.downcast_ref::<rustls::Error>()?,
    };
    match rustls {
        rustls::Error::AlertReceived(alert) => of_alert(*alert).map(Refusal::Theirs),
        rustls::Error::InvalidCertificate(CertificateError::Other(why)) => {
            Some(Refusal::Mine(why.0.to_string()))
        }
        rustls::Error::InvalidCertificate(why) => Some(Refusal::Mine(of_certificate(why))),
        rustls::Error::NoCertificatesPresented => Some(Refusal::Mine("none was shown".to_owned())),
        _ => None,
    }
}

fn of_alert(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRequired => "none was shown",
        AlertDescription::UnknownCA => "it is of another CA",
        AlertDescription::CertificateExpired => "it is over, or not valid yet",
        AlertDescription::CertificateRevoked => "it is revoked",
        AlertDescription::UnsupportedCertificate => "it is for another purpose",
        AlertDescription::CertificateUnknown => {
            "it is of another cluster, or of a role that this port does not take"
        }
        AlertDescription::BadCertificate => "it is not sound",
        AlertDescription::DecryptError => NOT_SIGNED,
        AlertDescription::ProtocolVersion => "TLS 1.3 is needed",
        _ => return None,
    })
}

fn of_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it is over".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::UnknownIssuer => "it is of another CA".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is for another purpose".to_owned()
        }
        CertificateError::BadSignature => NOT_SIGNED.to_owned(),
        CertificateError::Revoked => "it is revoked".to_owned(),
        other => other.to_string(),
    }
}

/// The CA's name is right, its signature is not.
const NOT_SIGNED: &str = "it is of another CA of the same name, or not sound";
