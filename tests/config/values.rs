//! What does not hold, value by value, and all of it together.

use vipd::config::Reason;

use super::*;

#[test]
fn members_that_do_not_fit_together() {
    let second = "[[members]]\nname = \"az-b\"\npeer = \"10.0.2.10:7400\"\n[vip]";
    let with = |second: &str| least_with("[vip]", second);
    assert!(parse(with(second)).is_ok());
    refused_at(
        &least_with("member = \"az-a\"", "member = \"az-c\""),
        "\"az-c\"",
        &["not among [[members]]: az-a"],
    );
    refused(
        with(&second.replace("az-b", "az-a")),
        (9, 8),
        &["the member name \"az-a\" stands here twice", "first here"],
    );
    refused(with(&second.replace("10.0.2.10", "10.0.1.10")), (10, 8), &["the peer address", "twice"]);
    refused_at(&with("witness = true\n[vip]"), "true", &["every member is a witness", "witness = false"]);
    assert!(parse(with(&second.replace("\n[vip]", "\nwitness = true\n[vip]"))).is_ok());
    for bad in [
        "10.0.2.10",
        "10.0.2.10:0",
        "10.0.2.10:70000",
        "0.0.0.0:7400",
        "10.0.0.256:7400",
        ":7400",
        "a b:7400",
        "fd00::1:7400",
        "http://a:1",
        "[::]:7400",
    ] {
        let text = with(&second.replace("10.0.2.10:7400", bad));
        refused(&text, (10, 8), &["not a host and a port that others can reach", "HOST:PORT"]);
    }
    for good in ["az-b.internal:7400", "[fd00::10]:7400", "az_b:1"] {
        assert!(parse(with(&second.replace("10.0.2.10:7400", good))).is_ok(), "{good}");
    }
    refused_at(&with("priority = 1001\n[vip]"), "1001", &["members.priority = 1001 is outside 0 to 1000"]);
    refused_at(&with("zone = \"\"\n[vip]"), "\"\"", &["members.zone", "is not a name"]);
}

/// A claim is one log entry.
#[test]
fn more_routes_than_a_claim_holds() {
    let tables = |n: usize| {
        let all: Vec<_> = (0..n).map(|i| format!("\"rtb-{i:017x}\"")).collect();
        format!("[{}]", all.join(", "))
    };
    let two = least_with("[\"192.168.77.10/32\"]", "[\"192.168.77.10/32\", \"fd00:77::10/128\"]");
    assert!(parse(two.replace("[\"rtb-0a\"]", &tables(175))).is_ok());
    let text = two.replace("[\"rtb-0a\"]", &tables(176));
    refused(&text, (11, 16), &["176 route tables times 2 VIPs are 352 routes", "several groups"]);
}

