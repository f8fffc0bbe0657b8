//! What this member has promised as a voter, and when it may break it (FENCING.md, section 2).

use std::time::Duration;

use crate::model::{Term, Time};
use crate::mutant::{self, Mutant};

/// How long a member that saw its leader's end hears nothing more of that leader. Whoever is heard for
/// longer has not ended.
pub const GIVE_UP: Duration = Duration::from_secs(1);

/// The promise to the leader of one term, by its term, which names one leader. Each acknowledged append
/// of it binds this member's vote for a lease.
///
/// What sets it free before its time: the leader itself, by a transfer; or its end, seen by this member
/// *and* by the other side of the vote. A member that is wrong about an end is alone with it, so that no
/// vote changes hands.
#[derive(Debug, Default)]
pub struct Promise {
    /// The newest term of which an append was acknowledged, and until when that binds.
    term: Term,
    until: Time,
    /// The newest term in which this member voted, for itself or another.
    voted: Term,
    /// That term's leader transfers: nothing binds to it any more.
    freed: Term,
    /// That term's leader has ended, and when this member saw it.
    ended: Option<(Term, Time)>,
    /// This member was wrong about that term's leader: it sees no other end of it.
    wrong: Term,
}

/// What an append comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hearing {
    Heard,
    /// Its leader has ended, as far as this member can tell.
    Ended,
    /// Its leader was thought to have ended, and has not.
    Lives,
}

impl Promise {
    /// Whether an append of `term` may be heard at `now`.
    pub fn hear(&mut self, term: Term, now: Time) -> Hearing {
        match self.ended {
            Some((ended, _)) if ended != term || mutant::on(Mutant::DeafToTheDead) => Hearing::Heard,
            Some((_, at)) if now.since(at) < GIVE_UP => Hearing::Ended,
            Some((ended, _)) => {
                (self.ended, self.wrong) = (None, ended);
                Hearing::Lives
            }
            None => Hearing::Heard,
        }
    }

    /// An append of `term` was accepted: no vote for another before `until`. False: this member has
    /// voted in a later term meanwhile, or has seen that leader's end; the append must not be
    /// acknowledged.
    pub fn acknowledge(&mut self, term: Term, until: Time) -> bool {
        if self.voted > term {
            return false;
        }
        let hears = mutant::on(Mutant::DeafToTheDead) || mutant::on(Mutant::NoAckToTheDead);
        if self.ended.is_some_and(|(ended, _)| ended == term) && !hears {
            return false;
        }
        if term > self.term {
            (self.term, self.until) = (term, Time::default());
        }
        if term == self.term && term != self.freed {
            self.until = self.until.max(until);
        }
        true
    }

    /// Whether a vote may change hands at `now` between this member and one that has seen the end of
    /// `their_end`: its own vote to that one, or that one's to this.
    pub fn may_vote(&self, now: Time, their_end: Term) -> bool {
        let both = their_end == self.term || mutant::on(Mutant::OneSawTheEnd);
        let free = now >= self.until || mutant::on(Mutant::OwnPromise);
        free || (self.end(now) == self.term && both)
    }

    /// Whether this member may ask for votes at `now`.
    pub fn may_ask(&self, now: Time) -> bool {
        self.may_vote(now, self.end(now))
    }

    /// This member has voted in `term`.
    pub fn vote(&mut self, term: Term) {
        self.voted = self.voted.max(term);
    }

    /// The leader of `term` hands its leadership over.
    pub fn free(&mut self, term: Term) {
        self.freed = self.freed.max(term);
        if self.term == term {
            self.until = Time::default();
        }
    }

    /// The leader of `term` has ended. Whether that is the leader that this member follows.
    pub fn see_end(&mut self, term: Term, now: Time) -> bool {
        let follows = term == self.term && self.voted <= term && !self.distrusts(term);
        if follows {
            self.ended = Some((term, now));
        }
        follows
    }

    /// Whether there is nothing to be learned from a lifeline to the leader of `term`: its end was seen,
    /// truly or not.
    pub fn distrusts(&self, term: Term) -> bool {
        self.ended.is_some_and(|(ended, _)| ended == term) || term == self.wrong
    }

