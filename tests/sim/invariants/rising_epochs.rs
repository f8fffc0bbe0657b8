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
