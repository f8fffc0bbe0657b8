//! Whoever acknowledges an append has all that it acknowledges on its disk, saved.

use std::time::Duration;

use super::{Invariant, Seen};

#[derive(Default)]
pub struct AcknowledgedSaved;

impl Invariant for AcknowledgedSaved {
    const PROPERTY: &'static str = "what is acknowledged is saved";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::Appended { me, index, term, disk } = seen else { return None };
        let lacks = !disk.has_saved(*index, *term);
        lacks.then(|| format!("{me} acknowledges entry {index} of term {term}, which is not saved"))
    }
}
