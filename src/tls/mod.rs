//! Who is speaking: mutual TLS by rustls, version 1.3 alone. A name is what a certificate's URI says, and
//! nothing else: addresses and DNS prove nothing here.
//!
//! ```text
//!   ca, cert, key --Material::read: they fit, name this member, are not over--> Credentials
//!                                                       reload() replaces all of it, or nothing
//!   Credentials --accept(Port)---> a stream, and the Speaker: a role that this port takes
//!               '-connect(Whom)--> a stream to the member that was meant, or an error
//! ```
//!
//! What a speaker may do is not decided here: `rpc/roles.rs` has the table.

mod credentials;
mod error;
mod expiry;
mod identity;
mod material;
mod shown;
mod verify;
mod wire;

pub use credentials::{Credentials, Transport};
pub use error::{ConnectError, LoadError, Refusal, refusal};
pub use expiry::{Told, Worry, warning, worries};
pub use identity::{Identity, IdentityError, Port, Role, Speaker};
pub use material::{Files, Material};
pub use shown::{Described, Revoked, describe, next_update, revoked};
pub use verify::Whom;
pub use wire::Wire;
