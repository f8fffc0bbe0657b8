//! The unix socket: made for its owner and one group, and whoever comes through it known by what the
//! kernel says of the process (SO_PEERCRED, unix(7)).

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::net::{UnixListener, unix::UCred};

use crate::tls::{Role, Speaker};

/// Why the socket is not there.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("cannot listen on {} (admin.socket): {source}; the directory must exist and be writable", .path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("admin.group: this host has no group {0}; make it (groupadd --system {0}), or leave the key out")]
    NoGroup(String),
    #[error(
        "admin.group: {} cannot be given to the group {group}: {source}; let vipd run with it, by Group={group} in a drop-in of its unit",
        .path.display()
    )]
    NotGiven { path: PathBuf, group: String, source: io::Error },
}

/// How long the user database may take to tell a user's groups; then the user is none of the group's.
const USER_DATABASE: Duration = Duration::from_secs(2);

/// Whose processes are operators.
#[derive(Clone, Debug)]
pub struct Doorman {
    own: (Uid, Gid),
    group: Option<Gid>,
}

impl Doorman {
    /// Root's, those of the daemon's own user and group, and those of `group`.
    pub fn new(group: Option<&str>) -> Result<Self, SocketError> {
        let group = group.map(|name| {
            let found = Group::from_name(name).ok().flatten();
            found.map(|g| g.gid).ok_or_else(|| SocketError::NoGroup(name.to_owned()))
        });
        Ok(Self { own: (Uid::effective(), Gid::effective()), group: group.transpose()? })
    }

    /// Who is at the other end. Whoever is no operator is a viewer: the socket's mode keeps others out, so
    /// that somebody has let this one in.
    pub async fn speaker(&self, peer: &UCred) -> Speaker {
        let (uid, gid) = (Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid()));
        let operator = self.is_operator(uid, gid)
            || match self.group {
                // The user database may be far away: not on the runtime's one thread.
                Some(group) => {
                    let listed = tokio::task::spawn_blocking(move || is_listed(uid, group));
                    matches!(tokio::time::timeout(USER_DATABASE, listed).await, Ok(Ok(true)))
                }
                None => false,
            };
        Speaker::Local { role: if operator { Role::Operator } else { Role::Viewer }, uid: peer.uid() }
    }

    fn is_operator(&self, uid: Uid, gid: Gid) -> bool {
        uid.is_root() || uid == self.own.0 || gid == self.own.1 || Some(gid) == self.group
    }

    /// A socket at `path`, 0660, of the group. The data directory's lock says that no other daemon of this
    /// member runs, so that one which is there was left behind.
    pub fn listen(&self, path: &Path, group: Option<&str>) -> Result<UnixListener, SocketError> {
        let failed = |source| SocketError::Listen { path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        // First whose it is: until that and the mode are set it is this user's alone, whatever the umask that vipd was
        // started with. The umask is the whole process's: what another thread makes meanwhile is no wider for it, and a
        // directory can be entered, which takes the x bit; on a socket that bit grants nothing.
        let before = umask(Mode::RWXG | Mode::RWXO);
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(failed)?;
        if let (Some(gid), Some(group)) = (self.group, group) {
            give(path, gid, group)?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        Ok(listener)
    }
}

fn give(path: &Path, gid: Gid, group: &str) -> Result<(), SocketError> {
    let not_given = |source| SocketError::NotGiven { path: path.to_owned(), group: group.to_owned(), source };
    let now = std::fs::metadata(path).map_err(not_given)?.gid();
    if now == gid.as_raw() {
        return Ok(());
    }
    std::os::unix::fs::chown(path, None, Some(gid.as_raw())).map_err(not_given)
}

/// Whether the user database puts the process's user into the group: the kernel tells one group of a
/// process, its primary one.
fn is_listed(uid: Uid, group: Gid) -> bool {
    let Ok(Some(user)) = User::from_uid(uid) else { return false };
    let Ok(name) = std::ffi::CString::new(user.name) else { return false };
    getgrouplist(&name, user.gid).is_ok_and(|all| all.contains(&group))
}
