//! The ways in, and a connection by any of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// How long a connection may take, and then a word that is sent.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where an attack goes.
#[derive(Clone, Debug)]
pub struct Target {
    pub way: Way,
    /// What is asked for.
    pub path: &'static str,
    /// Streams that the port allows on a connection.
    pub at_once: usize,
}

#[derive(Clone, Debug)]
pub enum Way {
    Tcp(SocketAddr),
    /// With a certificate that is let in.
    Tls(SocketAddr, Arc<ClientConfig>),
    Unix(PathBuf),
}

/// One connection.
#[derive(Debug)]
pub enum Wire {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

impl Way {
    /// `None` where it is refused. With TLS the handshake is the first word's.
    pub fn open(&self) -> Option<Wire> {
        let tcp = |address| -> Option<TcpStream> {
            let stream = TcpStream::connect_timeout(address, PATIENCE).ok()?;
            stream.set_nodelay(true).ok()?;
            stream.set_write_timeout(Some(PATIENCE)).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            Some(stream)
        };
        Some(match self {
            Way::Tcp(address) => Wire::Tcp(tcp(address)?),
            Way::Tls(address, config) => {
                let server = ServerName::try_from("vipd").unwrap();
                let client = ClientConnection::new(Arc::clone(config), server).unwrap();
                Wire::Tls(Box::new(StreamOwned::new(client, tcp(address)?)))
            }
            Way::Unix(path) => {
                let stream = UnixStream::connect(path).ok()?;
                stream.set_write_timeout(Some(PATIENCE)).ok()?;
                stream.set_read_timeout(Some(PATIENCE)).ok()?;
                Wire::Unix(stream)
            }
        })
    }
}

impl Wire {
    /// How long a look waits; zero: as short as may be.
    pub fn set_patience(&self, patience: Duration) {
        let patience = Some(patience.max(Duration::from_millis(1)));
        let _ = match self {
            Wire::Tcp(stream) => stream.set_read_timeout(patience),
            Wire::Tls(stream) => stream.sock.set_read_timeout(patience),
            Wire::Unix(stream) => stream.set_read_timeout(patience),
        };
    }

    /// From now on neither reads nor writes wait.
    pub fn do_not_wait(&self) {
        let _ = match self {
            Wire::Tcp(stream) => stream.set_nonblocking(true),
            Wire::Tls(stream) => stream.sock.set_nonblocking(true),
            Wire::Unix(stream) => stream.set_nonblocking(true),
        };
    }

    /// Whether the server has not closed it, of one that does not wait.
    pub fn is_open(&mut self) -> bool {
        match self.read(&mut [0; 16 * 1024]) {
            Ok(n) => n > 0,
            Err(error) => short_on_time(&error),
        }
    }
}

pub fn short_on_time(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Tcp(stream) => stream.read(into),
            Wire::Tls(stream) => stream.read(into),
            Wire::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Tcp(stream) => stream.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
            Wire::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Tcp(stream) => stream.flush(),
            Wire::Tls(stream) => stream.flush(),
            Wire::Unix(stream) => stream.flush(),
        }
    }
}

/// Whole, of a client that has no certificate to show; the same each time.
pub fn client_hello() -> Vec<u8> {
    let config = crate::anybody::config(None, &rustls::version::TLS13);
    let mut client = ClientConnection::new(config, ServerName::try_from("vipd").unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}
