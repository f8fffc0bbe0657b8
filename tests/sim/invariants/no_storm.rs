//! One route is rewritten at most once a second under one claim, however old the routes are that a look
//! shows.

use std::collections::BTreeMap;
use std::time::Duration;

use vipd::model::{Epoch, RouteKey, Time};

use super::{Invariant, Seen};

#[derive(Default)]
pub struct NoStorm(BTreeMap<(RouteKey, Epoch), Time>);

/// By when the judgement handed them out; how long a connection then takes is not its doing.
const APART: Duration = Duration::from_secs(1);

impl Invariant for NoStorm {
    const PROPERTY: &'static str = "a route is rewritten once a second at most";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::Called(call) = seen else { return None };
        let key = (call.swap.route.clone(), call.permit.epoch());
        let before = self.0.insert(key, call.began)?;
        let gap = call.began.since(before);
        (gap < APART).then(|| format!("{}: {} again after {gap:?}", call.words(), call.swap.route.table))
    }
}
