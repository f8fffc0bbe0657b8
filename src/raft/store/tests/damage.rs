//! Data that is torn, flipped, missing or too new.

use std::os::unix::fs::FileExt as _;

use super::super::mark::Mark;
use super::*;

/// All that another member or a client may rely on.
#[derive(PartialEq, Debug)]
struct State {
    incarnation: Incarnation,
    group: Option<GroupId>,
    forming: Option<Vec<u8>>,
    lease_ms: u64,
    vote: Option<Vote>,
    purged: Option<LogId>,
    log: Vec<Entry>,
    snapshot: Option<(SnapshotMeta, Vec<u8>)>,
}

async fn state(store: &mut Store) -> State {
    State {
        incarnation: store.incarnation(),
        group: store.group(),
        forming: store.forming(),
        lease_ms: store.longest_lease_ms(),
        vote: vote(store).await,
        purged: store.get_log_state().await.unwrap().last_purged_log_id,
        log: log(store).await,
        snapshot: store.snapshot().unwrap().map(|s| (s.meta, s.snapshot)),
    }
}

/// Whether the writer closes and opens the directory now and then. sled checks what it found at the
/// last opening in one way, and what was written since in another.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Reopen {
    Often,
    Never,
}

/// A directory with something of everything.
async fn filled(dir: &Path, reopen: Reopen) -> State {
    let mut store = open(dir).unwrap();
    store.set_group(GroupId(77)).await.unwrap();
    store.set_forming(b"members").await.unwrap();
    let mut next = 0;
    for term in 1..=3 {
        store.save_vote(&Vote::new(term, term)).await.unwrap();
        store.raise_longest_lease_ms(100 * term).await.unwrap();
        let mut machine = Machine::new(Arc::new(store.clone())).unwrap();
        for _ in 0..20 {
            let entries: Vec<Entry> =
                (next..next + 4).map(|i| note(term, i, &format!("{i} ").repeat(60))).collect();
            append(&mut store, entries.clone()).await;
            apply(&mut machine, entries).await;
            next += 4;
        }
        snapshot(&mut machine).await;
        store.purge(id(term, next - 30)).await.unwrap();
        append(&mut store, (next..next + 6).map(|i| note(term, i, "lost")).collect()).await;
        store.truncate_after(Some(id(term, next - 1))).await.unwrap();
        if reopen == Reopen::Often {
            drop((store, machine));
            store = open(dir).unwrap();
        }
    }
    append(&mut store, vec![note(3, next, "the last")]).await;
    state(&mut store).await
}

fn flip(path: &Path, byte: u64, bit: u32) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut at = [0];
    file.read_exact_at(&mut at, byte).unwrap();
    at[0] ^= 1 << bit;
    file.write_all_at(&at, byte).unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let of = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let all = of(dir.to_owned()).chain(of(dir.join("db")));
    all.filter(|path| path.is_file() && !path.ends_with("lock")).collect()
}

/// How many bits are flipped in each file, one at a time.
const FLIPS: u64 = 300;