    /// The term whose leader has ended a moment ago; zero where none has. After [`GIVE_UP`] it counts no more: what was
    /// not agreed on by then may be this member's own error, and others' leases run out by themselves.
    pub fn end(&self, now: Time) -> Term {
        self.ended.filter(|(_, at)| now.since(*at) < GIVE_UP).map_or(Term(0), |(term, _)| term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Term = Term(4);
    const NONE: Term = Term(0);

    fn ms(n: u64) -> Time {
        Time::from_millis(n)
    }

    /// Bound to the leader of term 4 until 200.
    fn bound() -> Promise {
        let mut p = Promise::default();
        assert!(p.may_vote(ms(0), NONE));
        assert!(p.acknowledge(T, ms(200)));
        p
    }

    #[test]
    fn an_acknowledged_append_binds_until_its_lease_is_over() {
        let mut p = bound();
        assert!(!p.may_vote(ms(199), NONE) && !p.may_ask(ms(199)));
        assert!(p.may_vote(ms(200), NONE) && p.may_ask(ms(200)));
        assert!(p.acknowledge(T, ms(250)));
        assert!(p.acknowledge(T, ms(240)), "an older answer takes nothing away");
        assert!(!p.may_vote(ms(249), NONE));
        assert!(p.acknowledge(Term(3), ms(900)), "an older leader binds nobody");
        assert!(p.may_vote(ms(250), NONE));
    }

    #[test]
    fn the_end_sets_free_only_between_two_that_saw_it() {
        let mut p = bound();
        assert!(!p.may_vote(ms(100), T), "this one has not seen it");
        assert!(p.see_end(T, ms(100)));
        assert!(!p.may_vote(ms(100), NONE), "the other has not");
        assert!(!p.may_vote(ms(100), Term(3)), "it saw the end of another");
        assert!(p.may_vote(ms(100), T) && p.may_ask(ms(100)));
    }

    #[test]
    fn an_end_that_brought_no_new_leader_within_a_second_sets_nobody_free() {
        let mut p = Promise::default();
        assert!(p.acknowledge(T, ms(5_000)));
        assert!(p.see_end(T, ms(100)));
        assert_eq!((p.end(ms(1_099)), p.end(ms(1_100))), (T, NONE));
        assert!(p.may_vote(ms(1_099), T) && p.may_ask(ms(1_099)));
        assert!(
            !p.may_vote(ms(1_100), T) && !p.may_ask(ms(1_100)),
            "bound as before, though it does not hear that leader"
        );
        assert!(!p.see_end(T, ms(2_000)), "it sees no other end of that leader");
    }

    #[test]
    fn of_an_ended_leader_nothing_is_heard_for_a_second() {
        let mut p = bound();
        p.see_end(T, ms(100));
        assert_eq!(p.hear(T, ms(1099)), Hearing::Ended);
        assert!(!p.acknowledge(T, ms(300)), "one that was on its way through the log");
        assert_eq!(p.hear(Term(5), ms(1099)), Hearing::Heard, "another leader is heard");
        assert_eq!(p.hear(T, ms(1100)), Hearing::Lives);
        assert_eq!(p.hear(T, ms(1101)), Hearing::Heard);
        assert!(p.acknowledge(T, ms(1300)));
        assert!(!p.may_vote(ms(1299), T), "bound as before, though Raft's own lease stays off");
        assert!(!p.see_end(T, ms(1200)), "wrong once, it believes no other end of that leader");
        assert!(p.acknowledge(Term(5), ms(1400)));
        assert!(p.see_end(Term(5), ms(1300)));
    }

    #[test]
    fn who_has_voted_since_acknowledges_nothing_of_before() {
        let mut p = bound();
        p.vote(Term(5));
        assert!(!p.acknowledge(T, ms(300)));
        assert!(p.may_vote(ms(200), NONE));
        assert!(!p.see_end(T, ms(100)), "it follows that leader no more");
        assert!(p.acknowledge(Term(5), ms(400)));
    }

    #[test]
    fn a_transfer_sets_free_for_the_rest_of_the_term() {
        let mut p = bound();
        p.free(T);
        assert!(p.may_vote(ms(0), NONE));
        assert!(p.acknowledge(T, ms(300)));
        assert!(p.may_vote(ms(0), NONE));
        assert!(p.acknowledge(Term(5), ms(400)));
        assert!(!p.may_vote(ms(399), NONE));
    }

    #[test]
    fn the_end_of_one_it_never_followed_is_nothing() {
        let mut p = Promise::default();
        assert!(!p.see_end(NONE, ms(0)));
        assert!(!p.see_end(T, ms(0)));
        assert!(!bound().see_end(Term(3), ms(0)));
        assert!(!bound().see_end(Term(5), ms(0)));
    }
}
