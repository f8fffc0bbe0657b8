//! Two members of one group in one process.

use std::time::Duration;

use vipd::raft::Group;

/// Waits until one of them leads and each has its end of the other's lifeline; whether it is `a` that leads.
pub async fn first_leads(a: &Group, b: &Group, bound: Duration) -> bool {
    let led = async {
        loop {
            let held = a.lifelines() == 1 && b.lifelines() == 1;
            let leader = a.view().leader;
            if held && leader.is_some() && leader == b.view().leader {
                return leader == Some(a.incarnation());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(bound, led).await.expect("a leader, and a lifeline to it")
}
