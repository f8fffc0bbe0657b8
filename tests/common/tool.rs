//! Where foreign programs are. Taken in by path: `tests/common` is no test.

use std::path::PathBuf;

/// A program on the PATH, or where `cluster/setup.sh` puts its own.
pub fn tool(name: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let mut dirs: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    dirs.extend(["/usr/sbin".into(), "/sbin".into(), cache.join("vipd/tools/bin")]);
    let found = dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing; ./cluster/test.sh installs it by ./cluster/setup.sh"))
}
