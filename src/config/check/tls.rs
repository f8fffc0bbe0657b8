//! `[tls]`: all three files or, in so many words, none.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::inner;
use super::values::Checker;
use crate::config::raw::{self, Table, Word};
use crate::config::reason::Reason;
use crate::config::{Host, Tls};

pub(super) fn tls(c: &mut Checker, table: &Table<raw::Tls>, host: Host) -> Option<Tls> {
    let at = table.as_ref().map(Spanned::span);
    let raw = inner(table);
    if raw.and_then(|t| t.insecure.as_ref()).is_some_and(|v| *v.get_ref()) {
        // The paths are dropped, so that no reader can take them for used.
        return Some(Tls { ca: None, cert: None, key: None, crl: None, insecure: true });
    }
    let Some(raw) = raw.filter(|t| t.ca.is_some() || t.cert.is_some() || t.key.is_some()) else {
        let places = at.map(|span| (span, "neither files nor insecure = true"));
        c.refuse(Reason::NoTls, places.into_iter().collect());
        return None;
    };
    let keys = [
        ("tls.ca", &raw.ca, "ca = \"/etc/vipd/ca.pem\""),
        ("tls.cert", &raw.cert, "cert = \"/etc/vipd/az-a.pem\""),
        ("tls.key", &raw.key, "key = \"/etc/vipd/az-a.key\""),
    ];
    let [ca, cert, key] = keys.map(|(key, value, example)| {
        c.required(value, key, example, at.clone())?;
        file(c, key, value, host)
    });
    let crl = match &raw.crl {
        Some(_) => Some(file(c, "tls.crl", &raw.crl, host)?),
        None => None,
    };
    if let (Host::This, Some(path), Some(value)) = (host, &key, &raw.key) {
        private(c, path, value);
    }
    Some(Tls { ca: Some(ca?), cert: Some(cert?), key: Some(key?), crl, insecure: false })
}

fn file(c: &mut Checker, key: &'static str, value: &Word, host: Host) -> Option<PathBuf> {
    match host {
        Host::This => readable(c, key, value),
        Host::Another => c.path(key, value),
    }
}

/// A file from which a byte can be read. Opening says more than the mode: who asks counts too.
fn readable(c: &mut Checker, key: &'static str, value: &Word) -> Option<PathBuf> {
    let path = c.path(key, value)?;
    let place = value.as_ref().map(|v| (v.span(), "this file")).into_iter().collect();
    let shown = path.display().to_string();
    match std::fs::metadata(&path) {
        // Not opened: a FIFO would block for ever.
        Ok(meta) if !meta.is_file() => {
            c.refuse(Reason::TlsNotAFile { key, path: shown }, place);
            return None;
        }
        Ok(_) | Err(_) => {}
    }
    let read = File::open(&path).and_then(|mut file| file.read(&mut [0]));
    if let Err(source) = read {
        c.refuse(Reason::TlsFile { key, path: shown, source }, place);
        return None;
    }
    Some(path)
}

/// Who else can read or write a key of this mode; 0640 at most is fit. Whoever else reads the key can pass
/// for this member, and whoever writes it can put in one of their own.
pub fn key_exposure(mode: u32) -> Option<&'static str> {
    if mode & 0o004 != 0 {
        Some("everybody on this host can read it")
    } else if mode & 0o002 != 0 {
        Some("everybody on this host can write it")
    } else if mode & 0o020 != 0 {
        Some("its group can write it")
    } else {
        None
    }
}

fn private(c: &mut Checker, path: &Path, value: &Spanned<String>) {
    let Ok(meta) = std::fs::metadata(path) else { return };
    let mode = meta.permissions().mode() & 0o7777;
    let Some(who) = key_exposure(mode) else { return };
    let reason = Reason::TlsKeyMode { path: path.display().to_string(), mode, who };
    c.refuse(reason, vec![(value.span(), "this key")]);
}
