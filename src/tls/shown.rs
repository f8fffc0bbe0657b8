//! What stands in certificates and revocation lists, for people and for `vipctl certs`. Nothing of it is proven.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::identity::IdentityError;
use super::material::wall;
use crate::model::WallMs;

/// A certificate for people to read: nothing of it is proven.
#[derive(Clone, Debug)]
pub struct Described {
    pub is_ca: bool,
    /// The URI of a CA made by `vipctl certs init` has no path.
    pub uris: Vec<String>,
    pub subject: String,
    pub issuer: String,
    pub serial: String,
    pub serial_bytes: Vec<u8>,
    pub from: WallMs,
    pub until: WallMs,
}

/// What stands in each certificate of a PEM file.
pub fn describe(pem: &[u8]) -> Result<Vec<Described>, IdentityError> {
    let all =
        CertificateDer::pem_slice_iter(pem).map(|der| of_one(&der.map_err(|_| IdentityError::Garbled)?));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() { Err(IdentityError::Garbled) } else { Ok(all) }
}

fn of_one(der: &[u8]) -> Result<Described, IdentityError> {
    use x509_parser::extensions::GeneralName;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Garbled)?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    Ok(Described {
        is_ca: certificate.is_ca(),
        uris: uris.collect(),
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial: certificate.raw_serial_as_string(),
        serial_bytes: certificate.raw_serial().to_vec(),
        from: wall(certificate.validity().not_before.timestamp()),
        until: wall(certificate.validity().not_after.timestamp()),
    })
}

/// A certificate that was taken back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revoked {
    pub serial: Vec<u8>,
    pub at: WallMs,
}

/// When a revocation list should be replaced by the next one; `None` where it does not say.
pub(super) fn next_list(der: &[u8]) -> Option<WallMs> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    list.next_update().map(|at| wall(at.timestamp()))
}

/// What the revocation lists of a PEM file take back.
pub fn revoked(pem: &[u8]) -> Result<Vec<Revoked>, IdentityError> {
    let mut all = Vec::new();
    let mut lists = 0_u32;
    for der in CertificateRevocationListDer::pem_slice_iter(pem) {
        let der = der.map_err(|_| IdentityError::Garbled)?;
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_| IdentityError::Garbled)?;
        lists = lists.saturating_add(1);
        all.extend(list.iter_revoked_certificates().map(|one| Revoked {
            serial: one.raw_serial().to_vec(),
            at: wall(one.revocation_date.timestamp()),
        }));
    }
    if lists == 0 { Err(IdentityError::Garbled) } else { Ok(all) }
}

/// When the first of a PEM file's revocation lists should be replaced by the next one; `None` where none says.
pub fn next_update(pem: &[u8]) -> Result<Option<WallMs>, IdentityError> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let lists = lists.map_err(|_| IdentityError::Garbled)?;
    if lists.is_empty() {
        Err(IdentityError::Garbled)
    } else {
        Ok(lists.iter().filter_map(|l| next_list(l)).min())
    }
}
