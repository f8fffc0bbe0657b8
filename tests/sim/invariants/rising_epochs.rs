//! By the time at which calls leave, their epochs never fall.

use std::time::Duration;

use vipd::model::Epoch;

use super::{Invariant, Seen};

#[derive(Default)]
pub struct RisingEpochs(Epoch);

impl Invariant for RisingEpochs {
    const PROPERTY: &'static str = "epochs at EC2 do not fall";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::Called(call) = seen else { return None };
        let epoch = call.permit.epoch();
        if epoch < self.0 {
            return Some(format!("{} after epoch {}", call.words(), self.0));
        }
        self.0 = epoch;
        None
    }
}

#[cfg(test)]
mod tests {
    use vipd::decide::{Permit, RaftView};
    use vipd::ledger::Ledger;
    use vipd::model::route::{Swap, Verb};
    use vipd::model::{Incarnation, RouteKey, Term, Time};

    use super::super::Call;
    use super::*;
    use crate::seat::{TABLES, VIP, eni};

    #[test]
    fn a_call_of_an_earlier_claim_behind_a_later_ones_is_seen() {
        let mut i = RisingEpochs::default();
        let (view, ledger) = (RaftView::default(), Ledger::default());
        let route = RouteKey { table: TABLES[0].parse().expect("an id"), vip: VIP.parse().expect("a VIP") };
        let swap = Swap { route, eni: eni(0).parse().expect("an id"), verb: Verb::Replace };
        let mut calls = |seat, epoch| {
            let call = Call {
                seat,
                me: Incarnation(1),
                name: "az-a",
                swap: &swap,
                permit: Permit::for_tests(Term(1), Epoch(epoch), Time::MAX),
                began: Time::default(),
                now: Time::default(),
                margin: Duration::ZERO,
                view: &view,
                ledger: &ledger,
                gate: Ok(()),
            };
            i.see(Duration::ZERO, &Seen::Called(call))
        };
        assert_eq!(calls(0, 5), None);
        assert_eq!(calls(0, 5), None);
        assert_eq!(calls(1, 9), None);
        assert!(calls(0, 5).is_some());
        assert_eq!(calls(1, 9), None);
    }
}
