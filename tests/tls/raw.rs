//! A client that checks nothing of its own certificate: what a stranger's program is.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use vipd::tls::{Credentials, Files, Port, Refusal, Speaker, refusal};

use crate::anybody::shown;
pub use crate::anybody::{Shown, config};
use crate::pki::Pki;

const BOUND: Duration = Duration::from_secs(10);

impl Pki {
    pub fn raw(&self, files: &Files) -> Shown {
        shown(&files.cert, &files.key)
    }
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
