pub mod permit;
pub use permit::{Fenced, Gate, Permit, testing_permit};
