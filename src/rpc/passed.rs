//! What another member passed on, before it is answered: whether who asked it may ask that here too.
//!
//! The member's certificate is proven; of who asked it there is its word alone, since that one's connection ends
//! there. So this keeps honest members honest, and names in the log whose word it was: docs/SECURITY.md.

use super::roles::{self, Denied};
use crate::proto;
use crate::raft::{Passed, Verb};
use crate::refused::Refusals;
use crate::tls::Speaker;

/// The method by which an operator asks for it; `None`: members ask it for themselves.
fn method(verb: &Verb) -> Option<&'static str> {
    match verb {
        Verb::Status(_) => None,
        Verb::Examine(_) => Some("/vipd.v1.Admin/Diagnose"),
        Verb::Transfer(_) => Some("/vipd.v1.Admin/TransferLeader"),
        Verb::Order(_) => Some("/vipd.v1.Admin/Order"),
        Verb::Members(_) => Some("/vipd.v1.Admin/ChangeMembers"),
    }
}

/// Refuses what that role may not ask, by the table of the operators' port; what changes something is logged, with
/// both names.
pub(super) fn admit(passed: &Passed, refusals: &Refusals) -> Result<(), Denied> {
    let Some(method) = method(&passed.verb) else { return Ok(()) };
    let who = &passed.who.name;
    // In the clear nobody has a role.
    if passed.by != Speaker::Unproven {
        roles::check_role(who, &passed.who.role, method).inspect_err(|denied| {
            let why = denied.to_string();
            refusals.tell(&passed.by, format_args!("refused, as a member passes it on: {why:?}"));
        })?;
    }
    if changes(&passed.verb) {
        let what = method.rsplit('/').next().unwrap_or_default();
        let by = &passed.by;
        match refusals.order() {
            Some(left_out) => {
                tracing::info!(?who, %by, what, left_out, "an operator asks by way of another member");
            }
            None => tracing::debug!(?who, %by, what, "an operator asks by way of another member"),
        }
    }
    Ok(())
}

fn changes(verb: &Verb) -> bool {
    match verb {
        Verb::Status(_) | Verb::Examine(_) => false,
        Verb::Transfer(request) => !request.dry_run,
        Verb::Order(_) => true,
        Verb::Members(request) => request.change() != proto::members_request::Change::List,
    }
}
