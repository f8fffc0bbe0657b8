//! Who is let in, and what each may call: `src/tls`, `src/rpc/roles.rs` and what asks them.

mod forged;
mod handshake;
mod local;
mod material;
mod member;
mod pki;
mod raw;
mod roles;
mod start;
