//! One member that has not started yet, and how it sets openraft.

use super::store::Store;
use super::*;
use crate::tls::Transport;

/// A member with a directory of its own, in a group of two.
pub(super) fn starting(
    dial: Arc<dyn Dial>,
    events: mpsc::Sender<Event>,
) -> (Starting<Store>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "cluster = \"edge\"\nmember = \"az-a\"\ndata_dir = \"{}\"\n[peer]\nlisten = \"10.0.1.10:7400\"\n\
         [[members]]\nname = \"az-a\"\npeer = \"10.0.1.10:7400\"\n\
         [[members]]\nname = \"az-b\"\npeer = \"10.0.2.10:7400\"\n\
         [vip]\naddresses = [\"192.168.77.10/32\"]\n[aws]\nroute_tables = [\"rtb-0a\"]\n\
         [tls]\ninsecure = true\n",
        dir.path().join("data").display()
    );
    let config = Config::parse(text.as_bytes(), "test", None).unwrap();
    let on_fatal = Arc::new(|cause: &str| panic!("{cause}"));
    let store = Store::open(&config.data_dir, &config.cluster, &config.member, on_fatal).unwrap();
    let gate = Arc::new(Gate::new(config.timing.margin()));
    (Starting::new(&config, store, dial, gate, events).unwrap(), dir)
}

/// What FENCING.md rests on, against openraft's defaults of another version.
#[tokio::test]
async fn openraft_is_set_as_the_fence_needs_it() {
    let (events, _) = mpsc::channel(1);
    let (starting, _dir) = starting(Arc::new(Lazy::new(Transport::Insecure)), events);
    let set = settings(&starting.shared, &starting.timing, SNAPSHOT_EVERY).unwrap();
    assert_eq!(set.enable_leader_restore, Some(false), "hole 1");
    assert!(!set.enable_elect, "hole 2: the quarantine turns it on");
    assert_eq!(
        set.election_timeout_max, starting.shared.lease_ms,
        "hole 3: what is granted is what openraft keeps"
    );
    assert_eq!(set.enable_pre_vote, Some(true), "hole 6");
    assert_eq!(set.removed_leader_step_down, StepDownPolicy::Never, "hole 7");
}
