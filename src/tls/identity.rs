//! What a certificate says of who holds it: `spiffe://CLUSTER/ROLE/NAME`, its one URI.

use std::fmt;
use std::str::FromStr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::model::Name;

/// What a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Speaks Raft, on the peer port.
    Member,
    /// Every verb, on the operators' port.
    Operator,
    /// The verbs that change nothing, on the operators' port.
    Viewer,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Member, Role::Operator, Role::Viewer];

    pub fn label(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Operator => "operator",
            Role::Viewer => "viewer",
        }
    }
}

/// The two ports, which share no role.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    Peer,
    Operators,
}

impl Port {
    /// Whose certificates a handshake on it accepts.
    pub fn takes(self, role: Role) -> bool {
        match role {
            Role::Member => self == Port::Peer,
            Role::Operator | Role::Viewer => self == Port::Operators,
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Port::Peer => "peer",
            Port::Operators => "operators'",
        }
    }
}

/// One name in one role of one cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Identity {
    pub cluster: Name,
    pub role: Role,
    pub name: Name,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.cluster, self.role.label(), self.name)
    }
}

/// Why a certificate names nobody.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the certificate cannot be read")]
    Garbled,
    #[error("the certificate has {0} URIs as alternative names, not one")]
    NotOne(usize),
    #[error("\"{0}\" is not spiffe://CLUSTER/ROLE/NAME with the role member, operator or viewer")]
    NotAnIdentity(String),
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let parse = || {
            let mut parts = text.strip_prefix("spiffe://")?.split('/');
            let cluster = parts.next()?.parse().ok()?;
            let role = parts.next()?;
            let role = Role::ALL.into_iter().find(|r| r.label() == role)?;
            let name = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(Identity { cluster, role, name })
        };
        parse().ok_or_else(|| IdentityError::NotAnIdentity(text.chars().take(200).collect()))
    }
}

impl Identity {
    /// Of a certificate in DER. Exactly one URI, as an X.509-SVID has (SPIFFE, X509-SVID section 2): with
    /// two, two readers could take two names from it.
    pub fn of_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Garbled)?;
        if !rest.is_empty() {
            return Err(IdentityError::Garbled);
        }
        let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Garbled)?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
            return Err(IdentityError::Garbled);
        }
        let uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        match uris.collect::<Vec<_>>()[..] {
            [uri] => uri.parse(),
            ref uris => Err(IdentityError::NotOne(uris.len())),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Speaker {
    /// By a certificate of the CA.
    Proven(Identity),
    /// By what the kernel says of the process at the other end of the unix socket.
    Local { role: Role, uid: u32 },
    /// By nothing: `tls.insecure`.
    Unproven,
}

impl Speaker {
    /// `None`: by nothing.
    pub fn role(&self) -> Option<Role> {
        match self {
            Speaker::Proven(Identity { role, .. }) | Speaker::Local { role, .. } => Some(*role),
            Speaker::Unproven => None,
        }
    }
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speaker::Proven(identity) => identity.fmt(f),
            Speaker::Local { role, uid } => write!(f, "uid {uid} ({})", role.label()),
            Speaker::Unproven => f.write_str("somebody (tls.insecure)"),
        }
    }
}
