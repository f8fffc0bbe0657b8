//! openraft at arm's length.

pub mod codec;
pub mod store;
pub mod types;
