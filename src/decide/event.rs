//! What `step` is told, and what it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::decide::Permit;
use crate::decide::membership::{Change, Enlistment};
use crate::ledger::{Command, Kind, Ledger, Phases};
use crate::model::route::{CloudError, Outcome, Sight, Swap};
use crate::model::{
    EniId, Epoch, Health, Incarnation, Member, Name, OnQuorumLoss, RouteKey, RouteTableId, Term, Time, Vip,
    WallMs,
};

/// What the file and the host say. Only what is [`Tunable`] changes while the daemon runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub me: Name,
    pub my_incarnation: Incarnation,
    /// What this member's file says of itself. What counts is the membership, which follows it.
    pub own: Member,
    pub vips: Vec<Vip>,
    /// Listed in the file; those found by tag come with each look.
    pub tables: Vec<RouteTableId>,
    /// The next hop of this member's claims. A witness may have none.
    pub eni: Option<EniId>,
    pub create_missing: bool,
    /// Kept free before a lease's end.
    pub margin: Duration,
    pub election_max: Duration,
    pub attempt_timeout: Duration,
    pub reconcile: Duration,
    pub on_quorum_loss: OnQuorumLoss,
    pub failback: bool,
    pub min_hold: Duration,
    /// How often the owner refreshes the address's kernel lifetime; `None`: it has none.
    pub refresh_address: Option<Duration>,
}

/// The part of the [`Settings`] that a reload may change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunable {
    pub tables: Vec<RouteTableId>,
    pub create_missing: bool,
    pub reconcile: Duration,
    pub on_quorum_loss: OnQuorumLoss,
    pub failback: bool,
    pub min_hold: Duration,
}

impl Settings {
    pub(super) fn tune(&mut self, tunable: Tunable) {
        let Tunable { tables, create_missing, reconcile, on_quorum_loss, failback, min_hold } = tunable;
        self.tables = tables;
        self.create_missing = create_missing;
        self.reconcile = reconcile;
        self.on_quorum_loss = on_quorum_loss;
        self.failback = failback;
        self.min_hold = min_hold;
    }
}

/// Raft's state here, as much of it as a judgement needs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RaftView {
    pub role: Role,
    pub term: Term,
    pub leader: Option<Incarnation>,
    /// The voters: one set, or two while members change.
    pub configs: Vec<BTreeSet<Incarnation>>,
    /// Everybody in the membership, learners too.
    pub nodes: BTreeMap<Incarnation, Member>,
    /// Which membership it is: one that is newer has a greater number.
    pub membership: u64,
    /// The entry by which the group removed this member.
    pub removed: Option<u64>,
    pub last_index: u64,
    /// When an append of another leader last came in.
    pub heard: Option<Time>,
    /// When this member's last attempt to be elected began: at its pre-vote, or at its vote after a transfer.
    pub campaigned: Option<Time>,
}

impl RaftView {
    pub fn leader_name(&self) -> Option<&Name> {
        self.leader.and_then(|id| self.nodes.get(&id)).map(|m| &m.name)
    }

    pub fn is_voter(&self, name: &Name) -> bool {
        self.incarnation_of(name).is_some()
    }

    /// While members change, the one that will vote when that is over: what leaves is no target.
    pub fn incarnation_of(&self, name: &Name) -> Option<Incarnation> {
        let voters = self.configs.last()?;
        self.nodes.iter().find(|(id, m)| m.name == *name && voters.contains(id)).map(|(id, _)| *id)
    }

    /// What is agreed on a member: on its voter, where one has that name.
    pub fn member(&self, name: &Name) -> Option<&Member> {
        self.member_with_id(name).map(|(_, member)| member)
    }

    pub fn member_with_id(&self, name: &Name) -> Option<(Incarnation, &Member)> {
        let of_name = |id: &Incarnation| self.nodes.get(id).filter(|m| m.name == *name).map(|m| (*id, m));
        let voter = self.incarnation_of(name).and_then(|id| of_name(&id));
        voter.or_else(|| self.nodes.keys().find_map(of_name))
    }

