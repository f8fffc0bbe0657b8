//! A call leaves only after its caller has applied its own claim, the newest, and an intent that covers
//! the route.

use std::time::Duration;

use super::{Invariant, Seen, is_name};

#[derive(Default)]
pub struct ClaimedCall;

impl Invariant for ClaimedCall {
    const PROPERTY: &'static str = "a call follows its caller's claim and intent";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::Called(call) = seen else { return None };
        let Some(claim) = &call.ledger.claim else {
            return Some(format!("{}: no claim is applied", call.words()));
        };
        let own = is_name(&claim.member, call.name)
            && claim.term == call.permit.term()
            && claim.epoch == call.permit.epoch();
        if !own {
            return Some(format!("{}: the newest claim is {claim:?}", call.words()));
        }
        let intended = call.ledger.unsettled.contains_key(&call.swap.route);
        (!intended).then(|| format!("{}: no intent covers {}", call.words(), call.swap.route.table))
    }
}
