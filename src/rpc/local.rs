//! The unix socket: made for its owner and one group, and whoever comes through it known by what the
//! kernel says of the process (SO_PEERCRED, unix(7)).

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::net::{UnixListener, unix::UCred};
use tokio::sync::Semaphore;

use crate::tls::{Role, Speaker};

/// Why the socket is not there.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("cannot listen on {} (admin.socket): {source}; the directory must exist and be writable", .path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("{} (admin.socket) is there and is no socket; move it away, or name another path", .0.display())]
    NoSocket(PathBuf),
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

/// How many such questions are open at a time, also those that nobody waits for any more: each has a thread.
const QUESTIONS_MAX: usize = 4;

/// Whose processes are operators.
#[derive(Clone, Debug)]
pub struct Doorman {
    own: (Uid, Gid),
    group: Option<Gid>,
    questions: Arc<Semaphore>,
}

impl Doorman {
    /// Root's, those of the daemon's own user and group, and those of `group`.
    pub fn new(group: Option<&str>) -> Result<Self, SocketError> {
        let group = group.map(|name| {
            let found = Group::from_name(name).ok().flatten();
            found.map(|g| g.gid).ok_or_else(|| SocketError::NoGroup(name.to_owned()))
        });
        let questions = Arc::new(Semaphore::new(QUESTIONS_MAX));
        Ok(Self { own: (Uid::effective(), Gid::effective()), group: group.transpose()?, questions })
    }

    /// Who is at the other end. Whoever is no operator is a viewer: the socket's mode keeps others out, so
    /// that somebody has let this one in.
    pub async fn speaker(&self, peer: &UCred) -> Speaker {
        let (uid, gid) = (Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid()));
        let operator = self.is_operator(uid, gid)
            || match self.group {
                Some(group) => answered(&self.questions, USER_DATABASE, move || is_listed(uid, group)).await,
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
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(failed)?,
            Ok(_) => return Err(SocketError::NoSocket(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
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

/// Whether the answer is yes, and comes in time. The user database may be far away: not on the runtime's one thread.
async fn answered(
    questions: &Arc<Semaphore>,
    patience: Duration,
    question: impl FnOnce() -> bool + Send + 'static,
) -> bool {
    let asked = async {
        let Ok(place) = Arc::clone(questions).acquire_owned().await else { return false };
        let answer = tokio::task::spawn_blocking(move || {
            // Held until there is an answer, although nobody waits for it any more.
            let _place = place;
            question()
        });
        answer.await.unwrap_or(false)
    };
    tokio::time::timeout(patience, asked).await.unwrap_or(false)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// For anything that comes at once on a machine that has time.
    const BOUND: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn fault_66_a_user_database_that_hangs_holds_a_few_threads_and_no_more() {
        let questions = Arc::new(Semaphore::new(QUESTIONS_MAX));
        let soon = Duration::from_millis(20);
        let (begun, all) = mpsc::channel();
        let mut hung = Vec::new();
        for _ in 0..3 * QUESTIONS_MAX {
            let (answer, never) = mpsc::channel::<()>();
            let begun = begun.clone();
            hung.push(answer);
            let hangs = move || begun.send(()).is_ok() && never.recv().is_err();
            assert!(!answered(&questions, soon, hangs).await, "no answer is no");
        }
        // The first have their places at once, and begin when the machine has time for their threads.
        for begun in 0..QUESTIONS_MAX {
            assert!(all.recv_timeout(BOUND).is_ok(), "only {begun} have begun");
        }
        // It answers again.
        hung.clear();
        assert!(answered(&questions, BOUND, || true).await);
        assert!(!answered(&questions, BOUND, || false).await);
        // This ends with the last that had begun, however late it was.
        drop(begun);
        assert_eq!(std::iter::from_fn(|| all.recv_timeout(BOUND).ok()).count(), 0, "one more has begun");
    }
}
