//! vipd keeps an overlay IP on a healthy HAProxy. `docs/ARCHITECTURE.md` has the map.

#[macro_use]
pub mod fault;

mod aged;
pub mod clock;
pub mod config;
pub mod decide;
#[cfg(feature = "aws")]
pub mod doctor;
pub mod driver;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod health;
pub mod ledger;
pub mod metrics;
pub mod model;
pub mod mutant;
pub mod net;
pub mod raft;
mod refused;
pub mod rpc;
pub mod runtime;
pub mod service;
pub mod tls;
pub mod vpc;

/// The messages and services of `proto/vipd/v1`, generated.
pub mod proto {
    #![allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated code")]
    tonic::include_proto!("vipd.v1");

    /// The descriptors of all services, for gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vipd.bin"));
}