    /// Everybody, by name. While a wiped member comes back it has two incarnations and is one member.
    pub fn members(&self) -> impl Iterator<Item = (Incarnation, &Member)> {
        let names: BTreeSet<&Name> = self.nodes.values().map(|m| &m.name).collect();
        names.into_iter().filter_map(|name| self.member_with_id(name))
    }

    /// While the voters change there are two sets.
    pub fn is_joint(&self) -> bool {
        self.configs.len() > 1
    }

    /// The voters when a change that is under way is over.
    pub fn voters(&self) -> BTreeSet<Incarnation> {
        self.configs.last().cloned().unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    #[default]
    Learner,
    Follower,
    Candidate,
    Leader,
}

/// What another member said of itself, or its silence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub reachable: bool,
    pub health: Health,
    pub applied: u64,
    /// It has just started, and takes no leadership yet.
    pub quarantined: bool,
    /// Why it may not own; `None` where it may.
    pub barred: Option<String>,
    /// When EC2 last answered it, on this member's clock.
    pub reached: Option<Time>,
    /// Why it does not reach EC2; `None` where it does.
    pub cut_off: Option<String>,
    /// The tables whose routes it may change, and when EC2 said so, on this member's clock.
    pub allowed: BTreeMap<RouteTableId, Time>,
    /// Those whose routes it may not change, and why.
    pub denied: BTreeMap<RouteTableId, String>,
    /// Its data directory, and what its own file says of it.
    pub says: Option<(Incarnation, Member)>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed; nothing else.
    Tick,
    Raft(RaftView),
    /// `from` answered the append of `term` that left here at `sent`.
    Acknowledged {
        from: Incarnation,
        term: Term,
        sent: Time,
        granted: Duration,
    },
    Applied {
        ledger: Arc<Ledger>,
        index: u64,
    },
    /// The log took no such entry, as far as is known: it may come all the same.
    ProposalFailed(Command),
    Health(Health),
    /// The VIPs that are on the interface.
    Addresses(BTreeSet<Vip>),
    /// An attempt to add or remove an address has ended.
    AddressTried(Vip),
    Peer(Name, Peer),
    /// Why this member may not own; `None` where it may.
    Barred(Option<String>),
    /// Why the VIP cannot be put on its interface; `None` where it can.
    Interface(Option<String>),
    /// The file was read again.
    Configured(Tunable),
    Looked {
        asked: Time,
        result: Result<Sight, CloudError>,
    },
    Swapped {
        swap: Swap,
        epoch: Epoch,
        outcome: Outcome,
    },
    /// How a DryRun ended.
    Rehearsed {
        swap: Swap,
        result: Result<(), CloudError>,
    },
    /// This member's lifeline to the leader of `term` ended: that process is dead.
    Ended {
        term: Term,
    },
    /// Leadership is to go to another member.
    Asked(Ask),
    /// The ledger is to keep what an operator wants.
    Ordered(Order),
    /// The membership is to change.
    Enlist(Enlistment),
    /// The change that was under way has ended.
    Changed(Result<(), Refusal>),
}

/// A switchover that somebody wants.
#[derive(Clone, Debug)]
pub struct Ask {
    pub id: AskId,
    /// `None`: the best member, a healthy one first.
    pub to: Option<Name>,
    pub reason: String,
    pub mode: AskMode,
    pub while_paused: WhilePaused,
    pub by: Asker,
    /// When whoever asks stops waiting.
    pub deadline: Time,
}

/// Who asks for a move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// Somebody, or a script: one move a second (FAULTS 67).
    Operator,
    /// A member that stops or is drained: its move does not wait.
    Member,
}

