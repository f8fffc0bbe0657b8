//! The contract on real parts: vipd processes in the lab's zones, HAProxy, route tables that packets follow.
//!
//! ```text
//!   a test ---> lab ----> vip-lab up, kill, cut, freeze, ec2 ... ---> vipd, HAProxy, EC2, IMDS
//!          ---> status    vipctl's JSON, what the members say
//!          ---> calls     EC2's log: no call outside the claim (FENCING.md, F-a)
//!          ---> load      what a client saw
//!          ---> fault     vipd-faults: what goes wrong inside, and proof that it did
//! ```
//!
//! Timings are slow and only order and outcome are asserted, under one bound: what is measured is printed. It
//! needs what the lab needs (root, ip, nft, haproxy) and for moto.rs `./cluster/setup.sh moto`, for fault points vipd-faults (`fault.rs`). Each test has its
//! own lab, but two at once share the machine: `cargo test --workspace --test e2e -- --test-threads=1`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../common/anybody.rs"]
mod anybody;
mod calls;
mod fault;
mod lab;
mod load;
mod status;
#[path = "../common/tool.rs"]
mod tool;
#[path = "../common/verbs.rs"]
mod verbs;

mod abuse;
mod address;
mod admin;
mod crash_loop;
mod disk;
mod doctor;
mod ec2;
mod failover;
mod flap;
mod forming;
mod frozen;
mod haproxy;
mod held;
mod input;
mod interrupted;
mod ipv6;
mod lifeline;
mod membership;
mod metrics;
mod moto;
mod orders;
mod panic;
mod points;
mod reach;
mod reload;
mod restart;
mod rolling;
mod secrets;
mod switchover;
mod tls;
mod warm;
