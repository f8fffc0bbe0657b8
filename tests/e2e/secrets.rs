//! What a member leaves for others to read: its logs, its answers, its files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::lab::{BOUND, Lab, MEMBERS, holds, text, until};
use crate::status::others;

/// What the lab's IMDS gives to whoever asks for the role's credentials, and how each token begins by which
/// one may ask (cluster/src/imds.rs).
const OF_IMDS: [&str; 3] = ["lab-secret", "lab-session-token", "AQAEALab"];

/// Headers by which the bearer of a copied request could ask IMDS or EC2 in the member's name.
const HEADERS: [&str; 3] = ["x-aws-ec2-metadata-token", "x-amz-security-token", "authorization"];

fn decode(pem: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for letter in pem.lines().filter(|l| !l.starts_with("-----")).flat_map(str::bytes) {
        let Some(value) = ALPHABET.iter().position(|a| *a == letter) else { continue };
        bits = (bits << 6) | u32::try_from(value).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).unwrap());
        }
    }
    bytes
}

/// Every way in which a program writes bytes down: PEM's lines, hexadecimal, a list of numbers.
fn spellings(pem: &str) -> Vec<String> {
    let mut all: Vec<String> =
        pem.lines().filter(|l| !l.starts_with("-----") && l.len() > 16).map(str::to_owned).collect();
    // RFC 5208 and 5915: after 36 bytes that any P-256 key begins with come the 32 that nobody may know.
    let der = decode(pem);
    let secret = &der[36..68];
    let hex = |part: &[u8]| part.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let numbers = |part: &[u8]| part.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    for part in secret.chunks(16) {
        all.extend([hex(part), hex(part).to_uppercase(), numbers(part)]);
    }
    assert!(all.len() >= 8, "{all:?}");
    all
}

/// Whether a line has such a header with its value, and not with what stands for one: `"name": "value"`, or
/// `name:value` as in a request that is to be signed.
fn tells(line: &str, header: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.match_indices(header).any(|(at, name)| {
        let rest = lower[at + name.len()..].trim_start_matches('"');
        let value = rest.strip_prefix(':').map(|v| v.trim_start_matches([' ', '"']));
        value.is_some_and(|v| !v.starts_with("** redacted") && !v.starts_with("sensitive"))
    })
}

#[test]
fn no_secret_is_in_a_log_or_an_answer_whatever_the_filter() {
    let lab = Lab::up_with("secrets", &["--set", "log.filter=\"trace\"", "--set", "aws.reconcile_s=1"]);
    let owner = lab.steady();
    let mut said: Vec<(String, String)> = Vec::new();
    let mut ask = |member: &str, verb: &[&str]| {
        let output = lab.vipctl(member, verb);
        said.push((format!("{member}: vipctl {verb:?}"), text(&output.stdout) + &text(&output.stderr)));
        output.status.code()
    };
    assert_eq!(ask(&owner, &["transfer-leader", "--to", others(&owner)[0]]), Some(0));
    for member in MEMBERS {
        for verb in [&["status"][..], &["history"], &["routes"], &["doctor"], &["iam-policy"]] {
            ask(member, verb);
        }
    }
    for member in MEMBERS {
        said.push((format!("{member}: metrics"), lab.get(member, "127.0.0.1:9407", "/metrics").unwrap().1));
    }
    // The signed request is seen: what is looked for is there to be told.
    until("the log has requests to EC2 and IMDS", BOUND, || {
        let logs = MEMBERS.map(|m| lab.vipd_log(m));
        holds(logs.iter().all(|log| log.contains("TRACE") && log.contains("DescribeRouteTables")), || {
            format!("{:?}", logs.map(|log| log.len()))
        })
    });
    for member in MEMBERS {
        said.push((format!("{member}: log"), lab.vipd_log(member)));
    }
    let keys = MEMBERS.map(|m| std::fs::read_to_string(lab.dir.join(m).join(format!("{m}.key"))).unwrap());
    let secrets: Vec<String> =
        keys.iter().flat_map(|key| spellings(key)).chain(OF_IMDS.map(str::to_owned)).collect();
    let mut found = Vec::new();
    for (what, words) in &said {
        for line in words.lines() {
            let secret = secrets.iter().any(|secret| line.contains(secret.as_str()));
            let header = HEADERS.iter().any(|header| tells(line, header));
            if secret || header {
                found.push(format!("{what}: {}", line.chars().take(400).collect::<String>()));
            }
        }
    }
    assert!(found.is_empty(), "{} lines, the first: {:#?}", found.len(), &found[..found.len().min(8)]);
    let bytes: usize = said.iter().map(|(_, words)| words.len()).sum();
    crate::lab::measured(&format!("{bytes} bytes of logs and answers, no secret in them"));
}

#[test]
fn what_would_be_a_secret_is_seen_as_one() {
    for line in [
        "\"x-amz-security-token\": \"abc\"",
        "x-aws-ec2-metadata-token:abc",
        "{\"authorization\": \"AWS4-HMAC-SHA256 Credential=x\"}",
        "x-amz-security-token;x-amz-security-token:abc",
    ] {
        assert!(HEADERS.iter().any(|h| tells(line, h)), "{line}");
    }
    for line in [
        "\"authorization\": ** redacted (length=245) **, \"x-amz-security-token\": ** redacted",
        "signed headers: host;x-amz-security-token;x-amz-date",
        "\"x-aws-ec2-metadata-token-ttl-seconds\": \"21600\"",
        "AuthSchemeId { scheme_id: \"x-aws-ec2-metadata-token\" }",
    ] {
        assert!(!HEADERS.iter().any(|h| tells(line, h)), "{line}");
    }
}

fn open_files(process: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(process.join("fd")).unwrap();
    all.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok()).collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_are_for_the_daemon_alone_none_is_in_tmp_and_no_core_is_dumped() {
    let most = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: most, maximum: most }).unwrap();
    assert_ne!(most, Some(0), "members inherit this, and have to switch it off themselves");
    let inherited = open_files(Path::new("/proc/self"));
    let lab = Lab::up("files");
    lab.steady();
    for member in MEMBERS {
        let dir = lab.dir.join(member);
        assert_eq!(mode(&dir.join("data")), 0o700);
        assert_eq!(mode(&dir.join("admin.sock")), 0o660);
        let proc = Path::new("/proc").join(lab.pid(member).as_raw_nonzero().to_string());
        let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
        let core: Vec<&str> = limits
            .lines()
            .find_map(|l| l.strip_prefix("Max core file size"))
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(core[..2], ["0", "0"], "{limits}");
        let stray: Vec<_> = open_files(&proc)
            .into_iter()
            .filter(|to| ["/tmp", "/var/tmp", "/dev/shm"].iter().any(|t| to.starts_with(t)))
            .filter(|to| !to.starts_with(&lab.dir) && !inherited.contains(to))
            .collect();
        assert!(stray.is_empty(), "{member}: {stray:?}");
    }
}
