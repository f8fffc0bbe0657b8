//! Disks that are slow, full, read-only or broken; and directories that are not ours.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;

/// A disk that syncs as it is told to, in the order in which it is told.
struct Scripted {
    syncs: Arc<AtomicUsize>,
    script: Mutex<mpsc::Receiver<io::Result<()>>>,
}

impl DiskSync for Scripted {
    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.script.lock().unwrap().recv_timeout(BOUND).unwrap()
    }
}

/// Linux keeps nothing of /dev/null: fdatasync(2) on it is EINVAL, while sync_file_range(2), sled's own, is ESPIPE
/// and a sync that calls nothing succeeds.
#[test]
fn hole_8_a_file_is_synced_by_fdatasync() {
    let nothing = std::fs::File::options().write(true).open("/dev/null").unwrap();
    let error = DiskSync::sync(&nothing).expect_err("fdatasync was called");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
}

struct Scene {
    _dir: tempfile::TempDir,
    store: Store,
    syncs: Arc<AtomicUsize>,
    script: mpsc::Sender<io::Result<()>>,
    causes: Arc<Mutex<Vec<String>>>,
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let (script, receiver) = mpsc::channel();
    script.send(Ok(())).unwrap(); // the first open's own
    let causes = Arc::new(Mutex::new(Vec::new()));
    let heard = causes.clone();
    let on_fatal: OnFatal = Arc::new(move |cause| heard.lock().unwrap().push(cause.to_owned()));
    let syncs = Arc::new(AtomicUsize::new(0));
    let fake = Scripted { syncs: syncs.clone(), script: Mutex::new(receiver) };
    let disk = |_| Box::new(fake) as Box<dyn DiskSync>;
    let store = Store::open_with(&path, &name("edge"), &name("az-a"), on_fatal, disk).unwrap();
    Scene { _dir: dir, store, syncs, script, causes }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(BOUND, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[test]
fn fault_08_the_second_daemon_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let error = Store::open(dir.path(), &name("edge"), &name("az-b"), calm()).err().unwrap();
    assert!(matches!(error, StoreError::Held { .. }));
    let holder = format!("in use by pid {} of az-a;", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    drop(store);
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn fault_12_nothing_is_acknowledged_after_a_failed_fsync() {
    let mut scene = scene();
    scene.script.send(Ok(())).unwrap();
    append(&mut scene.store, vec![note(1, 0, "saved")]).await;
    let failed = hand_over(&mut scene.store, vec![note(1, 1, "lost")]).await;
    let syncs = scene.syncs.clone();
    until("the sync has begun", || syncs.load(Ordering::SeqCst) == 3).await;
    let behind = hand_over(&mut scene.store, vec![note(1, 2, "behind it in the queue")]).await;
    let eio = io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
    scene.script.send(Err(eio)).unwrap();
    // The disk would sync again, as a kernel does after it has dropped the pages.
    for _ in 0..9 {
        scene.script.send(Ok(())).unwrap();
    }
    assert!(failed.await.unwrap().unwrap_err().to_string().contains("Input/output error"));
    assert!(behind.await.unwrap().unwrap_err().to_string().contains("Input/output error"));
    let (tx, rx) = TypeConfig::oneshot();
    let refused = scene.store.append(vec![note(1, 3, "later")], IOFlushed::signal(tx)).await;
    assert!(refused.unwrap_err().to_string().contains("nothing is saved any more"));
    assert!(rx.await.is_err(), "the callback was not called");
    assert!(scene.store.save_vote(&Vote::new(2, 2)).await.is_err());
    assert!(scene.store.set_group(GroupId(1)).await.is_err());
    assert!(scene.store.raise_longest_lease_ms(100).await.is_err());
    assert!(scene.store.truncate_after(None).await.is_err());
    let mut machine = Machine::new(Arc::new(scene.store.clone())).unwrap();
    assert!(machine.get_snapshot_builder().await.build_snapshot().await.is_err());
    let causes = scene.causes.lock().unwrap().clone();
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert!(causes[0].contains("Input/output error") && causes[0].contains("data"), "{causes:?}");
    assert_eq!(scene.syncs.load(Ordering::SeqCst), 3, "no further attempt");
}

/// What an election costs the disk: one save for the vote that is given, and one for the entries that follow it, with
/// which the committed vote is saved too.
#[tokio::test]
async fn a_vote_is_one_sync_and_a_committed_one_goes_with_the_next_entry() {
    let mut scene = scene();
    for _ in 0..3 {
        scene.script.send(Ok(())).unwrap();
    }
    let syncs = |scene: &Scene| scene.syncs.load(Ordering::SeqCst);
    scene.store.save_vote(&Vote::new(2, 7)).await.unwrap();
    assert_eq!(syncs(&scene), 2);
    scene.store.save_vote(&Vote::new_committed(2, 7)).await.unwrap();
    assert_eq!(syncs(&scene), 2);
    append(&mut scene.store, vec![note(2, 0, "claim")]).await;
    assert_eq!(syncs(&scene), 3);
    let path = scene.store.core.dir.clone();
    drop(scene.store);
    assert_eq!(vote(&mut open(&path).unwrap()).await, Some(Vote::new_committed(2, 7)));
}

/// openraft takes it for saved with all that was handed over before it: what a new leader sends again is acknowledged
/// then.
#[tokio::test]
async fn hole_8_a_committed_vote_waits_for_the_entries_before_it() {
    let mut scene = scene();
    let mut appended = hand_over(&mut scene.store, vec![note(1, 0, "not saved yet")]).await;
    let syncs = scene.syncs.clone();
    until("the sync has begun", || syncs.load(Ordering::SeqCst) == 2).await;
    let committed = Vote::new_committed(2, 7);
    let mut vote = Box::pin(scene.store.save_vote(&committed));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut vote).await;
    assert!(early.is_err(), "before the entry is saved");
    for _ in 0..2 {
        scene.script.send(Ok(())).unwrap();
    }
    tokio::time::timeout(BOUND, vote).await.unwrap().unwrap();
    appended.try_recv().unwrap().unwrap();
}

/// What a killed process wrote may be in the kernel's cache alone, and is taken as saved from here on.
#[test]
fn hole_8_what_an_open_finds_is_synced_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let open = |outcomes: Vec<io::Result<()>>| {
        let (script, receiver) = mpsc::channel();
        outcomes.into_iter().for_each(|outcome| script.send(outcome).unwrap());
        let syncs = Arc::new(AtomicUsize::new(0));
        let fake = Scripted { syncs: syncs.clone(), script: Mutex::new(receiver) };
        let disk = |_| Box::new(fake) as Box<dyn DiskSync>;
        let opened = Store::open_with(&path, &name("edge"), &name("az-a"), Arc::new(|_| {}), disk);
        (opened.map(drop), syncs.load(Ordering::SeqCst))
    };
    for _ in 0..2 {
        let (opened, syncs) = open(vec![Ok(())]);
        assert_eq!((opened.is_ok(), syncs), (true, 1));
    }
    let (opened, _) = open(vec![Err(io::Error::other("no medium"))]);
    assert!(opened.unwrap_err().to_string().contains("no medium"));
}

#[tokio::test]
async fn fault_17_a_slow_fsync_does_not_stop_the_runtime() {
    let mut scene = scene();
    let mut appended = hand_over(&mut scene.store, vec![note(1, 0, "slow")]).await;
    let syncs = scene.syncs.clone();
    until("the sync has begun", || syncs.load(Ordering::SeqCst) == 2).await;
    // Two seconds on the one thread of this runtime, which also appends and reads.
    for round in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(appended.try_recv().is_err(), "not yet saved");
        let waiting = hand_over(&mut scene.store, vec![note(1, round + 1, "next")]).await;
        assert_eq!(log(&mut scene.store).await.len() as u64, round + 2);
        drop(waiting);
    }
    assert_eq!(scene.syncs.load(Ordering::SeqCst), 2, "the same sync still");
    scene.script.send(Ok(())).unwrap();
    scene.script.send(Ok(())).unwrap();
    tokio::time::timeout(BOUND, &mut appended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn all_who_wait_share_one_fsync_and_are_answered_in_order() {
    let mut scene = scene();
    let first = hand_over(&mut scene.store, vec![note(1, 0, "first")]).await;
    let syncs = scene.syncs.clone();
    until("the sync has begun", || syncs.load(Ordering::SeqCst) == 2).await;
    let mut waiting = Vec::new();
    for index in 1..=200 {
        waiting.push(hand_over(&mut scene.store, vec![note(1, index, "n")]).await);
    }
    scene.script.send(Ok(())).unwrap();
    first.await.unwrap().unwrap();
    assert!(waiting.iter_mut().all(|rx| rx.try_recv().is_err()));
    scene.script.send(Ok(())).unwrap();
    for rx in waiting {
        tokio::time::timeout(BOUND, rx).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(scene.syncs.load(Ordering::SeqCst), 3);
}

#[test]
fn fault_18_another_clusters_or_members_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    for (cluster, member, what) in [("core", "az-a", "cluster \"edge\""), ("edge", "az-b", "member \"az-a\"")]
    {
        let error = Store::open(dir.path(), &name(cluster), &name(member), calm()).err().unwrap();
        assert!(matches!(error, StoreError::Stranger { .. }));
        assert!(error.to_string().contains(what), "{error}");
    }
    open(dir.path()).unwrap();
}

#[test]
fn fault_16_a_directory_that_cannot_be_made_is_named() {
    let path = Path::new("/proc/vipd");
    let error = refusal(path);
    assert!(matches!(error, StoreError::Unwritable { .. }));
    assert!(error.to_string().contains("/proc/vipd"), "{error}");
}

#[test]
fn a_new_directory_is_for_its_user_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let store = open(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    drop(store);
}

/// Runs one ignored test of this module in namespaces of its own, after `mounts`.
fn in_namespace(test: &str, dir: &Path, mounts: &str) {
    let output = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-ec", &format!("{mounts}\nexec \"$EXE\" \"$TEST\" --exact --ignored")])
        .env("EXE", std::env::current_exe().unwrap())
        .env("TEST", format!("raft::store::tests::disk::{test}"))
        .env("DIR", dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{output:?}");
}

