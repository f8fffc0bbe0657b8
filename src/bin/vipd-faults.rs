//! The daemon as it is, built with the feature `fault-points` (src/fault.rs), under a name of its own: what is
//! shipped and what is tested otherwise stays beside it.

#[path = "vipd.rs"]
mod daemon;

fn main() -> std::process::ExitCode {
    daemon::main()
}
