//! Who may call what: one table, and one question asked before any service sees a request. What is not in
//! the table is refused to everybody.

use crate::tls::{Role, Speaker};

use Role::{Member, Operator, Viewer};

/// Every method of every service that is served, and the roles that may call it.
pub const TABLE: &[(&str, &[Role])] = &[
    ("/vipd.v1.Admin/GetStatus", &[Operator, Viewer]),
    ("/vipd.v1.Admin/GetHistory", &[Operator, Viewer]),
    ("/vipd.v1.Admin/ChangeMembers", &[Operator]),
    ("/vipd.v1.Admin/TransferLeader", &[Operator]),
    ("/vipd.v1.Admin/Order", &[Operator]),
    ("/vipd.v1.Admin/GetIamPolicies", &[Operator, Viewer]),
    // It changes nothing, but each one costs calls to EC2, whose budget the next move needs.
    ("/vipd.v1.Admin/Diagnose", &[Operator]),
    ("/vipd.v1.Peer/Hello", &[Member]),
    ("/vipd.v1.Peer/Form", &[Member]),
    ("/vipd.v1.Peer/Join", &[Member]),
    ("/vipd.v1.Peer/Append", &[Member]),
    ("/vipd.v1.Peer/Vote", &[Member]),
    ("/vipd.v1.Peer/PreVote", &[Member]),
    ("/vipd.v1.Peer/Snapshot", &[Member]),
    ("/vipd.v1.Peer/Transfer", &[Member]),
    ("/vipd.v1.Peer/Report", &[Member]),
    ("/vipd.v1.Peer/Forward", &[Member]),
    ("/grpc.health.v1.Health/Check", &[Operator, Viewer]),
    ("/grpc.health.v1.Health/Watch", &[Operator, Viewer]),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[Operator, Viewer]),
];

/// Why a request is not passed on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Denied {
    #[error("nobody may call {0}")]
    NoSuchMethod(String),
    #[error("{who} may not call {method}: that is for {roles}")]
    Role { who: String, method: &'static str, roles: String },
    #[error("who calls is not known")]
    Unknown,
}

/// Whether one in that role, as another member says, may call `method`. Who has none may call nothing.
pub(super) fn check_role(who: &str, role: &str, method: &'static str) -> Result<(), Denied> {
    let roles =
        TABLE.iter().find(|(listed, _)| *listed == method).map(|(_, roles)| *roles).unwrap_or_default();
    if roles.iter().any(|listed| listed.label() == role) {
        return Ok(());
    }
    Err(denied(if who.is_empty() { "nobody" } else { who }, method, roles))
}

fn denied(who: &str, method: &'static str, roles: &[Role]) -> Denied {
    let roles: Vec<&str> = roles.iter().map(|r| r.label()).collect();
    Denied::Role { who: who.to_owned(), method, roles: roles.join(" and ") }
}

/// Whether this speaker may call the method at `path`. With `tls.insecure` nobody has a role, and whoever
/// reaches the port may call what is in the table.
pub fn check(speaker: Option<&Speaker>, path: &str) -> Result<&'static [Role], Denied> {
    let listed = TABLE.iter().find(|(method, _)| *method == path);
    let (method, roles) = *listed.ok_or_else(|| Denied::NoSuchMethod(path.chars().take(200).collect()))?;
    let speaker = speaker.ok_or(Denied::Unknown)?;
    match speaker.role() {
        Some(role) if !roles.contains(&role) => Err(denied(&speaker.to_string(), method, roles)),
        Some(_) | None => Ok(roles),
    }
}

/// Whether a call by one with these roles may change something: it is worth a line in the log.
pub fn changes(roles: &[Role]) -> bool {
    roles == [Operator]
}
