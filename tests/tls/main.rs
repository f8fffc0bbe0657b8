//! Who is let in, and what each may call: `src/tls`, `src/rpc/roles.rs` and what asks them.

mod age;
#[path = "../common/anybody.rs"]
mod anybody;
mod bounds;
mod doctor;
mod forged;
mod handshake;
mod lifeline;
mod local;
mod material;
mod member;
#[path = "../common/pair.rs"]
mod pair;
mod pki;
mod places;
mod raw;
mod refused;
mod removed;
mod revoked;
mod roles;
mod start;
