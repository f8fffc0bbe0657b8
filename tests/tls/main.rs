//! Who is let in, and what each may call: `src/tls`, and the table of `src/rpc/roles.rs`.

mod handshake;
mod material;
mod pki;
mod raw;
