//! What a run is to show, from a group that forms to its end.

use std::time::Duration;

use rand::RngExt as _;
use vipd::model::{Observed, RouteMap};
use vipd::runtime::simulated::true_now;

use crate::chaos::{Act, Cut, Schedule, What};
use crate::disk::Unsaved;
use crate::ec2::Ec2Weather;
use crate::seat::{TABLES, eni};
use crate::world::{LOOK_EVERY, Plan, World};

/// A property's name, and how it was broken.
type Broken = (&'static str, String);

/// The course of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Story {
    /// Safety: faults, whatever they do. Liveness: all is healed; one owner, and route = owner =
    /// address; then nothing moves; a route changed by hand is right within R; the owner dies, and
    /// another owns within B.
    Healing,
    /// The same; and a route changed by hand soon after that other's claim is right within R of fast reading.
    HealingThenByHand,
    /// The same, but that the owner dies with a call in the air that is executed ten minutes late: for so long
    /// the next one reads fast.
    HealingThenLate,
    /// The faults change nothing: the same owner in the same term.
    Unmoved,
    /// One member is drained, then the owner dies: the third owns, whichever of the two is elected.
    Drained,
    /// While a round trip exceeds the timings nobody owns; one owner within 5 s of healing, and the terms have not
    /// run away.
    Lossy,
    /// A call that the owner's predecessor made is executed ten minutes late.
    LateCall,
}

/// How the owner is lost in the end, without a word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Death {
    /// Its process ends, which its lifelines tell.
    Process,
    /// Its host's power is gone, which nothing tells.
    Power,
    /// It does nothing any more, and its connections stay.
    Frozen,
    /// No member reaches it any more, nor it them. It reaches EC2.
    CutOff,
}

/// What the owner's loss came to.
#[derive(Clone, Copy, Debug)]
pub struct Failover {
    pub death: Death,
    /// To the last route.
    pub took: Duration,
    /// One, and one more for each vote that was split.
    pub elections: u32,
}

/// Two that ask within a round trip of each other split the vote, and draw anew when they ask again: a few times in a
/// hundred each, so that more in a row are no chance.
const ELECTIONS_MAX: u32 = 5;

impl Death {
    pub const ALL: [Self; 4] = [Self::Process, Self::Power, Self::Frozen, Self::CutOff];

    /// From when to when a failover is timed.
    pub fn told(self) -> &'static str {
        match self {
            Self::Process => "the death of the owner's process to the last route",
            Self::Power => "its host's loss of power to the last route",
            Self::Frozen => "its process's freezing to the last route",
            Self::CutOff => "its being cut off from the members to the last route",
        }
    }
}

/// Within so long of a claim reading is fast (FENCING.md, F-c).
const FAST: Duration = Duration::from_secs(15);

/// A new incarnation is taken in once the old has been silent for 10 s to a leader that has led as long. It may
/// have to give up a request to each of the others first, for 3 s each, and a learner has to catch up.
const HEALS_WITHIN: Duration = Duration::from_secs(20);

/// Operators wait so long for what they ask for at most, here, and for the leader's answer a second longer.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// How long nothing may move.
const CALM: Duration = Duration::from_secs(3);

/// So long after the last answer in time no lease is left, and no entry on its way: three of the longest leases.
const LEASES_OVER: Duration = Duration::from_millis(900);

/// R while reading is fast: 2 s, two round trips, and an intent through the log.
const R: Duration = Duration::from_millis(2_100);

/// R later: `reconcile_s` more.
const R_SLOW: Duration = Duration::from_millis(12_100);

/// How late a held call is executed, one of them. EC2 takes a signature for 15 minutes.
const LATE_S: [u64; 8] = [30, 30, 60, 60, 90, 90, 120, 600];

