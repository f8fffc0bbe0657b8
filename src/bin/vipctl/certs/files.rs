//! What they have in common: dates, and files that are never written over.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rcgen::CertificateParams;
use time::OffsetDateTime;
use vipd::model::WallMs;

use crate::error::{Error, Kind};

/// The CA's certificate and key, in its folder.
pub const CA_CERT: &str = "ca.pem";
pub const CA_KEY: &str = "ca.key";

/// What it has taken back, beside them.
pub const CRL: &str = "crl.pem";

/// A certificate is valid from an hour ago: a member's clock may be behind this one's.
const BACKDATED_MS: u64 = 3_600_000;

pub const DAY_MS: u64 = 86_400_000;

/// A moment as `rcgen` writes it.
pub fn moment(at: WallMs) -> OffsetDateTime {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// RFC 3339, in UTC.
pub fn shown(at: WallMs) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|t| t.to_string()).unwrap_or_default()
}

/// Whole days that end before then; less than 0: it is over. The very moment is over too, so that of 90 days that
/// were given this moment 89 are left, and not 90 for as long as the clock shows the same millisecond.
pub fn days_left(until: WallMs) -> i64 {
    let now = vipd::clock::wall().0;
    let ms = i64::try_from(until.0.abs_diff(now)).unwrap_or(i64::MAX);
    let signed = if until.0 >= now { ms } else { -ms };
    (signed - 1).div_euclid(i64::try_from(DAY_MS).unwrap_or(i64::MAX))
}

/// Valid for so many days from now, at most until `latest`; the end of it, which X.509 has in whole seconds.
pub fn valid_for(params: &mut CertificateParams, days: u32, latest: WallMs) -> WallMs {
    let now = vipd::clock::wall();
    let until = now.0.saturating_add(u64::from(days) * DAY_MS) / 1000 * 1000;
    let until = WallMs(until).min(latest);
    params.not_before = moment(WallMs(now.0.saturating_sub(BACKDATED_MS)));
    params.not_after = moment(until);
    until
}

/// What rcgen refuses. Names are checked before, so that it is a bug.
pub fn failed(error: &rcgen::Error) -> Error {
    Error::new(
        Kind::Failed,
        format!("the certificate cannot be made: {error}"),
        "report this, it is a bug of vipctl",
    )
}

/// Writes a key and its certificate, or neither. What is there already is not touched: a key that is
/// written over is lost, and with it every member that was to use it.
pub fn write_pair(key: (&Path, &str), cert: (&Path, &str)) -> Result<(), Error> {
    for (path, _) in [key, cert] {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
    }
    create(key.0, key.1, 0o600)?;
    create(cert.0, cert.1, 0o644).inspect_err(|_| {
        // This run made it a moment ago, and nobody has its certificate.
        let _ = std::fs::remove_file(key.0);
    })
}

fn exists(path: &Path) -> Error {
    let cause = format!("{} is there already, and nothing is ever written over", path.display());
    Error::new(Kind::Refused, cause, "move it away, or name another place")
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => {
            let cause = format!("{} cannot be written: {error}", path.display());
            Error::new(Kind::Failed, cause, "make the directory, and room on its disk, or name another place")
        }
    };
    let mut file: File =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// For keys, so that nobody else looks in.
pub fn make_dir(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| {
        let cause = format!("{} cannot be made: {error}", dir.display());
        Error::new(Kind::Failed, cause, "name another place: --dir DIR, --out DIR")
    })
}
