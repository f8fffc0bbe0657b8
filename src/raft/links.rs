//! One lazy channel to each member, replaced where it has gone dead.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::codegen::http;
use tonic::transport::Endpoint;
use tower::util::BoxCloneSyncService;

use crate::clock;
use crate::model::Time;
use crate::proto::peer_client::PeerClient;
use crate::runtime;

/// A channel on which nothing has come back for so long is thrown away: after a cut TCP would wait
/// for its own retransmission, seconds too long.
const DEAD_AFTER: Duration = Duration::from_millis(1000);

/// How long a connection may take to open. Zones of one region are about a millisecond apart.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

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
}

/// What carries requests to one address and brings the answers back.
pub type Carrier =
    BoxCloneSyncService<http::Request<tonic::body::Body>, http::Response<tonic::body::Body>, tonic::Status>;

/// How an address is reached: the port behind which the network lies.
pub trait Dial: Send + Sync + 'static {
    /// A carrier to `address`, `host:port`. Nothing is sent before the first request.
    fn dial(&self, address: &str) -> Result<Carrier, CallError>;
}

/// gRPC over TCP; connects with the first request, and again when a connection is gone.
#[derive(Debug)]
pub struct Lazy;

impl Dial for Lazy {
    fn dial(&self, address: &str) -> Result<Carrier, CallError> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| CallError::Address(address.to_owned()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        let channel = endpoint.connect_lazy();
        let failed = |e: tonic::transport::Error| tonic::Status::from_error(Box::new(e));
        Ok(BoxCloneSyncService::new(tower::ServiceExt::map_err(channel, failed)))
    }
}

/// The carriers, by address.
pub(super) struct Links {
    dial: Arc<dyn Dial>,
    slots: Mutex<BTreeMap<String, Slot>>,
}

struct Slot {
    client: PeerClient<Carrier>,
    /// Since when nothing has come back; `None` while answers come.
    silent_since: Option<Time>,
}

impl Links {
    pub(super) fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial, slots: Mutex::default() }
    }

    fn connect(&self, address: &str) -> Result<PeerClient<Carrier>, CallError> {
        let client = PeerClient::new(self.dial.dial(address)?);
        Ok(client.max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX))
    }

    /// Makes one call to the member at `address`, with a deadline.
    pub(super) async fn call<T, F, Fut>(
        &self,
        address: &str,
        deadline: Duration,
        call: F,
    ) -> Result<T, CallError>
    where
        F: FnOnce(PeerClient<Carrier>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send,
    {
        let client = self.client(address)?;
        let result = runtime::timeout(deadline, call(client)).await;
        let result = match result {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CallError::Status(Box::new(status))),
            Err(_) => Err(CallError::Timeout(deadline)),
        };
        self.note(address, &result);
        result
    }

    fn client(&self, address: &str) -> Result<PeerClient<Carrier>, CallError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(address) {
            let dead = slot.silent_since.is_some_and(|at| clock::now().since(at) >= DEAD_AFTER);
            if dead {
                slot.client = self.connect(address)?;
                slot.silent_since = Some(clock::now());
            }
            return Ok(slot.client.clone());
        }
        let client = self.connect(address)?;
        slots.insert(address.to_owned(), Slot { client: client.clone(), silent_since: None });
        Ok(client)
    }

    /// An answer, even a refusal, shows that the channel lives.
    fn note<T>(&self, address: &str, result: &Result<T, CallError>) {
        let answered = match result {
            Ok(_) => true,
            Err(CallError::Status(status)) => status.code() != tonic::Code::Unavailable,
            Err(CallError::Timeout(_) | CallError::Address(_)) => false,
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
