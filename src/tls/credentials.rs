//! What this end shows and what it accepts, replaced as a whole or not at all.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::error::{ConnectError, LoadError};
use super::identity::{Identity, Port, Role, Speaker};
use super::material::{Files, Material};
use super::verify::{Clients, Server, Whom, provider};
use super::wire::Wire;
use crate::clock;
use crate::model::{Name, WallMs};

/// How long a client that was refused may take to read why.
const LINGER: Duration = Duration::from_millis(500);

/// More than a client sends before it has read the alert: its end of the handshake and one request.
const LINGER_BYTES: u64 = 64 * 1024;

/// The certificate, its key and the CA in use. A connection keeps those with which it was made.
#[derive(Debug)]
pub struct Credentials {
    files: Files,
    wanted: Wanted,
    ready: RwLock<Arc<Ready>>,
}

/// Whose certificate the file must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Wanted {
    /// This member's.
    Member { cluster: Name, name: Name },
    /// An operator's or a viewer's, whoever it is.
    Person,
}

#[derive(Debug)]
struct Ready {
    material: Material,
    peer: Arc<ServerConfig>,
    operators: Arc<ServerConfig>,
}

impl Credentials {
    /// Of one member.
    pub fn of_member(files: Files, cluster: &Name, name: &Name) -> Result<Self, LoadError> {
        Self::load(files, Wanted::Member { cluster: cluster.clone(), name: name.clone() })
    }

    /// Of somebody at a terminal. The cluster is the one that the certificate names.
    pub fn of_person(files: Files) -> Result<Self, LoadError> {
        Self::load(files, Wanted::Person)
    }

    fn load(files: Files, wanted: Wanted) -> Result<Self, LoadError> {
        let ready = Ready::read(&files, &wanted)?;
        Ok(Self { files, wanted, ready: RwLock::new(Arc::new(ready)) })
    }

    /// Reads the files again. Where anything is wrong with them, what was in use stays in use. Connections
    /// that stand keep what they were made with until they are renewed.
    pub fn reload(&self) -> Result<(), LoadError> {
        let ready = Arc::new(Ready::read(&self.files, &self.wanted)?);
        *self.ready.write().unwrap_or_else(PoisonError::into_inner) = ready;
        Ok(())
    }

    fn ready(&self) -> Arc<Ready> {
        Arc::clone(&self.ready.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whose they are.
    pub fn identity(&self) -> Identity {
        self.ready().material.identity.clone()
    }

    /// When the certificate begins to be valid, and when it ends: the chain's last and first such moment.
    pub fn validity(&self) -> (WallMs, WallMs) {
        let ready = self.ready();
        (ready.material.from, ready.material.until)
    }

    /// When the first of the revocation lists should be replaced; `None` where there is none that says so.
    pub fn next_list(&self) -> Option<WallMs> {
        self.ready().material.next_list
    }

    /// A client's handshake on one of the ports; no deadline of its own. A client that is refused is told so
    /// by a TLS alert, and has a moment to read it.
    pub async fn accept(&self, port: Port, stream: TcpStream) -> Result<(Wire, Speaker), ConnectError> {
        let ready = self.ready();
        let config = match port {
            Port::Peer => &ready.peer,
            Port::Operators => &ready.operators,
        };
        let accept = TlsAcceptor::from(Arc::clone(config)).accept(stream).into_fallible();
        let stream = match accept.await {
            Ok(stream) => stream,
            Err((error, stream)) => {
                linger(stream).await;
                return Err(ConnectError::Handshake(error));
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity = shown.and_then(|leaf| Identity::of_certificate(leaf).ok());
        // The verifier has read the same bytes a moment ago; without them nobody is let in.
        let identity = identity.ok_or_else(|| {
            ConnectError::Handshake(std::io::Error::other(rustls::Error::NoCertificatesPresented))
        })?;
        Ok((Wire::Tls(Box::new(stream.into())), Speaker::Proven(identity)))
    }

    /// A connection to a member at `address`, `host:port`; no deadline of its own.
    pub async fn connect(&self, whom: Whom, address: &str) -> Result<Wire, ConnectError> {
        let config = self.client(whom).map_err(|e| ConnectError::Handshake(std::io::Error::other(e)))?;
        let tcp = tcp(address).await?;
        // Not sent and not looked at: who answers is proven by the certificate's URI.
        let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        Ok(Wire::Tls(Box::new(stream.map_err(ConnectError::Handshake)?.into())))
    }

    fn client(&self, whom: Whom) -> Result<ClientConfig, rustls::Error> {
        let ready = self.ready();
        let server = Server {
            issued: ready.material.issued.clone(),
            cluster: ready.material.identity.cluster.clone(),
            whom,
            algorithms: provider().signature_verification_algorithms,
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(server))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&ready.material.key))));
        config.enable_sni = false;
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

impl Ready {
    fn read(files: &Files, wanted: &Wanted) -> Result<Self, LoadError> {
        let material = Material::read(files, clock::wall())?;
        let found = &material.identity;
        let other =
            |wanted: String| LoadError::Other { path: files.cert.clone(), found: found.to_string(), wanted };
        match wanted {
            Wanted::Member { cluster, name } => {
                let mine = Identity { cluster: cluster.clone(), role: Role::Member, name: name.clone() };
                if *found != mine {
                    return Err(other(mine.to_string()));
                }
            }
            Wanted::Person if found.role == Role::Member => {
                return Err(other("for operators and viewers".to_owned()));
            }
            Wanted::Person => {}
        }
        let (peer, operators) = (server(&material, Port::Peer)?, server(&material, Port::Operators)?);
        Ok(Self { peer, operators, material })
    }
}

fn server(material: &Material, port: Port) -> Result<Arc<ServerConfig>, rustls::Error> {
    let clients =
        Clients { issued: material.issued.clone(), cluster: material.identity.cluster.clone(), port };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&material.key))));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Nobody comes back without showing a certificate: what has been revoked meanwhile would.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

async fn tcp(address: &str) -> Result<TcpStream, ConnectError> {
    let stream = TcpStream::connect(address).await.map_err(ConnectError::Tcp)?;
    // A vote is a small message: without Nagle's delay.
    stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
    Ok(stream)
}

/// Closed with something unread, TCP resets, and the alert is lost on its way.
async fn linger(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

/// How the members and their operators reach each other.
#[derive(Clone, Debug)]
pub enum Transport {
    /// In the clear: `tls.insecure`.
    Insecure,
    Mutual(Arc<Credentials>),
}

impl Transport {
    pub async fn accept(&self, port: Port, stream: TcpStream) -> Result<(Wire, Speaker), ConnectError> {
        match self {
            Transport::Insecure => Ok((Wire::Plain(stream), Speaker::Unproven)),
            Transport::Mutual(credentials) => credentials.accept(port, stream).await,
        }
    }

    /// A connection within `deadline`, proven to be that member's where there is TLS.
    pub async fn connect(&self, whom: Whom, address: &str, deadline: Duration) -> Result<Wire, ConnectError> {
        let connect = async {
            match self {
                Transport::Insecure => tcp(address).await.map(Wire::Plain),
                Transport::Mutual(credentials) => credentials.connect(whom, address).await,
            }
        };
        tokio::time::timeout(deadline, connect).await.unwrap_or(Err(ConnectError::Timeout(deadline)))
    }

    pub fn credentials(&self) -> Option<&Arc<Credentials>> {
        match self {
            Transport::Insecure => None,
            Transport::Mutual(credentials) => Some(credentials),
        }
    }
}