/// What stands until it is taken back, whoever leads.
#[derive(Clone, Debug)]
pub struct Order {
    pub id: AskId,
    pub what: Directive,
    /// Of a drain that needs a move.
    pub while_paused: WhilePaused,
    pub deadline: Time,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Directive {
    /// Own nothing; an owner hands over.
    Drain(Name),
    Undrain(Name),
    Pause,
    Resume,
}

/// What becomes of an ask for a move while the group is paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhilePaused {
    Refuse,
    Move,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AskMode {
    Do,
    /// Only say what would be done.
    DryRun,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AskId(pub u64);

/// What the hands are to do. Within one list the order holds: a gate that closes is closed before
/// what follows it.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Replace what the gate has open.
    Gate(Option<Permit>),
    /// Append to the log. `Event::ProposalFailed` if that fails; else the ledger shows it.
    Propose(Command),
    /// Read the route tables.
    Look,
    Swap(Swap, Permit),
    /// Ask EC2 whether it would be allowed (`DryRun`).
    Rehearse(Swap),
    AddAddress(Vip, Permit),
    RemoveAddress(Vip),
    /// Trigger Raft's transfer to this voter.
    Transfer(Incarnation),
    /// Ask for votes after so long, since the leader of `term` has ended.
    Campaign {
        term: Term,
        after: Duration,
    },
    /// Change the membership; one at a time. `Event::Changed` says how it ended.
    Change(Change),
    Answer(AskId, Result<Answer, Refusal>),
    Tell(Story),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The move is over; its epoch finds it in the ledger.
    Moved(Epoch),
    /// What a dry run would do.
    Would { from: Option<Name>, to: Name },
    /// The ledger has the order, or the membership its change; nothing had to move.
    Kept,
}

/// Why a switchover was not made. Messages name the cause; [`next`](Refusal::next) the next step.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("this member is not the leader")]
    NotLeader,
    #[error("no member is named {0}")]
    Unknown(Name),
    #[error("{0} owns the VIP already")]
    Itself(Name),
    #[error("{0} is a witness: it votes, it never owns")]
    Witness(Name),
    #[error("{0} is no voter of the group")]
    NotVoter(Name),
    #[error("{0} does not answer")]
    Unreachable(Name),
    #[error("{0} is unhealthy: {1}")]
    Unhealthy(Name, String),
    #[error("{0} may not own: {1}")]
    Barred(Name, String),
    #[error("{0} may not change every route: {1}")]
    Denied(Name, String),
    #[error("{0} does not reach EC2, and could not change a route: {1}")]
    CutOff(Name, String),
    #[error("{0} is drained")]
    Drained(Name),
    #[error("{0} lags by {1} log entries")]
    Lagging(Name, u64),
    #[error("{0} has just started and takes no leadership yet")]
    Quarantined(Name),
    #[error("no other member may own: {0}")]
    Nobody(String),
    #[error("a move to {0} is under way")]
    UnderWay(Name),
    /// So many milliseconds are left.
    #[error("one transfer a second is made: the next may be asked for in {0} ms")]
    TooSoon(u64),
    #[error("the leader holds no claim yet")]
    NoClaim,
    #[error("no quorum acknowledges the leader")]
    NoQuorum,
    #[error("the group is paused")]
    Paused,
    #[error("{0} orders wait for the log already")]
    TooMany(usize),
    /// The trigger was not pulled: the owner stays.
    #[error("the transfer was called off: {0}; the owner stays {1}")]
    CalledOff(&'static str, Name),
    /// The trigger was pulled: Raft decides.
    #[error("the move to {0} did not end in time; the owner is {1}")]
    NotInTime(Name, String),
    #[error("leadership went elsewhere: {0} owns the VIP, not {1}")]
    Elsewhere(Name, Name),
    #[error("the VIP moved to {0}, but not every route table shows it")]
    NotInSync(Name),
    #[error("{0} is drained, but it still owns the VIP: {1}")]
    StillOwns(Name, String),
    #[error("the log did not take it in time; it may come all the same")]
    NotLogged,
    #[error("{0} is a member already")]
    Member(Name),
    #[error("{1} is at {0} already")]
    SameAddress(String, Name),
    #[error("{0} votes already")]
    Votes(Name),
    #[error("{0} lives: two members of one name cannot be")]
    Lives(Name),
    #[error("{0}")]
    LosesQuorum(String),
    #[error("{0} is the only voter")]
    LastVoter(Name),
    #[error("{0} owns the VIP, and does not lead: no other member may own")]
    Owns(Name),
    #[error("the group has {0} members and their directories, which is as many as it takes")]
    Crowded(usize),
    #[error("another change of the members is under way")]
    Changing,
    #[error("{0} is not ready at {1}: {2}")]
    NotThere(Name, String, String),
    #[error("at {0} answers {1}, not {2}")]
    AnotherThere(String, String, Name),
    #[error("the change of the members did not end: {0}")]
    Unchanged(String),
}

impl Refusal {
    /// Whether a precondition did not hold, so that nothing was changed.
    pub fn is_precondition(&self) -> bool {
        match self {
            Refusal::NotLeader
            | Refusal::Unknown(_)
            | Refusal::Itself(_)
            | Refusal::Witness(_)
            | Refusal::NotVoter(_)
            | Refusal::Unreachable(_)
            | Refusal::Unhealthy(..)
            | Refusal::Barred(..)
            | Refusal::Denied(..)
            | Refusal::CutOff(..)
            | Refusal::Drained(_)
            | Refusal::Lagging(..)
            | Refusal::Quarantined(_)
            | Refusal::Paused
            | Refusal::TooMany(_)
            | Refusal::Nobody(_)
            | Refusal::UnderWay(_)
            | Refusal::TooSoon(_)
            | Refusal::NoClaim
            | Refusal::Member(_)
            | Refusal::SameAddress(..)
            | Refusal::Votes(_)
            | Refusal::Lives(_)
            | Refusal::LosesQuorum(_)
            | Refusal::LastVoter(_)
            | Refusal::Owns(_)
            | Refusal::Crowded(_)
            | Refusal::Changing
            | Refusal::NotThere(..)
            | Refusal::AnotherThere(..)
            | Refusal::NoQuorum => true,
            Refusal::CalledOff(..)
            | Refusal::NotInTime(..)
            | Refusal::Elsewhere(..)
            | Refusal::StillOwns(..)
            | Refusal::NotLogged
            | Refusal::Unchanged(_)
            | Refusal::NotInSync(_) => false,
        }
    }

