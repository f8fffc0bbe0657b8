//! Certificates of every kind, good and bad. What `vipctl certs` makes is tested where vipctl is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use vipd::tls::Files;

/// A CA with a folder of its own.
pub struct Pki {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// What else a certificate is like.
#[derive(Clone)]
pub struct Kind {
    /// Its URIs; none in the list: the name that it is issued for.
    pub uris: Vec<String>,
    /// From and until, in days from now.
    pub days: (i64, i64),
    pub uses: Vec<ExtendedKeyUsagePurpose>,
    /// Until then, in seconds from now, in place of the day.
    pub ends_in_s: Option<i64>,
    pub serial: Option<u64>,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            uris: Vec::new(),
            days: (-1, 90),
            uses: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            ends_in_s: None,
            serial: None,
        }
    }
}

/// Over since yesterday.
pub fn expired() -> Kind {
    Kind { days: (-90, -1), ..Kind::default() }
}

impl Pki {
    pub fn new() -> Self {
        Self::named("a CA for tests")
    }

    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `spiffe://edge/ROLE/NAME`, as good as it can be.
    pub fn issue(&self, who: &str) -> Files {
        self.issue_as(who, who, &Kind::default())
    }

    /// Into files of that name.
    pub fn issue_as(&self, file: &str, who: &str, kind: &Kind) -> Files {
        let mut params = CertificateParams::default();
        let uris =
            if kind.uris.is_empty() { vec![format!("spiffe://edge/{who}")] } else { kind.uris.clone() };
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap())).collect();
        params.extended_key_usages = kind.uses.clone();
        let now = OffsetDateTime::now_utc();
        params.not_before = now + Duration::days(kind.days.0);
        params.not_after = now + kind.ends_in_s.map_or(Duration::days(kind.days.1), Duration::seconds);
        params.serial_number = kind.serial.map(SerialNumber::from);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let stem = file.replace('/', "-");
        let files = Files {
            ca: self.path("ca.pem"),
            cert: self.path(&format!("{stem}.pem")),
            key: self.path(&format!("{stem}.key")),
            crl: None,
        };
        fs::write(&files.cert, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        chmod(&files.key, 0o600);
        files
    }
}

impl Pki {
    /// Takes back the certificates with these serial numbers; the list should be renewed after so many days.
    pub fn revoke(&self, serials: &[u64], days: i64) -> PathBuf {
        let now = OffsetDateTime::now_utc();
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - Duration::days(30),
            next_update: now + Duration::days(days),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.path("crl.pem");
        fs::write(&path, list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }
}

pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
