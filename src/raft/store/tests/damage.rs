//! Data that is torn, flipped, missing or too new.

use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// A directory with something of everything, opened three times.
async fn filled(dir: &Path) -> State {
    let mut store = open(dir).unwrap();
    store.set_group(GroupId(77)).await.unwrap();
    store.set_forming(b"members").await.unwrap();
    let mut next = 0;
    for term in 1..=3 {
        store.save_vote(&Vote::new(term, term)).await.unwrap();
        store.raise_longest_lease_ms(100 * term).await.unwrap();
        let mut machine = Machine::new(&store).unwrap();
        for _ in 0..12 {
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
        drop((store, machine));
        store = open(dir).unwrap();
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

/// One flipped bit, anywhere: all is as it was, or it is refused. Never less than was saved.
#[tokio::test]
async fn fault_14_no_flipped_bit_goes_unnoticed() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let origin = dir.path().join("origin");
    let want = filled(&origin).await;
    let (mut same, mut refused, mut panicked) = (0, 0, 0);
    let mut kinds = std::collections::BTreeMap::new();
    for file in files(&origin) {
        let bytes = std::fs::read(&file).unwrap();
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1) as u64;
        let step = (used / FLIPS).max(1);
        for (n, byte) in (0..used).step_by(step as usize).enumerate() {
            let path = dir.path().join("copy");
            drop(std::fs::remove_dir_all(&path));
            copy(&origin, &path);
            let bad = path.join(file.strip_prefix(&origin).unwrap());
            flip(&bad, byte, n as u32 % 8);
            match catch_unwind(AssertUnwindSafe(|| open(&path))) {
                Ok(Ok(mut store)) => {
                    assert_eq!(state(&mut store).await, want, "byte {byte} of {file:?}");
                    same += 1;
                }
                Ok(Err(error)) => {
                    let text = error.to_string();
                    assert!(text.contains(&path.display().to_string()), "{text}");
                    *kinds.entry(text.replace(|c: char| c.is_ascii_digit(), "")).or_insert(0) += 1;
                    refused += 1;
                }
                Err(_) => panicked += 1,
            }
        }
    }
    println!("{same} without effect, {refused} refused, {panicked} panicked: {kinds:#?}");
    assert!(refused > 50 && same > 10, "{refused} {same}");
    assert_eq!(panicked, 0);
}

const FLIPS: u64 = 300;
