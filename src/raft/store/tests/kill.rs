//! A writer that is killed with SIGKILL, again and again.

use std::io::{BufRead as _, BufReader};
use std::process::{Command as Process, Stdio};

use super::*;

#[test]
fn a_killed_writer_has_lost_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut total = 0;
    for round in 0..8_u64 {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["raft::store::tests::kill::writer", "--exact", "--ignored", "--nocapture"])
            .env("DIR", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines =
            lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("ACK ").map(str::to_owned));
        let mut acknowledged = Vec::new();
        while acknowledged.len() < 40 + 17 * round as usize {
            acknowledged.push(lines.next().expect("the writer goes on"));
        }
        child.kill().unwrap();
        // What it had printed before it died counts as well.
        acknowledged.extend(lines);
        child.wait().unwrap();
        total += acknowledged.len();
        runtime.block_on(check(&path, &acknowledged));
    }
    assert!(total > 500, "{total}");
}

async fn check(path: &Path, acknowledged: &[String]) {
    let mut store = open(path).unwrap();
    let state = store.get_log_state().await.unwrap();
    let vote = vote(&mut store).await.unwrap();
    let log = log(&mut store).await;
    for line in acknowledged {
        let (what, number) = line.split_once(' ').unwrap();
        let number: u64 = number.parse().unwrap();
        match what {
            "entry" => {
                let purged = state.last_purged_log_id.is_some_and(|id| id.index >= number);
                let there = || log.iter().any(|e| e.log_id.index == number);
                assert!(purged || there(), "entry {number} of {state:?}");
            }
            "vote" => assert!(vote.leader_id.term >= number, "vote {number}, {vote}"),
            "snapshot" => {
                let snapshot = store.snapshot().unwrap().unwrap();
                assert!(snapshot.meta.last_log_id.unwrap().index >= number);
            }
            "lease" => assert!(store.longest_lease_ms() >= number),
            other => panic!("{other}"),
        }
    }
    let machine = Machine::new(Arc::new(store.clone())).unwrap();
    let applied = machine.applied().borrow().clone();
    assert!(newest(&applied).unwrap_or(0) >= applied.index.saturating_sub(1));
}

#[tokio::test]
#[ignore = "run by a_killed_writer_has_lost_nothing_that_it_acknowledged"]
async fn writer() {
    let mut store = open(Path::new(&std::env::var("DIR").unwrap())).unwrap();
    let mut machine = Machine::new(Arc::new(store.clone())).unwrap();
    let from = machine.applied().borrow().index;
    let term = vote(&mut store).await.map_or(1, |vote| vote.leader_id.term + 1);
    store.save_vote(&Vote::new(term, 5)).await.unwrap();
    println!("\nACK vote {term}");
    let state = store.get_log_state().await.unwrap();
    let replay = log(&mut store).await;
    let replay = replay.into_iter().filter(|e| from == 0 || e.log_id.index > from).collect();
    apply(&mut machine, replay).await;
    let mut next = state.last_log_id.map_or(0, |id| id.index + 1);
    loop {
        let entries: Vec<Entry> =
            (next..next + 1 + next % 3).map(|i| note(term, i, &i.to_string().repeat(50))).collect();
        append(&mut store, entries.clone()).await;
        next += entries.len() as u64;
        println!("ACK entry {}", next - 1);
        apply(&mut machine, entries).await;
        match next % 23 {
            0 | 1 => {
                snapshot(&mut machine).await;
                println!("ACK snapshot {}", next - 1);
                let log = log(&mut store).await;
                store.purge(log[log.len() / 2].log_id).await.unwrap();
            }
            7 => {
                // Entries that were never committed, and go again.
                let lost = (next..next + 5).map(|i| note(term, i, "lost")).collect();
                append(&mut store, lost).await;
                store.truncate_after(Some(id(term, next - 1))).await.unwrap();
            }
            13 => {
                store.raise_longest_lease_ms(next).await.unwrap();
                println!("ACK lease {next}");
            }
            _ => {}
        }
    }
}
