//! Raft's two clocks, in place of openraft's one: a leader's heartbeats, and a follower's watch over its leader.
//!
//! openraft ticks five times a heartbeat on every member and asks at each tick whether anything is due. That was
//! most of what a member cost at rest (docs/decisions/0031). Here a leader is woken once a heartbeat, and openraft's
//! ticks, which an election timeout needs, run only on a member that has heard no leader for a while.

use std::sync::Arc;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;

use super::Shared;
use super::types::Raft;
use crate::clock;
use crate::config::Timing;
use crate::model::Time;
use crate::runtime;

/// What is done with openraft's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Beat {
    /// A heartbeat now.
    Send,
    /// No timeout can run out before then.
    Rest(Time),
    /// A timeout may run out: openraft's ticks see to it.
    Tick,
}

/// A voter campaigns `election_min` after it last heard a leader at the earliest, and with the lease that it granted
/// later still; so until then no tick is missed.
fn beat(leads: bool, heard: Time, now: Time, timing: &Timing) -> Beat {
    let rest = heard + timing.election_min;
    match () {
        () if leads => Beat::Send,
        () if now < rest => Beat::Rest(rest),
        () => Beat::Tick,
    }
}

/// Runs until Raft has stopped.
pub(super) async fn run(shared: Arc<Shared>, raft: Raft, timing: Timing) {
    let mut changes = raft.server_metrics();
    loop {
        let leads = changes.borrow_watched().state == ServerState::Leader;
        let now = clock::now();
        let beat = beat(leads, shared.last_heard(), now, &timing);
        raft.runtime_config().tick(beat == Beat::Tick);
        let nap = match beat {
            Beat::Send => {
                if raft.trigger().heartbeat().await.is_err() {
                    return;
                }
                timing.heartbeat
            }
            Beat::Rest(until) => until.since(now),
            // A leader may be heard again meanwhile.
            Beat::Tick => timing.election_min,
        };
        // Who has just been elected does not wait.
        if let Ok(Err(_)) = runtime::timeout(nap, changes.changed()).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn openraft_ticks_only_where_no_leader_was_heard_for_an_election_timeout() {
        let ms = Duration::from_millis;
        let timing = Timing { heartbeat: ms(30), election_min: ms(100), election_max: ms(200) };
        let (never, heard) = (Time::default(), Time::from_millis(5_000));
        assert_eq!(beat(true, never, heard, &timing), Beat::Send);
        assert_eq!(beat(false, never, heard, &timing), Beat::Tick);
        assert_eq!(beat(false, heard, heard, &timing), Beat::Rest(heard + ms(100)));
        assert_eq!(beat(false, heard, heard + ms(99), &timing), Beat::Rest(heard + ms(100)));
        assert_eq!(beat(false, heard, heard + ms(100), &timing), Beat::Tick);
    }
}