/// One flipped bit, anywhere: all is as it was, or it is refused. Never less than was saved.
async fn no_flip_goes_unnoticed(reopen: Reopen) {
    // In memory: what a disk does is not in question, and each flip opens a copy.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (origin, path) = (dir.path().join("origin"), dir.path().join("copy"));
    let want = filled(&origin, reopen).await;
    let (mut same, mut refused) = (0, 0);
    for file in files(&origin) {
        let bytes = std::fs::read(&file).unwrap();
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1) as u64;
        let step = (used / FLIPS).max(1);
        for (n, byte) in (0..used).step_by(step as usize).enumerate() {
            drop(std::fs::remove_dir_all(&path));
            copy(&origin, &path);
            flip(&path.join(file.strip_prefix(&origin).unwrap()), byte, n as u32 % 8);
            match open(&path) {
                Ok(mut store) => {
                    assert_eq!(state(&mut store).await, want, "byte {byte} of {file:?}");
                    same += 1;
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(&path.display().to_string()), "{text}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 50 && same > 10, "{refused} refused, {same} without effect");
}

#[tokio::test]
async fn fault_14_no_flipped_bit_goes_unnoticed() {
    no_flip_goes_unnoticed(Reopen::Often).await;
}

#[tokio::test]
async fn fault_14_no_flipped_bit_since_the_last_opening_goes_unnoticed() {
    no_flip_goes_unnoticed(Reopen::Never).await;
}

/// Changes what is stored behind the store's back, as damage that sled does not see would.
async fn tampered(dir: &Path, tamper: impl FnOnce(&Core)) {
    let store = open(dir).unwrap();
    tamper(&store.core);
    store.flusher.saved().await.unwrap();
}

fn damage(dir: &Path) -> Damage {
    match refusal(dir) {
        StoreError::Damaged { damage, .. } => damage,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn fault_14_a_damaged_log_is_refused_and_the_place_named() {
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("origin");
    filled(&origin, Reopen::Often).await;
    let cell = |index: u64| [&index.to_be_bytes()[..], &[0, 0]].concat();
    let cases: [(&str, &dyn Fn(&Core)); 7] = [
        ("entry 230 cannot be read", &|core| {
            let mut bytes = core.log.get(cell(230)).unwrap().unwrap().to_vec();
            bytes[40] ^= 4;
            core.log.insert(cell(230), bytes).unwrap();
        }),
        ("entry 230 is missing", &|core| {
            cells::remove(&core.log, &230_u64.to_be_bytes()).unwrap();
        }),
        ("entry 229 cannot be read", &|core| {
            let other = core.log.get(cell(230)).unwrap().unwrap();
            core.log.insert(cell(229), other).unwrap();
        }),
        ("entry 230 does not follow", &|core| {
            let (record, _) = record::encode(&note(3, 230, "an older one"), 12345).unwrap();
            core.log.insert(cell(230), record).unwrap();
        }),
        ("entry 231 does not follow", &|core| {
            let bytes = core.log.get(cell(230)).unwrap().unwrap();
            let before = record::decode(230, &bytes).unwrap().before;
            let (record, _) = record::encode(&note(2, 230, "a resurrected one"), before).unwrap();
            core.log.insert(cell(230), record).unwrap();
        }),
        ("it ends at Some(240), not at Some(240)", &|core| {
            let bytes = core.log.get(cell(240)).unwrap().unwrap();
            let before = record::decode(240, &bytes).unwrap().before;
            let (record, _) = record::encode(&note(3, 240, "another last"), before).unwrap();
            core.log.insert(cell(240), record).unwrap();
        }),
        ("the snapshot cannot be read", &|core| {
            let (key, value) = core.blobs.scan_prefix(b"s").next().unwrap().unwrap();
            let mut value = value.to_vec();
            value[17] ^= 1;
            core.blobs.insert(key, value).unwrap();
        }),
    ];
    for (text, tamper) in cases {
        let path = dir.path().join("copy");
        drop(std::fs::remove_dir_all(&path));
        copy(&origin, &path);
        tampered(&path, tamper).await;
        let error = refusal(&path).to_string();
        assert!(error.contains(text), "{text}: {error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains("to rejoin, move"), "{error}");
    }
}

#[tokio::test]
async fn fault_14_an_older_or_a_missing_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, older) = (dir.path().join("data"), dir.path().join("older"));
    let mut store = open(&path).unwrap();
    append(&mut store, vec![note(1, 0, "a")]).await;
    drop(store);
    copy(&path, &older);
    let mut store = open(&path).unwrap();
    store.save_vote(&Vote::new(2, 2)).await.unwrap();
    drop(store);
    std::fs::remove_dir_all(path.join("db")).unwrap();
    copy(&older.join("db"), &path.join("db"));
    assert!(matches!(damage(&path), Damage::Behind { saved: 3, found: 2 }));
    std::fs::remove_dir_all(path.join("db")).unwrap();
    assert!(matches!(damage(&path), Damage::Behind { saved: 3, found: 0 }));
    std::fs::remove_file(older.join("mark")).unwrap();
    assert!(matches!(damage(&older), Damage::Mark));
    let stranger = dir.path().join("stranger");
    drop(open(&stranger).unwrap());
    std::fs::copy(stranger.join("mark"), older.join("mark")).unwrap();
    assert!(matches!(damage(&older), Damage::MarkOfAnother));
}

#[test]
fn a_first_open_that_was_cut_short_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = open(&path).unwrap();
    let incarnation = store.incarnation();
    drop(store);
    // Killed before sled had anything on disk, and before anyone could have been told anything.
    std::fs::remove_dir_all(path.join("db")).unwrap();
    Mark::open(&path).unwrap().0.reset(incarnation.0).unwrap();
    let store = open(&path).unwrap();
    assert!(store.is_fresh());
    assert_ne!(store.incarnation(), incarnation);
}

#[tokio::test]
async fn fault_13_a_torn_last_record_leaves_the_last_valid_one() {
    let dir = tempfile::tempdir().unwrap();
    let (origin, path) = (dir.path().join("origin"), dir.path().join("copy"));
    let want = filled(&origin, Reopen::Often).await;
    let before = std::fs::read(dir::db_file(&origin)).unwrap();
    let mut store = open(&origin).unwrap();
    let incarnation = store.incarnation().0;
    let change = store.core.head().change;
    append(&mut store, vec![note(3, 241, &"torn".repeat(900))]).await;
    drop(store);
    let after = std::fs::read(dir::db_file(&origin)).unwrap();
    let was = |at: usize| before.get(at).copied().unwrap_or(0);
    let written: Vec<usize> = (0..after.len()).filter(|at| after[*at] != was(*at)).collect();
    assert!(written.len() > 3000, "{}", written.len());
    // Torn: the last third of what the write changed never reached the disk, and so nobody was told.
    for torn in [1, written.len() / 3, written.len() - 1] {
        drop(std::fs::remove_dir_all(&path));
        copy(&origin, &path);
        let file = std::fs::File::options().write(true).open(dir::db_file(&path)).unwrap();
        for at in &written[written.len() - torn..] {
            file.write_all_at(&[was(*at)], *at as u64).unwrap();
        }
        let mut mark = Mark::open(&path).unwrap().0;
        mark.reset(incarnation).unwrap();
        mark.saved(change).unwrap();
        mark.begin(change + 1).unwrap();
        let (mut store, logged) = heard(|| open(&path).unwrap());
        assert_eq!(state(&mut store).await, want, "{torn} bytes");
        assert!(logged.contains("WARN") && logged.contains("the last write was torn"), "{logged}");
        append(&mut store, vec![note(3, 241, "goes on")]).await;
    }
}

/// What `f` logs.
fn heard<T>(f: impl FnOnce() -> T) -> (T, String) {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let sink = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || sink.clone()).finish();
    let out = tracing::subscriber::with_default(subscriber, f);
    let text = String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned();
    (out, text)
}

#[tokio::test]
async fn fault_15_a_log_without_a_vote_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), Reopen::Often).await;
    tampered(dir.path(), |core| {
        core.update(|head| {
            head.vote = None;
            Ok(())
        })
        .unwrap();
    })
    .await;
    let error = refusal(dir.path());
    assert!(matches!(error, StoreError::VoteMissing { .. }));
    let text = error.to_string();
    assert!(text.contains("could vote twice") && text.contains("to rejoin, move"), "{text}");
}