    /// What to do about it.
    pub fn next(&self) -> &'static str {
        match self {
            Refusal::NotLeader | Refusal::NoClaim => {
                "wait for the election to end and ask again; vipctl status shows the leader"
            }
            Refusal::NoQuorum => {
                "see which members run (vipctl status) and whether they reach each other; a majority is needed"
            }
            Refusal::Unknown(_) => "vipctl status lists the members",
            Refusal::Itself(_) => "name another member with --to, or leave --to away for the best one",
            Refusal::Witness(_) => "name a member that is no witness; vipctl status lists them",
            Refusal::NotVoter(_) => "wait until it has joined; vipctl status shows who votes",
            Refusal::Unreachable(_) => {
                "see whether its vipd runs and the peer port is open between the zones"
            }
            Refusal::Unhealthy(..) => "mend HAProxy there, or name another member with --to",
            Refusal::Barred(..) => "mend what is named, or choose another member with --to",
            Refusal::Denied(..) => {
                "add what is named to the role's policy (vipctl iam-policy prints all of it), or choose another member with --to"
            }
            Refusal::CutOff(..) => {
                "see its way to EC2 (vipctl doctor: security groups, NAT or VPC endpoint, DNS, credentials), or choose another member with --to"
            }
            Refusal::Drained(_) => "vipctl undrain it first, or choose another member with --to",
            Refusal::Paused => "vipctl resume ends the pause; --force moves the VIP all the same",
            Refusal::TooMany(_) => "ask again in a moment",
            Refusal::StillOwns(..) => {
                "it hands over as soon as another member may own; vipctl undrain takes it back"
            }
            Refusal::NotLogged => "vipctl status shows whether it came; it may be asked for again",
            Refusal::Lagging(..) => "wait until it has caught up; vipctl status shows the lag",
            Refusal::Quarantined(_) => "wait for one lease (vipd --check shows it) and ask again",
            Refusal::Nobody(_) => "vipctl status shows what is wrong with each member",
            Refusal::TooSoon(_) => "vipctl status shows where the VIP is; ask again after that time",
            Refusal::UnderWay(_) => "wait for it to end; vipctl status --watch shows it",
            Refusal::CalledOff(..) => "look at the leader's log, then ask again",
            Refusal::NotInTime(..) | Refusal::Elsewhere(..) => {
                "vipctl status shows where the VIP is; ask again if need be"
            }
            Refusal::NotInSync(_) => "vipctl routes shows which table is not in sync, and why",
            Refusal::Member(_) => "vipctl member list shows the members; choose another name",
            Refusal::SameAddress(..) => "give the new member an address of its own",
            Refusal::Votes(_) => "nothing is left to do; vipctl member list shows who votes",
            Refusal::Lives(_) => "stop the old one first, or give the new one another name",
            Refusal::LosesQuorum(_) => "bring a member back first (vipctl status), or add one and promote it",
            Refusal::LastVoter(_) => "add another member and promote it first",
            Refusal::Owns(_) => "see why no other may own (vipctl status), or add a member that may",
            Refusal::Crowded(_) => "vipctl member list shows them; remove what is not needed",
            Refusal::Changing => "wait for it to end (vipctl member list) and ask again",
            Refusal::NotThere(..) => {
                "start vipd there with this group's members in its file, then ask again, or allow more --wait"
            }
            Refusal::AnotherThere(..) => "compare the address with the file of the member that you mean",
            Refusal::Unchanged(_) => {
                "vipctl member list shows what stands; what was begun the leader ends, and it may be asked for again"
            }
        }
    }
}