impl World {
    /// Forms the group and tells the story. Its failover, if there was one.
    pub async fn tell(&mut self, plan: &Plan) -> Result<Option<Failover>, Broken> {
        for seat in &mut self.seats[..plan.seats] {
            seat.start(&self.around);
        }
        self.until_healed(Duration::from_secs(15)).await.map_err(|e| ("a group forms", e))?;
        match plan.story {
            Story::Healing => {
                self.healing(plan).await?;
                self.owner_dies().await.map(|(failover, _)| Some(failover))
            }
            Story::HealingThenByHand => {
                self.healing(plan).await?;
                let (failover, claimed) = self.owner_dies().await?;
                self.by_hand(claimed).await.map(|()| Some(failover))
            }
            Story::HealingThenLate => {
                self.healing(plan).await?;
                *self.faults.entry("read fast for ten minutes").or_default() += 1;
                self.late_call(600).await.map(|()| None)
            }
            Story::Unmoved => self.unmoved(plan).await.map(|()| None),
            Story::Drained => self.drained().await.map(|()| None),
            Story::Lossy => self.lossy(plan).await.map(|()| None),
            Story::LateCall => {
                let late_s = LATE_S[self.rng.random_range(0..LATE_S.len())];
                self.late_call(late_s).await.map(|()| None)
            }
        }
    }

    async fn suffer(&mut self, plan: &Plan) {
        let (from, to) = (true_now(), true_now() + plan.safety);
        self.schedule = (plan.faults)(&mut self.rng, plan.seats + plan.newcomers, from, to);
        self.pass(to).await;
    }

    async fn healing(&mut self, plan: &Plan) -> Result<(), Broken> {
        self.suffer(plan).await;
        self.heal();
        let began = true_now();
        self.whole("after healing route = owner = address").await?;
        self.healing = Some(true_now() - began);
        // Whatever operators asked for last is over, and whatever EC2 still holds back lands and is repaired.
        self.pass(true_now() + ASKED_FOR).await;
        while self.around.ec2.holds_back() {
            self.pass(true_now() + Duration::from_millis(100)).await;
        }
        self.whole("a late write is repaired").await?;
        self.around.referee.calm();
        self.pass(true_now() + CALM).await;
        let owner = self.healed().map_err(|e| ("in calm nothing moves", e))?;
        let table = self.rng.random_range(0..TABLES.len());
        self.act(Act::RouteByHand { table, seat: (owner + 1) % self.seats.len() });
        let repaired = self.until_healed(R_SLOW).await;
        repaired.map_err(|e| ("a wrong route is right again within R", e))?;
        self.around.referee.stir();
        Ok(())
    }

    /// Operators put right what they ordered, and the group heals. What they had asked of the membership before may be
    /// done only then: once more.
    async fn whole(&mut self, property: &'static str) -> Result<(), Broken> {
        let mut again = 2;
        loop {
            self.lift_orders().await?;
            self.settle_members().await?;
            match self.until_healed(HEALS_WITHIN).await {
                Ok(_) => return Ok(()),
                Err(_) if again > 0 && !self.is_whole() => again -= 1,
                Err(why) => return Err((property, why)),
            }
        }
    }

    /// How another came to own, and when that was.
    async fn owner_dies(&mut self) -> Result<(Failover, Duration), Broken> {
        let death = Death::ALL[self.rng.random_range(0..Death::ALL.len())];
        let failover = self.fails_over(death).await?;
        Ok((failover, true_now()))
    }

    /// Soon after a claim, while reading is fast whatever the ledger says.
    async fn by_hand(&mut self, claimed: Duration) -> Result<(), Broken> {
        let broken = "a wrong route is right again within R of fast reading";
        let routes = self.around.ec2.routes();
        let owns = |seat: &usize| routes.values().all(|seen| points_at(seen, &eni(*seat)));
        let owner = (0..self.seats.len()).find(owns).ok_or((broken, "nobody owns".to_owned()))?;
        let most = (FAST - R) / 2;
        let wait = Duration::from_millis(self.rng.random_range(1_000..=most.as_millis() as u64));
        self.pass(claimed + wait).await;
        let (changed, table) = (true_now(), self.rng.random_range(0..TABLES.len()));
        self.act(Act::RouteByHand { table, seat: (owner + 1) % self.seats.len() });
        *self.faults.entry("route changed by hand, read fast").or_default() += 1;
        let target = eni(owner);
        let right = |routes: &RouteMap| routes.values().all(|seen| points_at(seen, &target));
        let took = self.routes_are(changed, right).await.map_err(|e| (broken, e))?;
        if took > R { Err((broken, format!("{took:?}, {wait:?} after the claim"))) } else { Ok(()) }
    }