#[tokio::test]
async fn an_entry_before_any_vote_brings_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    assert_eq!(vote(&mut store).await, None);
    append(&mut store, vec![membership(0, 0)]).await;
    let incarnation = store.incarnation().0;
    drop(store);
    let mut store = open(dir.path()).unwrap();
    assert_eq!(vote(&mut store).await, Some(Vote::new(0, incarnation)));
}

#[tokio::test]
async fn fault_19_of_a_half_written_snapshot_nothing_remains() {
    let dir = tempfile::tempdir().unwrap();
    let want = filled(dir.path(), Reopen::Often).await;
    let mut cells = 0;
    tampered(dir.path(), |core| {
        cells = core.blobs.len();
        let next = blob::prefix(Kind::Snapshot, core.next_generation());
        cells::put(&core.blobs, &next, &[7; 3000]).unwrap();
        assert!(core.blobs.len() > cells);
    })
    .await;
    let mut store = open(dir.path()).unwrap();
    assert_eq!(state(&mut store).await, want);
    assert_eq!(store.core.blobs.len(), cells);
    // The next one is not mixed up with it.
    let mut machine = Machine::new(Arc::new(store.clone())).unwrap();
    apply(&mut machine, vec![note(3, 241, "newer")]).await;
    snapshot(&mut machine).await;
    drop((store, machine));
    let store = open(dir.path()).unwrap();
    assert_eq!(store.snapshot().unwrap().unwrap().meta.last_log_id, Some(id(3, 241)));
}

#[tokio::test]
async fn an_older_snapshot_does_not_replace_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let mut machine = Machine::new(Arc::new(store.clone())).unwrap();
    apply(&mut machine, vec![membership(1, 0), note(1, 1, "a")]).await;
    let mut older = machine.get_snapshot_builder().await;
    apply(&mut machine, vec![note(1, 2, "b")]).await;
    snapshot(&mut machine).await;
    older.build_snapshot().await.unwrap();
    assert_eq!(store.snapshot().unwrap().unwrap().meta.last_log_id, Some(id(1, 2)));
}

#[tokio::test]
async fn fault_20_newer_data_is_refused_and_its_format_named() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), Reopen::Often).await;
    let path = dir.path().join("mark");
    let good = std::fs::read(&path).unwrap();
    for slot in [0, 64] {
        let mut newer = good.clone();
        newer[slot + 4] = 2;
        std::fs::write(&path, &newer).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, StoreError::NewerFormat { found: 2, known: 1, .. }));
        assert!(error.to_string().contains("format 2, this vipd knows up to 1"), "{error}");
    }
    std::fs::write(&path, &good).unwrap();
    tampered(dir.path(), |core| {
        // Field 1 of the head, as a later vipd would write it.
        let mut bytes = crc::unseal(&core.head().encode()).unwrap().to_vec();
        assert_eq!(bytes[..2], [8, 1]);
        bytes[1] = 3;
        core.meta.insert(super::super::core::HEAD, crc::seal(&bytes)).unwrap();
    })
    .await;
    assert!(matches!(refusal(dir.path()), StoreError::NewerFormat { found: 3, known: 1, .. }));
}
