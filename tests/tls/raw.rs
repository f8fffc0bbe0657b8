//! A client that checks nothing of its own certificate: what a stranger's program is.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use vipd::tls::{Credentials, Files, Port, Refusal, Speaker, refusal};

use crate::pki::Pki;

const BOUND: Duration = Duration::from_secs(10);

/// A chain and its key.
pub type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Pki {
    pub fn raw(&self, files: &Files) -> Shown {
        let chain = CertificateDer::pem_file_iter(&files.cert).unwrap().map(Result::unwrap).collect();
        (chain, PrivateKeyDer::from_pem_file(&files.key).unwrap())
    }
}

/// Trusts whoever answers.
#[derive(Debug)]
struct Anybody(rustls::crypto::WebPkiSupportedAlgorithms);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}

pub fn config(shown: Option<Shown>, version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let anybody = Anybody(provider.signature_verification_algorithms);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody));
    Arc::new(match shown {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

/// The client's side: connects, and reads until it knows whether it was let in.
pub async fn call(
    config: &Arc<ClientConfig>,
    address: std::net::SocketAddr,
) -> Result<Option<HandshakeKind>, String> {
    let told = |e: std::io::Error| match refusal(&e) {
        Some(Refusal::Theirs(why)) => why.to_owned(),
        other => format!("{other:?}: {e}"),
    };
    let tcp = TcpStream::connect(address).await.unwrap();
    let server = ServerName::try_from("vipd").unwrap();
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(server, tcp).await.map_err(told)?;
    stream.read_exact(&mut [0]).await.map_err(told)?;
    Ok(stream.get_ref().1.handshake_kind())
}

async fn serve(server: &Credentials, port: Port, listener: &TcpListener) -> Result<Speaker, String> {
    let (stream, _) = listener.accept().await.unwrap();
    let (mut wire, speaker) = server.accept(port, stream).await.map_err(|e| e.to_string())?;
    wire.write_all(b"x").await.map_err(|e| e.to_string())?;
    wire.flush().await.map_err(|e| e.to_string())?;
    Ok(speaker)
}

/// What the server knows, and what the client is told.
pub async fn meet(
    server: &Credentials,
    port: Port,
    shown: Option<Shown>,
) -> (Result<Speaker, String>, Result<(), String>) {
    let config = config(shown, &rustls::version::TLS13);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let both = async { tokio::join!(serve(server, port, &listener), call(&config, address)) };
    let (speaker, told) = tokio::time::timeout(BOUND, both).await.unwrap();
    (speaker, told.map(drop))
}

pub async fn meet_by_tls_1_2(server: &Credentials, shown: Shown) -> Result<(), String> {
    let config = config(Some(shown), &rustls::version::TLS12);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let both = async { tokio::join!(serve(server, Port::Peer, &listener), call(&config, address)) };
    tokio::time::timeout(BOUND, both).await.unwrap().1.map(drop)
}

/// By one configuration, which would keep a ticket.
pub async fn meet_twice(server: &Credentials, shown: Shown) -> [Option<HandshakeKind>; 2] {
    let config = config(Some(shown), &rustls::version::TLS13);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut kinds = [None; 2];
    for kind in &mut kinds {
        let both = async { tokio::join!(serve(server, Port::Peer, &listener), call(&config, address)) };
        *kind = tokio::time::timeout(BOUND, both).await.unwrap().1.unwrap();
    }
    kinds
}
