//! One lazy channel to each member, replaced where it has gone dead.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::clock;
use crate::model::Time;
use crate::proto::peer_client::PeerClient;

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

/// The channels, by address.
#[derive(Debug, Default)]
pub struct Links {
    slots: Mutex<BTreeMap<String, Slot>>,
}

#[derive(Debug)]
struct Slot {
    client: PeerClient<Channel>,
    /// Since when nothing has come back; `None` while answers come.
    silent_since: Option<Time>,
}

impl Links {
    /// Makes one call to the member at `address`, with a deadline.
    pub async fn call<T, F, Fut>(&self, address: &str, deadline: Duration, call: F) -> Result<T, CallError>
    where
        F: FnOnce(PeerClient<Channel>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let client = self.client(address)?;
        let result = tokio::time::timeout(deadline, call(client)).await;
        let result = match result {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CallError::Status(Box::new(status))),
            Err(_) => Err(CallError::Timeout(deadline)),
        };
        self.note(address, &result);
        result
    }

    fn client(&self, address: &str) -> Result<PeerClient<Channel>, CallError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(address) {
            let dead = slot.silent_since.is_some_and(|at| clock::now().since(at) >= DEAD_AFTER);
            if dead {
                slot.client = connect(address)?;
                slot.silent_since = Some(clock::now());
            }
            return Ok(slot.client.clone());
        }
        let client = connect(address)?;
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

fn connect(address: &str) -> Result<PeerClient<Channel>, CallError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| CallError::Address(address.to_owned()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true);
    let client = PeerClient::new(endpoint.connect_lazy());
    Ok(client.max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX))
}
