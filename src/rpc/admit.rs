//! Connections from the moment they are accepted until it is known who is at the other end.
//!
//! ```text
//!   TCP --accept--> a task each, at most UNKNOWN_MAX --handshake--> Caller --> tonic, or a lifeline
//!   unix --accept--> SO_PEERCRED --------------------------------> Caller --> tonic
//! ```

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::caller::{Age, Caller, Known, Origin};
use super::keeper::{Keeper, Place};
use super::limits;
use super::local::Doorman;
use super::preface::{First, Rewound, first};
use crate::raft::lifeline::Lifelines;
use crate::refused::Refusals;
use crate::tls::{ConnectError, Port, Role, Speaker, Transport, Wire};

/// Connections of a port of which it is not known yet what they are; one more, and the one of which that
/// has not been known for longest is closed. A handshake takes two round trips, so that strangers would
/// have to open so many within them to keep a member out.
pub const UNKNOWN_MAX: usize = 256;

/// How long a handshake may take. A lost packet is sent again within one second (RFC 6298).
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// After an error of accept(2): it may be for want of descriptors, and would come again at once.
const PAUSE: Duration = Duration::from_millis(50);

/// What the unix socket's connections, which have none, are counted under.
const NO_ADDRESS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Connections that may wait for tonic, which takes each at once.
const CALLS_MAX: usize = 16;

/// What tonic is handed.
pub(super) type Calls<S> = ReceiverStream<io::Result<Known<S>>>;

/// Accepts for ever; `greet` finds out what a connection is.
pub(super) async fn accept<F>(
    port: Port,
    listener: TcpListener,
    greet: impl Fn(TcpStream, SocketAddr) -> F + Send,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut unknown: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the {} port accepts no connection", port.label());
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        unknown.retain(|task| !task.is_finished());
        if unknown.len() >= UNKNOWN_MAX
            && let Some(longest) = unknown.pop_front()
        {
            longest.abort();
        }
        // A vote is a small message: without Nagle's delay.
        let _ = stream.set_nodelay(true);
        unknown.push_back(tokio::spawn(greet(stream, address)).abort_handle());
    }
}

/// The place of one of whom it is known now who it is.
fn fitting(place: Place, speaker: &Speaker) -> Option<Place> {
    match speaker.role() {
        Some(Role::Viewer) => Some(place).filter(Place::leaves_room),
        Some(Role::Member | Role::Operator) | None => Some(place),
    }
}

/// What a port asks of each connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Doorway {
    transport: Transport,
    port: Port,
    keeper: Keeper,
    refusals: Arc<Refusals>,
}

impl Doorway {
    pub(super) fn new(transport: &Transport, port: Port, keeper: Keeper) -> Self {
        Self { transport: transport.clone(), port, keeper, refusals: Arc::default() }
    }

    /// A place for one that is known now; `None` where there is none left for it.
    fn seat(&self, from: SocketAddr, speaker: Speaker) -> Option<Caller> {
        let place = Arc::new(fitting(self.keeper.admit(from.ip())?, &speaker)?);
        Some(Caller { from: Origin::Tcp(from), speaker, place })
    }

    /// Who it is, within the deadline; without TLS, whoever it is.
    pub(super) async fn shake(&self, stream: TcpStream, from: SocketAddr) -> Option<(Wire, Speaker)> {
        let shaken = tokio::time::timeout(HANDSHAKE_DEADLINE, self.transport.accept(self.port, stream)).await;
        match shaken {
            Ok(Ok(known)) => return Some(known),
            Ok(Err(error)) => self.tell(from, &error),
            Err(_) => tracing::debug!(%from, "a handshake did not end"),
        }
        None
    }

    fn tell(&self, from: SocketAddr, why: &ConnectError) {
        let port = self.port.label();
        self.refusals.tell(&from, format_args!("a connection to the {port} port is refused: {why}"));
    }
}

/// The members' connections that carry calls; the others are lifelines.
pub(super) fn members(
    listener: TcpListener,
    transport: &Transport,
    keeper: Keeper,
    lifelines: Lifelines,
    age: Age,
) -> Calls<Rewound> {
    let doorway = Doorway::new(transport, Port::Peer, keeper);
    let (sender, calls) = mpsc::channel(CALLS_MAX);
    tokio::spawn(accept(Port::Peer, listener, move |stream, from| {
        let (doorway, sender, lifelines) = (doorway.clone(), sender.clone(), lifelines.clone());
        async move {
            let Some((wire, speaker)) = doorway.shake(stream, from).await else { return };
            match first(wire).await {
                Some(First::Calls(wire)) => {
                    let Some(caller) = doorway.seat(from, speaker) else { return };
                    let _ = sender.send(Ok(Known::new(wire, caller, age))).await;
                }
                Some(First::Lifeline(wire)) => {
                    // Unknown until it has greeted. Then a task of its own, which nothing ends.
                    let Some(greeted) = lifelines.greet(wire, &speaker).await else { return };
                    drop(tokio::spawn(lifelines.hold(greeted)));
                }
                None => tracing::debug!(%from, "a connection that is none of a member was closed"),
            }
        }
    }));
    ReceiverStream::new(calls)
}

/// The operators' connections over TCP.
pub(super) fn operators(listener: TcpListener, transport: &Transport, age: Age) -> Calls<Wire> {
    let doorway = Doorway::new(transport, Port::Operators, Keeper::new(limits::OPERATORS));
    let (sender, calls) = mpsc::channel(CALLS_MAX);
    tokio::spawn(accept(Port::Operators, listener, move |stream, from| {
        let (doorway, sender) = (doorway.clone(), sender.clone());
        async move {
            if let Some((wire, speaker)) = doorway.shake(stream, from).await
                && let Some(caller) = doorway.seat(from, speaker)
            {
                let _ = sender.send(Ok(Known::new(wire, caller, age))).await;
            }
        }
    }));
    ReceiverStream::new(calls)
}

/// The connections of the unix socket.
pub(super) fn local(listener: UnixListener, doorman: Doorman) -> Calls<UnixStream> {
    let (sender, calls) = mpsc::channel(CALLS_MAX);
    let keeper = Keeper::new(limits::LOCAL);
    tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the unix socket accepts no connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // Whose process it is not known to be is nobody's.
            let Ok(peer) = stream.peer_cred() else { continue };
            let Some(place) = keeper.admit(NO_ADDRESS) else { continue };
            let (doorman, sender) = (doorman.clone(), sender.clone());
            tokio::spawn(async move {
                let speaker = doorman.speaker(&peer).await;
                let Some(place) = fitting(place, &speaker).map(Arc::new) else { return };
                let caller = Caller { from: Origin::Unix { pid: peer.pid() }, speaker, place };
                let _ = sender.send(Ok(Known::new(stream, caller, Age::USUAL))).await;
            });
        }
    });
    ReceiverStream::new(calls)
}
