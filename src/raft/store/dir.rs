//! The data directory itself.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::model::Name;

use super::error::StoreError;

/// sled's directory.
pub(super) fn db(dir: &Path) -> PathBuf {
    dir.join("db")
}

/// The one file in which sled keeps every value, as long as none is long (`cells.rs`).
pub(super) fn db_file(dir: &Path) -> PathBuf {
    db(dir).join("db")
}

/// Makes `dir`, for this user only, if it is not there. The names that lead to it are durable on
/// return.
pub(super) fn prepare(dir: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|d| !d.exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(StoreError::unwritable(dir))?;
    for made in missing {
        sync(made)?;
        if let Some(parent) = made.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync(parent)?;
        }
    }
    Ok(())
}

fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(StoreError::unwritable(path))
}

/// Makes the names durable that a first open has made. fsync(2) of a file does not do that for the
/// directory it is in.
pub(super) fn sync_created(dir: &Path) -> Result<(), StoreError> {
    sync(&db(dir).join("conf"))?;
    sync(&db(dir).join("blobs"))?;
    sync(&db(dir))?;
    sync(dir)
}

/// Takes the directory for this process, until the file is dropped (flock(2)).
pub(super) fn lock(dir: &Path, member: &Name) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(dir.join("lock")).map_err(StoreError::unwritable(dir))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::Held { path: dir.to_owned(), holder: holder(&file) });
        }
        Err(TryLockError::Error(source)) => return Err(StoreError::unwritable(dir)(source)),
    }
    let wrote = file
        .set_len(0)
        .and_then(|()| file.write_all(format!("pid {} of {member}\n", std::process::id()).as_bytes()));
    wrote.map_err(StoreError::unwritable(dir))?;
    Ok(file)
}

fn holder(file: &File) -> String {
    let mut text = String::new();
    // A pid and a name: 256 bytes are plenty. Who holds it may just be writing it.
    match file.take(256).read_to_string(&mut text) {
        Ok(n) if n > 0 => text.trim_end().to_owned(),
        Ok(_) | Err(_) => "a process that has not said who it is".to_owned(),
    }
}