fn dir_of_child() -> PathBuf {
    std::env::var("DIR").unwrap().into()
}

#[test]
fn fault_16_a_read_only_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let mounts = "mount --bind \"$DIR\" \"$DIR\"; mount -o remount,ro,bind \"$DIR\"";
    in_namespace("read_only_child", dir.path(), mounts);
}

#[test]
#[ignore = "run by fault_16_a_read_only_directory_is_named"]
fn read_only_child() {
    let dir = dir_of_child();
    let error = refusal(&dir);
    assert!(matches!(error, StoreError::Unwritable { .. }));
    let text = error.to_string();
    assert!(text.contains(&dir.display().to_string()) && text.contains("Read-only"), "{text}");
}

#[test]
fn fault_11_a_full_disk_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("small")).unwrap();
    let mounts = "mount -t tmpfs -o size=1m none \"$DIR/small\"";
    in_namespace("full_disk_child", dir.path(), mounts);
}

#[tokio::test]
#[ignore = "run by fault_11_a_full_disk_loses_nothing_that_was_acknowledged"]
async fn full_disk_child() {
    let (small, aside) = (dir_of_child().join("small/data"), dir_of_child().join("aside"));
    let causes = Arc::new(Mutex::new(Vec::new()));
    let heard = causes.clone();
    let on_fatal: OnFatal = Arc::new(move |cause| heard.lock().unwrap().push(cause.to_owned()));
    let mut store = Store::open(&small, &name("edge"), &name("az-a"), on_fatal).unwrap();
    let mut acknowledged = 0;
    for index in 0..2000 {
        let (tx, rx) = TypeConfig::oneshot();
        let entry = note(1, index, &"z".repeat(2000));
        if store.append(vec![entry], IOFlushed::signal(tx)).await.is_err() || !matches!(rx.await, Ok(Ok(())))
        {
            break;
        }
        acknowledged = index + 1;
    }
    assert!((10..2000).contains(&acknowledged), "{acknowledged}");
    let causes = causes.lock().unwrap().clone();
    assert!(causes.len() == 1 && causes[0].contains("No space left"), "{causes:?}");
    copy(&small, &aside);
    let mut store = open(&aside).unwrap();
    let log = log(&mut store).await;
    assert!(log.len() as u64 >= acknowledged, "{} of {acknowledged}", log.len());
}
