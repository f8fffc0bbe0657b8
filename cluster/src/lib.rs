//! A VPC with three zones on one machine, for vipd's demo, tests and benchmarks.
//!
//! ```text
//!   vip-lab VERB --control.sock--> daemon (router's namespace) --+-> EC2 endpoint -> kernel routes
//!                                                                +-> IMDSv2
//!                                                                +-> nftables: who is cut off from whom
//!                                                                +-> HAProxy and vipd of each zone
//! ```
//!
//! Traffic stays inside the namespaces that the lab makes.

pub mod clock;
pub mod conf;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod ec2;
pub mod imds;
pub mod lifecycle;
pub mod load;
pub mod ns;
pub mod serve;
pub mod spec;
pub mod supervise;
pub mod topology;
pub mod watch;