#[test]
fn single_values_out_of_bounds() {
    let aws = |line: &str| least_with("[tls]", &format!("{line}\n[tls]"));
    for (text, marked, word) in [
        (aws("eni = \"rtb-0a\""), "\"rtb-0a\"\n", "aws.eni: \"rtb-0a\" is not a network interface's id"),
        (least_with("\"rtb-0a\"", "\"eni-0a\""), "\"eni-0a\"", "is not a route table's id"),
        (least_with("[\"rtb-0a\"]", "[]"), "[]", "no route tables"),
        (least_with("route_tables = [\"rtb-0a\"]\n", ""), "[aws]", "no route tables"),
        (aws("route_table_tag = \"vipd:cluster\""), "\"vipd:cluster\"", "is not KEY=VALUE"),
        (aws("route_table_tag = \"=edge\""), "\"=edge\"", "is not KEY=VALUE"),
        (aws("endpoint_url = \"10.0.0.2:5000\""), "\"10.0.0.2", "is not an http or https URL"),
        (aws("endpoint_url = \"ftp://a\""), "\"ftp", "is not an http or https URL"),
        (aws("endpoint_url = \"http://\""), "\"http", "is not an http or https URL"),
        (aws("endpoint_url = \"http://a b/\""), "\"http", "is not an http or https URL"),
        (aws("endpoint_url = \"http://a:port/\""), "\"http", "is not an http or https URL"),
        (aws("assume_role_arn = \"arn:aws:iam::1:user/x\""), "\"arn", "is not a role's ARN"),
        (aws("source_dest_check = \"off\""), "\"off\"", "not one of verify, fix, ignore"),
        (aws("attempt_timeout_ms = 49"), "49", "is outside 50 to 60000"),
        (aws("reconcile_s = 0"), "0\n[tls]", "is outside 1 to 3600"),
        (aws("warm_connections = 51"), "51", "is outside 0 to 50"),
        (least_with("[aws]", "lifetime_s = 1\n[aws]"), "1\n[aws]", "vip.lifetime_s = 1 is outside 2 to 3600"),
        (least_with("[aws]", "interface = \"averylonginterface\"\n[aws]"), "\"avery", "no interface's name"),
        (least_and("[health]\nhttp = \"https://127.0.0.1/\""), "\"https", "is not a plain http URL"),
        (least_and("[health]\nfall = 0"), "0\n\n", "health.fall = 0 is outside 1 to 100"),
        (least_and("[health]\ninterval_ms = 0"), "0\n\n", "health.interval_ms = 0"),
        (least_and("[policy]\non_quorum_loss = \"drop\""), "\"drop\"", "not one of hold, release"),
        (
            least_with("listen = \"10.0.1.10:7400\"", "listen = \"az-a:7400\""),
            "\"az-a:7400\"",
            "not an address and a port to listen on",
        ),
        (
            least_and("[metrics]\nlisten = \"0.0.0.0:7400\""),
            "\"0.0.0.0",
            "metrics.listen = \"0.0.0.0:7400\" is taken by peer.listen",
        ),
        (least_with("member =", "data_dir = \"\"\nmember ="), "\"\"", "data_dir is empty"),
        (least_and(&format!("[admin]\nsocket = \"/{}\"", "x".repeat(107))), "\"/x", "108 bytes long"),
    ] {
        // The numbers stand at the end of the text, where an earlier digit is not meant.
        let text = if marked == "0\n\n" { format!("{text}\n") } else { text };
        refused_at(&text, marked, &[word]);
    }
    for good in [
        "endpoint_url = \"https://[fd00::1]:8443/x?y\"",
        "endpoint_url = \"http://localhost\"",
        "lifetime_s = 2",
    ] {
        let text =
            if good.starts_with("life") { least_with("[aws]", &format!("{good}\n[aws]")) } else { aws(good) };
        assert!(parse(text).is_ok(), "{good}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once_in_the_files_order() {
    let text = least_with("192.168.77.10/32", "192.168.77.10/24")
        .replace("\"edge\"", "\"Edge\"")
        .replace("rtb-0a", "rtb_0a");
    let text = format!("{text}[raft]\nheartbeat_ms = 60\n");
    let error =
        refused(&text, (1, 11), &["\"Edge\" is not a name", "host bits", "route table's id", "2 x 60 ms"]);
    let lines: Vec<usize> = error.mistakes().iter().map(|m| m.position().0).collect();
    assert_eq!(lines, [1, 9, 11, 15]);
    assert!(matches!(error.mistakes()[3].reason(), Reason::HeartbeatElection { heartbeat: 60, min: 100 }));
}

/// 68, for this decoder: bytes at random, and the example with some of its bytes changed, cut out or
/// doubled, end in a Config or in an error that can be shown.
#[test]
fn fault_68_random_bytes_do_not_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below.max(1)).unwrap()).unwrap()
    };
    let alphabet = b"abc=\"[]{}'.,#\n\r\t 0123456789-_:/\\\xc3\xa9\xff\0";
    let mut accepted = 0;
    for round in 0..2000 {
        let mut text: Vec<u8> = match round % 2 {
            0 => (0..random(300)).map(|_| u8::try_from(random(256)).unwrap()).collect(),
            _ if round % 4 == 1 => CONTRACT.as_bytes().to_vec(),
            _ => LEAST.as_bytes().to_vec(),
        };
        for _ in 0..random(6) {
            let at = random(text.len());
            let end = (at + random(12)).min(text.len());
            match random(4) {
                0 => drop(text.drain(at..end)),
                1 => text.splice(at..at, [alphabet[random(alphabet.len())]]).for_each(drop),
                2 => text.extend_from_within(at..end),
                _ => {
                    if let Some(byte) = text.get_mut(at) {
                        *byte = alphabet[random(alphabet.len())];
                    }
                }
            }
        }
        match parse(&text) {
            Ok(config) => {
                accepted += 1;
                assert!(!config.timeline().is_empty());
            }
            Err(error) => assert!(!shown(&error).is_empty()),
        }
    }
    assert!(accepted > 50, "the loop also reached the end of the checks: {accepted}");
}