    /// Operators take back what they ordered, asking one member after the other for as long as it takes.
    async fn lift_orders(&mut self) -> Result<(), Broken> {
        let end = true_now() + HEALS_WITHIN;
        for via in (0..self.seats.len()).cycle() {
            if self.take_orders_back(via) {
                break;
            }
            if true_now() >= end {
                return Err(("orders can be taken back", format!("not within {HEALS_WITHIN:?}")));
            }
            self.pass(true_now() + Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// B: the owner dies without a word.
    async fn fails_over(&mut self, death: Death) -> Result<Failover, Broken> {
        let broken = "another owns within B";
        let owner = self.healed().map_err(|e| (broken, e))?;
        let (died, term) = (true_now(), self.around.referee.newest_term());
        self.around.referee.say(&format!("the owner is lost: {death:?}"));
        match death {
            Death::Process => self.seats[owner].kill(&self.around, Unsaved::Kept),
            Death::Power => self.seats[owner].kill(&self.around, Unsaved::Lost),
            // Not by an act, which would count as a fault of the safety phase.
            Death::Frozen => self.each(owner, |living| living.host.freeze()),
            Death::CutOff => self.isolate_owner(Cut::Both),
        }
        let target = eni(owner);
        let left = |routes: &RouteMap| routes.values().all(|seen| !points_at(seen, &target));
        let took = self.routes_are(died, left).await.map_err(|e| (broken, e))?;
        // A member may have been in that term before, cut off.
        let elections = ((self.around.referee.newest_term() - term) as u32).max(1);
        let bound = self.failover_bound(elections);
        if took > bound || elections > ELECTIONS_MAX {
            let words = format!("{took:?} and {elections} elections after {death:?}, more than {bound:?}");
            return Err((broken, words));
        }
        Ok(Failover { death, took, elections })
    }

    /// How long since `from` until all routes are as wanted.
    async fn routes_are(
        &mut self,
        from: Duration,
        wanted: impl Fn(&RouteMap) -> bool,
    ) -> Result<Duration, String> {
        while true_now() < from + Duration::from_secs(20) {
            self.pass(true_now() + LOOK_EVERY).await;
            if wanted(&self.around.ec2.routes()) {
                return Ok(true_now() - from);
            }
        }
        Err("not within 20 s".to_owned())
    }

    async fn drained(&mut self) -> Result<(), Broken> {
        let broken = "a drained leader makes way";
        let owner = self.healed().map_err(|e| (broken, e))?;
        let count = self.seats.len();
        let drained = (owner + self.rng.random_range(1..count)) % count;
        let third = (0..count).find(|seat| ![owner, drained].contains(seat)).expect("a third");
        self.act(Act::Order { via: owner, what: What::Drain(drained) });
        let end = true_now() + Duration::from_secs(5);
        while !self.all_know_drained(drained) {
            if true_now() >= end {
                return Err((broken, "the order is not known everywhere".to_owned()));
            }
            self.pass(true_now() + LOOK_EVERY).await;
        }
        let died = true_now();
        self.seats[owner].kill(&self.around, Unsaved::Kept);
        let target = eni(third);
        let at_third = |routes: &RouteMap| routes.values().all(|seen| points_at(seen, &target));
        let took = self.routes_are(died, at_third).await.map_err(|e| (broken, e))?;
        // One election more, where the drained one wins the first.
        let bound = self.failover_bound(2) * 2;
        if took > bound {
            return Err((broken, format!("{took:?}, more than {bound:?}")));
        }
        self.heal();
        self.lift_orders().await?;
        let healed = self.until_healed(HEALS_WITHIN).await;
        healed.map(drop).map_err(|e| ("after healing route = owner = address", e))
    }

    async fn unmoved(&mut self, plan: &Plan) -> Result<(), Broken> {
        let (claims, term) = (self.around.referee.claims(), self.around.referee.newest_term());
        self.suffer(plan).await;
        let (claims_now, term_now) = (self.around.referee.claims(), self.around.referee.newest_term());
        if (claims_now, term_now) != (claims, term) {
            let words = format!("{} claims, term {term_now}; it was term {term}", claims_now - claims);
            return Err(("the faults move nothing", words));
        }
        self.heal();
        self.until_healed(HEALS_WITHIN).await.map_err(|e| ("after healing route = owner = address", e))?;
        Ok(())
    }

    async fn lossy(&mut self, plan: &Plan) -> Result<(), Broken> {
        let term = self.around.referee.newest_term();
        let (from, to) = (true_now(), true_now() + plan.safety);
        self.schedule = (plan.faults)(&mut self.rng, plan.seats, from, to);
        self.pass(from + LEASES_OVER).await;
        self.nobody_owns(to).await?;
        self.status_names_the_round_trip().await?;
        // One campaign a second and member would be running away.
        let climbed = self.around.referee.newest_term() - term;
        if climbed > plan.safety.as_secs() {
            return Err(("terms do not run away", format!("{climbed} in {:?}", plan.safety)));
        }
        self.heal();
        let healed = self.until_healed(Duration::from_secs(5)).await;
        healed.map(drop).map_err(|e| ("one owner within 5 s of healing", e))
    }

    /// Nobody may call or take the address, and nobody claims.
    async fn nobody_owns(&mut self, until: Duration) -> Result<(), Broken> {
        let broken = "nobody owns where a round trip exceeds the timings";
        let claims = self.around.referee.claims();
        while true_now() < until {
            self.pass(true_now() + LOOK_EVERY).await;
            let open = (0..self.seats.len()).find_map(|seat| self.around.referee.open(seat));
            if let Some(permit) = open {
                return Err((broken, format!("{permit:?} is open")));
            }
        }
        let claimed = self.around.referee.claims() - claims;
        if claimed > 0 { Err((broken, format!("{claimed} claims"))) } else { Ok(()) }
    }

    /// Each member that runs says that what it measures is more than its timings bear.
    async fn status_names_the_round_trip(&self) -> Result<(), Broken> {
        for living in self.seats.iter().filter_map(|seat| seat.living.as_ref()) {
            let desk = living.desk.clone();
            let status = living.host.spawn(async move { desk.status(true).await }).await;
            let status = status.expect("a task that ends").expect("a member that runs answers");
            if !status.problems.iter().any(|p| p.starts_with("a round trip from ")) {
                return Err(("status names the round trip", format!("{:?}", status.problems)));
            }
        }
        Ok(())
    }

    async fn late_call(&mut self, late_s: u64) -> Result<(), Broken> {
        let broken = "a late write is repaired within R";
        let owner = self.healed().map_err(|e| (broken, e))?;
        let before = self.around.ec2.faults();
        let late_ms = (late_s * 1_000, late_s * 1_000);
        let held = Ec2Weather { late: 1_000, late_ms, ..Ec2Weather::default() };
        self.around.ec2.set_weather(held);
        let began = true_now();
        self.act(Act::RouteByHand { table: 0, seat: (owner + 1) % self.seats.len() });
        // The repair is made, held, and its outcome unknown when the next owner claims. One call only: a second
        // that lands soon after would have to wait for the pace of rewriting.
        while self.around.ec2.faults().late == before.late && true_now() < began + Duration::from_secs(13) {
            self.pass(true_now() + LOOK_EVERY).await;
        }
        let made = self.around.ec2.faults().late - before.late;
        self.around.ec2.set_weather(Ec2Weather::default());
        self.seats[owner].kill(&self.around, Unsaved::Kept);
        self.schedule.add(true_now() + Duration::from_secs(5), Act::Start { seat: owner });
        self.pass(true_now() + Duration::from_secs(6)).await;
        let next = self.until_healed(HEALS_WITHIN).await.map_err(|e| (broken, e))?;
        let mut wrong_since = None;
        while true_now() < began + Duration::from_secs(late_s + 30) {
            self.pass(true_now() + Duration::from_millis(20)).await;
            match (self.healed(), wrong_since) {
                (Ok(_), _) => wrong_since = None,
                (Err(_), None) => wrong_since = Some(true_now()),
                (Err(why), Some(since)) if true_now() - since > R => {
                    return Err((broken, format!("wrong since {since:?}: {why}")));
                }
                (Err(_), Some(_)) => {}
            }
        }
        // The fault must have happened: each call that was held landed on a route that was right.
        let misled = self.around.ec2.faults().misled - before.misled;
        if made == 0 || misled == 0 || next == owner {
            return Err((
                "a late write lands",
                format!("{made} calls were held, {misled} landed on a right route"),
            ));
        }
        self.healed().map(drop).map_err(|e| (broken, e))
    }
}

fn points_at(seen: &Observed, eni: &str) -> bool {
    matches!(seen, Observed::Active(Some(target)) if target.as_str() == eni)
}

/// No faults.
pub fn none(_: &mut rand::rngs::SmallRng, _: usize, _: Duration, _: Duration) -> Schedule {
    Schedule::default()
}