/// What people and metrics are told.
#[derive(Clone, PartialEq, Debug)]
pub enum Story {
    /// The process of `term`'s leader is dead, and so many others ask for votes before this member.
    LeaderEnded {
        term: Term,
        place: u32,
    },
    /// What a change of the members came to.
    MembersChanged {
        change: Change,
        outcome: Result<(), Refusal>,
    },
    Claiming {
        term: Term,
    },
    Owning {
        term: Term,
        epoch: Epoch,
    },
    /// This member leads but does not claim.
    StandsBack {
        reason: String,
        to: Option<Name>,
    },
    HandingOver {
        to: Name,
        reason: String,
    },
    TransferTriggered {
        to: Name,
    },
    /// A route was wrong outside a move and is being put right.
    Repair {
        swap: Swap,
    },
    /// And how to make it.
    RouteMissing {
        route: RouteKey,
        words: String,
    },
    /// EC2 does not let this member change the routes of a table.
    Denied {
        table: RouteTableId,
        why: String,
    },
    /// Somebody else changed it so often within a minute.
    Contended {
        route: RouteKey,
        times: usize,
    },
    /// The ledger shows the end of a move that began here.
    MoveOver {
        kind: Kind,
        phases: Phases,
    },
    Released {
        vip: Vip,
    },
    /// Somebody else took it away from the owner: it is put back.
    AddressLost {
        vip: Vip,
    },
    /// What operators ordered has changed: this is all of it.
    Orders {
        drained: BTreeSet<Name>,
        paused: bool,
    },
}

/// The wall clock goes with each step, for the ledger's records only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    pub time: Time,
    pub wall: WallMs,
}
