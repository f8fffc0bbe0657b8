//! Everything that can be wrong with a file: the cause as `Display`, the next step as miette's help.

use std::io;

use miette::Diagnostic;

use crate::model::ParseError;

/// Why a file is refused.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Reason {
    // The text.
    #[error("the file starts with a {encoding} byte order mark")]
    #[diagnostic(help("save the file as UTF-8 without a byte order mark (BOM)"))]
    Bom { encoding: &'static str },
    #[error("byte {offset} of the file (0x{byte:02x}) is not UTF-8")]
    #[diagnostic(help("save the file as UTF-8"))]
    NotUtf8 { offset: usize, byte: u8 },
    #[error("not TOML: {message}")]
    #[diagnostic(help("correct this line; https://toml.io/en/v1.0.0 has the rules, texts stand in quotes"))]
    Syntax { message: String },
    #[error("unknown key {key}")]
    #[diagnostic(help("{hint}the keys of this table are {known}"))]
    UnknownKey { key: String, hint: String, known: String },
    #[error("{message}")]
    #[diagnostic(help("give the value the type that docs/CONFIGURATION.md says"))]
    WrongType { message: String },

    // Single values.
    #[error("{key} is missing")]
    #[diagnostic(help("add it, for instance: {example}"))]
    Missing { key: &'static str, example: &'static str },
    #[error("{key} is empty")]
    #[diagnostic(help("give it a value, or leave the key out if it is optional"))]
    Empty { key: &'static str },
    #[error("{key} = {value} is outside {min} to {max}")]
    #[diagnostic(help("choose a number from {min} to {max}"))]
    Range { key: &'static str, value: i64, min: u64, max: u64 },
    #[error("{key} = \"{value}\" is not one of {choices}")]
    #[diagnostic(help("choose one of {choices}"))]
    Choice { key: &'static str, value: String, choices: &'static str },
    #[error("{key}: {source}")]
    #[diagnostic(help("{}", after(source)))]
    Parse { key: &'static str, source: ParseError },
    #[error("{key} = \"{value}\" is not an address and a port to listen on")]
    #[diagnostic(help("write IP:PORT, for instance \"10.0.1.10:7400\" or \"[fd00::10]:7400\""))]
    NotListen { key: &'static str, value: String },
    #[error("{key} = \"{value}\" is not a host and a port that others can reach")]
    #[diagnostic(help(
        "write HOST:PORT, for instance \"10.0.1.10:7400\"; neither 0.0.0.0 nor port 0 can be reached"
    ))]
    NotHostPort { key: &'static str, value: String },
    #[error("{key} = \"{value}\" is not {wanted} URL")]
    #[diagnostic(help("write it as in {example}"))]
    NotUrl { key: &'static str, value: String, wanted: &'static str, example: &'static str },
    #[error("{key} is {bytes} bytes long, a Unix socket's path has at most {max}")]
    #[diagnostic(help("choose a shorter path: the kernel's sun_path ends there (unix(7))"))]
    SocketPath { key: &'static str, bytes: usize, max: usize },
    #[error("{key} holds a zero byte, no path does")]
    #[diagnostic(help("remove the \\u0000"))]
    ZeroByte { key: &'static str },
    #[error("{key} = \"{value}\" is no group's name")]
    #[diagnostic(help("name a group of this host, for instance \"vipd\" (groupadd --system vipd)"))]
    Group { key: &'static str, value: String },
    #[error("vip.interface = \"{value}\" is no interface's name")]
    #[diagnostic(help(
        "use 1 to 15 bytes without / and blanks, as `ip link` shows them; \"lo\" is the default"
    ))]
    Interface { value: String },
    #[error("aws.route_table_tag = \"{value}\" is not KEY=VALUE")]
    #[diagnostic(help(
        "write the tag's key, an equals sign and its value, for instance \"vipd:cluster=edge\""
    ))]
    Tag { value: String },
    #[error("aws.assume_role_arn = \"{value}\" is not a role's ARN")]
    #[diagnostic(help("write it as IAM shows it, for instance \"arn:aws:iam::123456789012:role/routes\""))]
    RoleArn { value: String },

    #[error("log.filter = \"{value}\" is no filter: {source}")]
    #[diagnostic(help("write for instance \"info\" or \"info,vipd=debug\""))]
    LogFilter { value: String, source: tracing_subscriber::filter::ParseError },

    // The group.
    #[error("this member, \"{member}\", is not among [[members]]: {names}")]
    #[diagnostic(help(
        "set member (or VIPD_MEMBER) to one of these names, or add a [[members]] entry on every member"
    ))]
    NotAMember { member: String, names: String },
    #[error("{what} \"{value}\" stands here twice")]
    #[diagnostic(help("remove one of the two, or correct it"))]
    Twice { what: &'static str, value: String },
    #[error("every member is a witness: nobody could own the VIP")]
    #[diagnostic(help("set witness = false for at least one member that runs HAProxy"))]
    OnlyWitnesses,
    #[error("{second} = \"{value}\" is taken by {first} already")]
    #[diagnostic(help("give each listener a port of its own"))]
    SharedListen { first: &'static str, second: &'static str, value: String },
    #[error("{key} = \"{value}\" is the VIP {vip}, which moves from member to member")]
    #[diagnostic(help("use the member's own address there, one of its interface's"))]
    OnTheVip { key: &'static str, value: String, vip: String },

    // The cloud.
    #[error("no route tables: neither aws.route_tables nor aws.route_table_tag is given")]
    #[diagnostic(help(
        "list them, route_tables = [\"rtb-0a\", \"rtb-0b\"], or name a tag that they carry, route_table_tag = \"vipd:cluster=edge\""
    ))]
    NoRouteTables,
    #[error("{tables} route tables times {vips} VIPs are {} routes, and a claim holds {max} at most", tables * vips)]
    #[diagnostic(help(
        "divide the VIPs or the tables among several groups (another cluster name, data directory and port each)"
    ))]
    TooManyRoutes { tables: usize, vips: usize, max: usize },

    // The timings.
    #[error("raft.election_ms has {count} numbers, not two")]
    #[diagnostic(help("write [least, most], for instance [100, 200]"))]
    ElectionCount { count: usize },
    #[error("raft: election min < election max does not hold: {min} ms < {max} ms")]
    #[diagnostic(help(
        "let the two differ, best by a factor of two: members that wait equally long split the vote"
    ))]
    ElectionOrder { min: u64, max: u64 },
    #[error("raft: 2 x heartbeat < election min does not hold: 2 x {heartbeat} ms = {} ms < {min} ms", 2 * heartbeat)]
    #[diagnostic(help("one lost heartbeat must not start an election: take heartbeat_ms < {}, or an election_ms that starts above {}", min.div_ceil(2), 2 * heartbeat))]
    HeartbeatElection { heartbeat: u64, min: u64 },
    #[error("raft: 2 x heartbeat < lease - 1 % - margin does not hold: 2 x {heartbeat} ms = {} ms < {lease} - {drift:.2} - {margin:.2} = {left:.2} ms", 2 * heartbeat)]
    #[diagnostic(help(
        "the lease is the second number of election_ms: raise it, or lower heartbeat_ms, so that one lost heartbeat does not end the lease"
    ))]
    LeaseTooShort { heartbeat: u64, lease: u64, drift: f64, margin: f64, left: f64 },

    // TLS.
    #[error("there is no [tls]: the members would neither know each other nor hide what they say")]
    #[diagnostic(help(
        "add [tls] with ca, cert and key; for a trial on a closed network add [tls] with insecure = true"
    ))]
    NoTls,
    #[error("{key}: {path} cannot be read: {source}")]
    #[diagnostic(help("put the PEM file there, and let the user that runs vipd read it"))]
    TlsFile { key: &'static str, path: String, source: io::Error },
    #[error("{key}: {path} is not a file")]
    #[diagnostic(help("name the PEM file itself"))]
    TlsNotAFile { key: &'static str, path: String },
    #[error("tls.key: {path} has mode {mode:04o}: {who}")]
    #[diagnostic(help(
        "chmod 0600 {path} (0640 if vipd reads it as its group), and replace the key if others could have read it"
    ))]
    TlsKeyMode { path: String, mode: u32, who: &'static str },
}

fn after(error: &ParseError) -> &'static str {
    match error {
        ParseError::Name(_) => "use a short lower-case name, for instance \"az-a\"",
        ParseError::RouteTable(_) => "copy the id from `aws ec2 describe-route-tables`",
        ParseError::Eni(_) => "copy the id from `aws ec2 describe-network-interfaces`",
        ParseError::Vip(_) => "write ADDRESS/32 for IPv4, ADDRESS/128 for IPv6",
        ParseError::HostBits(_) => "write one address, /32 or /128; list further ones beside it",
        ParseError::Reserved(..) => {
            "choose a unicast address outside the VPC's CIDRs, for instance \"192.168.77.10/32\""
        }
    }
}
