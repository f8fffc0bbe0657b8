//! rustls's two questions, answered: is this client's certificate good on this port, and is this server
//! the member that was dialled?

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::identity::{Identity, IdentityError, Port, Role};
use crate::model::Name;

/// ring, named here and not taken from the process: the AWS SDK brings its own.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Which member is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whom {
    Member(Name),
    /// Any will do: an operator asks whoever answers.
    AnyMember,
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whom::Member(name) => write!(f, "member/{name}"),
            Whom::AnyMember => f.write_str("a member"),
        }
    }
}

/// Why a certificate that the CA did issue is refused all the same.
#[derive(Debug, thiserror::Error)]
enum Unwanted {
    #[error(transparent)]
    Nobody(#[from] IdentityError),
    #[error("{0} is not of cluster {1}")]
    Cluster(Identity, Name),
    #[error("{0} has no business on the {1} port")]
    Role(Identity, &'static str),
    #[error("{0} answers, not {1}")]
    Server(Identity, Whom),
}

impl From<Unwanted> for Error {
    fn from(why: Unwanted) -> Self {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
    }
}

/// What the CA has issued and not taken back.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Issued {
    /// By these CAs, without what these lists name. A list says nothing of another CA's certificates, as while CAs
    /// are exchanged; and one that should have been renewed still counts: if it did not, a CA that was not
    /// looked after would stop the group.
    pub(super) fn new(
        roots: RootCertStore,
        lists: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, Error> {
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
        let clients = clients.with_crls(lists).allow_unknown_revocation_status().build();
        Ok(Self { roots, clients: clients.map_err(|e| Error::General(e.to_string()))? })
    }

    /// Whether this chain is one, for the purposes that the role has: a member is a server and a client.
    pub(super) fn check(&self, role: Role, chain: &[CertificateDer<'_>], at: UnixTime) -> Result<(), Error> {
        let (leaf, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        self.clients.verify_client_cert(leaf, rest, at)?;
        match role {
            Role::Member => self.is_server(leaf, rest, at),
            Role::Operator | Role::Viewer => Ok(()),
        }
    }

    fn is_server(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = provider().signature_verification_algorithms;
        let leaf = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, rest, at, algorithms.all)
    }
}

/// Of a client: issued by the CA, for this cluster, in a role that the port takes.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) issued: Issued,
    pub(super) cluster: Name,
    pub(super) port: Port,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.issued.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // First whether the CA vouches for it: nothing of a stranger's certificate is read further.
        let verified = self.issued.clients.verify_client_cert(leaf, rest, now)?;
        let identity = Identity::of_certificate(leaf).map_err(Unwanted::from)?;
        if identity.cluster != self.cluster {
            return Err(Unwanted::Cluster(identity, self.cluster.clone()).into());
        }
        if !self.port.takes(identity.role) {
            return Err(Unwanted::Role(identity, self.port.label()).into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.clients.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.clients.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.clients.supported_verify_schemes()
    }
}

/// Of a server: issued by the CA, and the member of this cluster that was meant.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) issued: Issued,
    pub(super) cluster: Name,
    pub(super) whom: Whom,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Server {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // A member's certificate is a client's too, and rustls looks at the lists for clients.
        self.issued.clients.verify_client_cert(leaf, rest, now)?;
        self.issued.is_server(leaf, rest, now)?;
        let identity = Identity::of_certificate(leaf).map_err(Unwanted::from)?;
        if identity.cluster != self.cluster {
            return Err(Unwanted::Cluster(identity, self.cluster.clone()).into());
        }
        let meant = match &self.whom {
            Whom::Member(name) => identity.name == *name,
            Whom::AnyMember => true,
        };
        if identity.role != Role::Member || !meant {
            return Err(Unwanted::Server(identity, self.whom.clone()).into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
