//! What operators and monitors ask: gRPC on a TCP port and a unix socket, and plain HTTP.
//!
//! ```text
//!   vipctl --admit: who?--> guard: may they? --> AdminService --> Desk --Query--> driver
//!   another member --Forward-----------------------------------^    '--Forward--> the leader
//!   Prometheus --HTTP--> http
//! ```

pub mod admin;
pub mod admit;
pub mod agree;
mod brief;
pub mod caller;
pub mod desk;
pub mod guard;
pub mod http;
mod keeper;
mod limits;
pub mod listen;
pub mod local;
mod meter;
mod passed;
pub mod picture;
mod preface;
pub mod roles;
