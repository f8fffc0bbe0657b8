//! The unix socket: who may open it, and what the kernel's word of a process is worth.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tokio::process::Command;
use vipd::rpc::listen::operators;
use vipd::rpc::local::Doorman;
use vipd::tls::Transport;

use crate::member::{config, desk};

/// The user and group `nobody`, and the user and group `daemon`, as Debian numbers them.
const NOBODY: (u32, u32) = (65534, 65534);
const DAEMON: (u32, u32) = (1, 1);

/// vipctl's exit code as that user, in that one group. 3: let through, and told that there is no group yet;
/// 4: refused; 5: it could not open the socket.
async fn vipctl(socket: &Path, (uid, gid): (u32, u32), verb: &str) -> i32 {
    let output = Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()])
        .arg(env!("CARGO_BIN_EXE_vipctl"))
        .args(["--endpoint", &format!("unix:{}", socket.display()), "-o", "json"])
        .args(verb.split(' '))
        .output()
        .await
        .unwrap();
    output.status.code().unwrap()
}

/// A socket in a folder that everybody may enter; vipctl, where everybody may run it.
async fn served(group: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    assert!(rustix::process::geteuid().is_root(), "this test changes users: run it as root");
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = dir.path().join("admin.sock");
    let config = config(dir.path(), &format!("[admin]\nsocket = \"{}\"\n{group}\n", socket.display()));
    let (desk, kept) = desk();
    // For the whole test.
    std::mem::forget(kept);
    operators(&config, &Transport::Insecure, desk).await.unwrap();
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o7777, 0o660);
    (dir, socket)
}

#[tokio::test]
async fn without_a_group_the_socket_is_roots_and_the_daemons_own() {
    let (_dir, socket) = served("").await;
    assert_eq!(vipctl(&socket, (0, 0), "pause").await, 3);
    for verb in ["status", "pause"] {
        assert_eq!(vipctl(&socket, NOBODY, verb).await, 5, "{verb}");
    }
    // Somebody lets others in: they may look, and change nothing.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(vipctl(&socket, NOBODY, "status").await, 3);
    let orders = ["pause", "resume", "transfer-leader", "drain az-b", "undrain az-b", "doctor"];
    let members = ["member list", "member promote az-b", "member remove az-b"];
    for verb in orders.into_iter().chain(members) {
        assert_eq!(vipctl(&socket, NOBODY, verb).await, 4, "{verb}");
        assert_eq!(vipctl(&socket, (0, 0), verb).await, 3, "{verb} by root");
    }
    // The group of the process counts, since it is the daemon's own.
    assert_eq!(vipctl(&socket, (NOBODY.0, 0), "pause").await, 3);
}

#[tokio::test]
async fn a_named_group_are_operators() {
    let (_dir, socket) = served("group = \"daemon\"").await;
    assert_eq!(std::fs::metadata(&socket).unwrap().gid(), DAEMON.1);
    assert_eq!(vipctl(&socket, (NOBODY.0, DAEMON.1), "pause").await, 3);
    assert_eq!(vipctl(&socket, NOBODY, "status").await, 5);
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    // By the user database, whatever the process's own group is.
    assert_eq!(vipctl(&socket, (DAEMON.0, NOBODY.1), "pause").await, 3);
    assert_eq!(vipctl(&socket, NOBODY, "pause").await, 4);
}

#[tokio::test]
async fn a_group_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let file = format!("[admin]\nsocket = \"{}\"\ngroup = \"no-such-group\"\n", socket.display());
    let (desk, _kept) = desk();
    let error =
        operators(&config(dir.path(), &file), &Transport::Insecure, desk).await.expect_err("no group");
    assert!(error.to_string().contains("no group no-such-group; make it (groupadd"), "{error}");
    assert!(!socket.exists());
}

#[tokio::test]
async fn only_a_socket_makes_way_for_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let doorman = Doorman::new(None).unwrap();
    // As an earlier daemon leaves it behind.
    drop(doorman.listen(&path, None).unwrap());
    assert!(path.exists());
    drop(doorman.listen(&path, None).unwrap());
    std::fs::remove_file(&path).unwrap();
    let (file, link) = (dir.path().join("vipd.toml"), dir.path().join("link"));
    std::fs::write(&file, "kept").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &link, &dir.path().to_owned()] {
        let error = doorman.listen(path, None).expect_err("no socket").to_string();
        assert!(error.contains("(admin.socket) is there and is no socket; move it away"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "kept");
}

/// Where the process stops before it has given the socket to its group: a user that is not in it may not.
#[test]
fn until_it_is_given_away_the_socket_is_its_makers_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let socket = dir.path().join("admin.sock");
    // Where that user may run it.
    let itself = dir.path().join("tls");
    std::fs::copy(std::env::current_exe().unwrap(), &itself).unwrap();
    let script = format!("umask 0; exec {} --ignored --exact local::is_not_given_away", itself.display());
    let output = std::process::Command::new("setpriv")
        .args([format!("--reuid={}", NOBODY.0), format!("--regid={}", NOBODY.1), "--clear-groups".into()])
        .args(["sh", "-c", &script])
        .env("VIPD_TEST_SOCKET", &socket)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let made = std::fs::metadata(&socket).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o7777), (NOBODY.0, 0o700), "{:o}", made.mode());
}

#[tokio::test]
#[ignore = "run by until_it_is_given_away_the_socket_is_its_makers_alone"]
async fn is_not_given_away() {
    let socket = std::env::var_os("VIPD_TEST_SOCKET").unwrap();
    let doorman = Doorman::new(Some("daemon")).unwrap();
    let error = doorman.listen(Path::new(&socket), Some("daemon")).expect_err("not in the group");
    assert!(error.to_string().contains("cannot be given to the group daemon"), "{error}");
}
