//! One lazy channel to each member, replaced where it has gone dead, and before it grows old.

mod cork;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tonic::codegen::http;
use tonic::transport::Endpoint;
use tower::util::BoxCloneSyncService;

use self::cork::Corked;
use super::lifeline::{self, Held};
use crate::aged::Aged;
use crate::clock;
use crate::model::Time;
use crate::proto;
use crate::proto::peer_client::PeerClient;
use crate::runtime;
use crate::tls::{ConnectError, Transport, Whom};

/// A channel on which nothing has come back for so long is thrown away: after a cut TCP would wait
/// for its own retransmission, seconds too long.
const DEAD_AFTER: Duration = Duration::from_millis(1000);

/// How long a connection may take to open. Zones of one region are about a millisecond apart.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// At what age this member replaces the connections that it has opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewal {
    /// One that carries calls. The other end closes it at an hour (`rpc/caller.rs`), so that whoever's
    /// certificate was revoked or has ended goes.
    pub calls: Duration,
    /// A lifeline: what remembers connections between the members (a security group's tracking, for
    /// one, within 60 s at the least: EC2's ConnectionTrackingSpecification) forgets silent ones, and then drops the FIN.
    pub lifeline: Duration,
    /// Either is let go, although no other could be opened: whoever is at the other end may be let in no more, and
    /// hold on to what it has.
    pub ends: Duration,
}

impl Renewal {
    /// What vipd does.
    pub const USUAL: Self = Self {
        calls: Duration::from_secs(50 * 60),
        lifeline: Duration::from_secs(45),
        ends: Duration::from_secs(60 * 60),
    };
}

/// At this age a connection is closed whatever is under way on it: six minutes after it has carried its last new call,
/// as at the other end (`rpc/caller.rs`).
const CLOSED_AT: Duration = Duration::from_secs(66 * 60);

/// Until the next attempt, where one failed.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

/// The new connection and one answer on it.
const RENEW_DEADLINE: Duration = Duration::from_secs(2);

/// The largest message a peer may send: a snapshot of the whole ledger is under 1 MiB.
pub(super) const MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// Why a call to a member brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("\"{0}\" is no host:port")]
    Address(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{}", .0.message())]
    Status(Box<tonic::Status>),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// What carries requests to one address and brings the answers back.
pub type Carrier =
    BoxCloneSyncService<http::Request<tonic::body::Body>, http::Response<tonic::body::Body>, tonic::Status>;

/// How an address is reached: the port behind which the network lies.
pub trait Dial: Send + Sync + 'static {
    /// A carrier to `member` at `address`, `host:port`. Nothing is sent before the first request.
    fn dial(&self, member: &str, address: &str) -> Result<Carrier, CallError>;

    /// A lifeline to `member` at `address`, which leads, once `greeting` was taken.
    fn lifeline(
        &self,
        member: &str,
        address: &str,
        greeting: Vec<u8>,
    ) -> BoxFuture<'static, Result<Held, CallError>>;
}

/// gRPC over TCP, or over TLS to the member that is meant and no other; connects with the first request,
/// and again when a connection is gone.
#[derive(Debug)]
pub struct Lazy {
    transport: Transport,
    /// At this age this end closes a connection that carries calls.
    closed_at: Duration,
}

impl Lazy {
    pub fn new(transport: Transport) -> Self {
        Self::closing(transport, CLOSED_AT)
    }

    /// As [`new`](Self::new), with connections that are closed at this age.
    pub fn closing(transport: Transport, closed_at: Duration) -> Self {
        Self { transport, closed_at }
    }
}

impl Dial for Lazy {
    fn dial(&self, member: &str, address: &str) -> Result<Carrier, CallError> {
        let wrong = || CallError::Address(address.to_owned());
        // TLS, where there is any, is the connector's: for tonic every member speaks in the clear.
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| wrong())?;
        let whom = Whom::Member(member.parse().map_err(|_| wrong())?);
        let (transport, address, closed_at) = (self.transport.clone(), address.to_owned(), self.closed_at);
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
            let (transport, whom, address) = (transport.clone(), whom.clone(), address.clone());
            async move {
                let wire = transport.connect(whom, &address, CONNECT_TIMEOUT).await?;
                Ok::<_, ConnectError>(TokioIo::new(Corked::new(Aged::new(wire, closed_at))))
            }
        }));
        let failed = |e: tonic::transport::Error| tonic::Status::unavailable(in_full(&e));
        Ok(BoxCloneSyncService::new(tower::ServiceExt::map_err(channel, failed)))
    }

    fn lifeline(
        &self,
        member: &str,
        address: &str,
        greeting: Vec<u8>,
    ) -> BoxFuture<'static, Result<Held, CallError>> {
        let whom = member.parse().map(Whom::Member).map_err(|_| CallError::Address(address.to_owned()));
        let (transport, address) = (self.transport.clone(), address.to_owned());
        Box::pin(async move {
            let wire = transport.connect(whom?, &address, CONNECT_TIMEOUT).await?;
            Ok(lifeline::grasp(wire, greeting).await?)
        })
    }
}

