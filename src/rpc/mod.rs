//! What operators and monitors ask: gRPC on a TCP port and a unix socket, and plain HTTP.
//!
//! ```text
//!   vipctl --gRPC--> AdminService --> Desk --Query--> driver
//!   another member --Forward---------^  '---Forward--> the leader
//!   Prometheus --HTTP--> http
//! ```

pub mod admin;
pub mod agree;
pub mod desk;
pub mod http;
pub mod listen;
pub mod picture;