/// An error with what lies under it: tonic says little at the outermost.
fn in_full(error: &tonic::transport::Error) -> String {
    let mut words = error.to_string();
    let mut next = std::error::Error::source(error);
    // Eight: deeper than any chain that tonic builds, and an end if one loops.
    for _ in 0..8 {
        let Some(error) = next else { break };
        let said = error.to_string();
        if !words.contains(&said) {
            words = format!("{words}: {said}");
        }
        next = error.source();
    }
    words
}

/// The carriers, by address.
#[derive(Clone)]
pub(super) struct Links {
    dial: Arc<dyn Dial>,
    /// How this member greets on a connection that is to replace another.
    greeting: proto::HelloRequest,
    pub(super) renewal: Renewal,
    slots: Arc<Mutex<BTreeMap<String, Slot>>>,
}

struct Slot {
    /// Whose it is.
    member: String,
    client: PeerClient<Carrier>,
    /// Since when nothing has come back; `None` while answers come.
    silent_since: Option<Time>,
    /// When a new connection is opened in its place.
    renew: Time,
    /// When it is let go, whether or not one was.
    ends: Time,
}

impl Links {
    pub(super) fn new(dial: Arc<dyn Dial>, greeting: proto::HelloRequest, renewal: Renewal) -> Self {
        Self { dial, greeting, renewal, slots: Arc::default() }
    }

    fn connect(&self, member: &str, address: &str) -> Result<Slot, CallError> {
        let client = PeerClient::new(self.dial.dial(member, address)?);
        let client = client.max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX);
        let now = clock::now();
        let (renew, ends) = (now + self.renewal.calls, now + self.renewal.ends);
        Ok(Slot { member: member.to_owned(), client, silent_since: None, renew, ends })
    }

    /// Holds on to that member at `address`.
    pub(super) fn lifeline(
        &self,
        member: &str,
        address: &str,
        greeting: Vec<u8>,
    ) -> BoxFuture<'static, Result<Held, CallError>> {
        self.dial.lifeline(member, address, greeting)
    }

    /// Makes one call to that member at `address`, with a deadline.
    pub(super) async fn call<T, F, Fut>(
        &self,
        member: &str,
        address: &str,
        deadline: Duration,
        call: F,
    ) -> Result<T, CallError>
    where
        F: FnOnce(PeerClient<Carrier>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send,
    {
        let client = self.client(member, address)?;
        let result = runtime::timeout(deadline, call(client)).await;
        let result = match result {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CallError::Status(Box::new(status))),
            Err(_) => Err(CallError::Timeout(deadline)),
        };
        self.note(address, &result);
        result
    }

    fn client(&self, member: &str, address: &str) -> Result<PeerClient<Carrier>, CallError> {
        let now = clock::now();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(address).filter(|slot| slot.member == member) {
            let dead = slot.silent_since.is_some_and(|at| now.since(at) >= DEAD_AFTER);
            if dead {
                *slot = Slot { silent_since: Some(now), ..self.connect(member, address)? };
            } else if now >= slot.ends {
                tracing::warn!(%member, "an old connection is let go, although no new one could be opened");
                *slot = self.connect(member, address)?;
            } else if now >= slot.renew {
                // Tried again a little later, if it fails.
                slot.renew = now + RENEW_AGAIN;
                runtime::spawn(self.clone().renew(member.to_owned(), address.to_owned()));
            }
            return Ok(slot.client.clone());
        }
        let slot = self.connect(member, address)?;
        let client = slot.client.clone();
        slots.insert(address.to_owned(), slot);
        Ok(client)
    }

    /// Puts a new connection in the place of one that has grown old, once it has brought an answer: no call
    /// waits for a handshake. What is under way on the old one ends there.
    async fn renew(self, member: String, address: String) {
        let Ok(slot) = self.connect(&member, &address) else { return };
        let (mut client, greeting) = (slot.client.clone(), self.greeting.clone());
        if !matches!(runtime::timeout(RENEW_DEADLINE, client.hello(greeting)).await, Ok(Ok(_))) {
            return tracing::debug!(%member, "an old connection could not be renewed");
        }
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).insert(address, slot);
    }

    /// An answer, even a refusal, shows that the channel lives.
    fn note<T>(&self, address: &str, result: &Result<T, CallError>) {
        let answered = match result {
            Ok(_) => true,
            Err(CallError::Status(status)) => status.code() != tonic::Code::Unavailable,
            Err(
                CallError::Timeout(_) | CallError::Address(_) | CallError::Connect(_) | CallError::Broken(_),
            ) => false,
        };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(address) {
            slot.silent_since =
                if answered { None } else { slot.silent_since.or_else(|| Some(clock::now())) };
        }
    }
}

#[cfg(test)]
mod tests;
