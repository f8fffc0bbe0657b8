//! The cases of FAULTS.md, by number.

use vipd::config::MAX_FILE_BYTES;

use super::*;

#[test]
fn fault_58_a_key_that_is_unknown_or_of_a_wrong_type() {
    for (text, marked, words) in [
        (least_with("listen =", "listn ="), "listn", &["unknown key listn", "did you mean listen?"][..]),
        (least_with("cluster", "clutser"), "clutser", &["unknown key clutser", "did you mean cluster?"]),
        (least_and("[metrix]"), "metrix", &["unknown key metrix", "did you mean metrics?"]),
        (
            least_and("[raft]\nspeed = 1"),
            "speed",
            &["unknown key speed", "are profile, heartbeat_ms, election_ms"],
        ),
        (least_with("peer = ", "port = 1\npeer = "), "port = 1", &["unknown key port"]),
        (least_with("\"edge\"", "5"), "5", &["integer `5`, expected a string", "docs/CONFIGURATION.md"]),
        (least_and("[raft]\nheartbeat_ms = \"30\""), "\"30\"", &["expected a whole number"]),
        (least_and("[raft]\nelection_ms = 100"), "100", &["expected an array"]),
        (least_and("[raft]\nheartbeat_ms = 1.5"), "1.5", &["expected a whole number"]),
        (least_with("insecure = true", "insecure = 1"), "1\n", &["expected a boolean"]),
        (
            least_with("[\"192.168.77.10/32\"]", "\"192.168.77.10/32\""),
            "\"192.168.77.10/32\"",
            &["expected an array"],
        ),
        (least_with("member = \"az-a\"", "member = az-a"), "az-a", &["not TOML"]),
        (least_with("[vip]", "[vip"), "\naddresses", &["not TOML"]),
        (
            least_with("member = \"az-a\"", "cluster = \"b\""),
            "cluster = \"b\"",
            &["not TOML", "duplicate key"],
        ),
        (format!("{LEAST}health = 5\n"), "health", &["unknown key health"]),
    ] {
        if text.contains("[vip\n") {
            refused(&text, (8, 5), words);
        } else {
            refused_at(&text, marked, words);
        }
    }
    refused("health = 5\n", (1, 10), &["expected a table"]);
    refused("members = 5\n", (1, 11), &["expected an array"]);
}

#[test]
fn fault_58_an_empty_file_names_every_missing_key() {
    for text in ["", "\n", "# nothing\n"] {
        let error = refused(
            text,
            (1, 1),
            &[
                "cluster is missing",
                "member is missing",
                "peer.listen is missing",
                "[[members]] is missing",
                "vip.addresses is missing",
                "no route tables",
                "there is no [tls]",
                "add it, for instance: cluster = \"edge\"",
            ],
        );
        assert_eq!(error.mistakes().len(), 7);
        assert!(error.to_string().ends_with("cluster is missing (1 of 7 mistakes)"), "{error}");
    }
    // The table that lacks it is named, where there is one.
    refused_at(&least_with("listen = \"10.0.1.10:7400\"\n", ""), "[peer]", &["peer.listen is missing"]);
    refused_at(
        &least_with("name = \"az-a\"\n", "").replace("member = \"az-a\"", "member = \"az-a\""),
        "[[members]]",
        &["members.name is missing"],
    );
    refused_at(
        &least_with("addresses = [\"192.168.77.10/32\"]\n", ""),
        "[vip]",
        &["vip.addresses is missing"],
    );
    refused_at(&least_with("insecure = true", ""), "[tls]", &["insecure = true"]);
}

#[test]
fn fault_58_ten_megabytes_are_refused_unparsed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("vipd.toml");
    fs::write(&path, "#".repeat(10_000_000)).expect("a file");
    let error = Config::load(&path).expect_err("too long");
    assert!(matches!(error, ConfigError::TooLong { .. }), "{error}");
    assert!(shown(&error).contains("--config"), "{}", shown(&error));
    let most = usize::try_from(MAX_FILE_BYTES).expect("fits");
    let padded = |n: usize| format!("{LEAST}#{}", "x".repeat(n - LEAST.len() - 1));
    assert!(parse(padded(most)).is_ok());
    assert!(matches!(parse(padded(most + 1)), Err(ConfigError::TooLong { .. })));
    // A line that no screen holds is not shown.
    let error = parse(padded(most - 1).replace('#', "= ")).expect_err("not TOML");
    assert!(shown(&error).contains("vipd.toml:14:1: not TOML"), "not shown as too long");
    assert!(shown(&error).len() < 2000);
}

#[test]
fn fault_58_not_utf8_and_a_byte_order_mark() {
    let mut text = LEAST.as_bytes().to_vec();
    let at = LEAST.find("edge").expect("edge") + 2;
    text[at] = 0xe9;
    let error =
        refused(&text, (1, 14), &["byte 13 of the file (0xe9) is not UTF-8", "save the file as UTF-8"]);
    assert!(shown(&error).contains("cluster ="), "{}", shown(&error));
    let after = |mark: &[u8]| [mark, LEAST.as_bytes()].concat();
    refused(after(b"\xef\xbb\xbf"), (1, 1), &["UTF-8 byte order mark", "without a byte order mark"]);
    refused(after(b"\xff\xfe"), (1, 1), &["UTF-16 byte order mark"]);
    refused(after(b"\xfe\xff"), (1, 1), &["UTF-16 byte order mark"]);
}

#[test]
fn fault_58_a_file_that_is_not_there() {
    let dir = tempfile::tempdir().expect("a directory");
    for path in [dir.path().join("vipd.toml"), dir.path().to_path_buf()] {
        let error = Config::load(&path).expect_err("no file");
        assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
        assert!(error.to_string().starts_with(path.to_str().expect("UTF-8")), "{error}");
        assert!(shown(&error).contains("--config FILE"));
    }
}

#[test]
fn fault_59_a_vip_that_cannot_be_one() {
    for (vip, words) in [
        ("192.168.77.10/24", &["has host bits", "/32"][..]),
        ("fd00:77::10/64", &["has host bits"]),
        ("0.0.0.0/32", &["unspecified", "outside the VPC's CIDRs"]),
        ("224.0.0.18/32", &["multicast"]),
        ("ff02::12/128", &["multicast"]),
        ("169.254.169.254/32", &["link-local"]),
        ("fe80::1/128", &["link-local"]),
        ("fd00:ec2::254/128", &["EC2's own"]),
        ("192.168.77.10", &["is not an overlay address", "ADDRESS/32"]),
        ("edge.example.com/32", &["is not an overlay address"]),
    ] {
        let text = least_with("192.168.77.10/32", vip);
        refused_at(&text, &format!("\"{vip}\""), words);
    }
    refused_at(&least_with("[\"192.168.77.10/32\"]", "[]"), "[]", &["vip.addresses is empty"]);
    let twice = least_with("/32\"]", "/32\", \"192.168.77.10/32\"]");
    refused(&twice, (9, 34), &["the VIP \"192.168.77.10/32\" stands here twice", "first here"]);
    let peer = least_with("192.168.77.10/32", "10.0.1.10/32")
        .replace("listen = \"10.0.1.10", "listen = \"10.0.1.11");
    refused(&peer, (7, 8), &["members.peer = \"10.0.1.10:7400\" is the VIP 10.0.1.10/32", "own address"]);
    let check = least_and("[health]\nhttp = \"http://192.168.77.10:8404/\"");
    refused_at(&check, "\"http://192", &["health.http", "is the VIP"]);
}

#[test]
fn fault_60_timings_that_break_the_lease_show_the_inequality() {
    for (raft, mark, words) in [
        (
            "heartbeat_ms = 60",
            "60",
            &["2 x heartbeat < election min does not hold: 2 x 60 ms = 120 ms < 100 ms", "heartbeat_ms < 50"]
                [..],
        ),
        ("heartbeat_ms = 50", "50", &["2 x 50 ms = 100 ms < 100 ms"]),
        ("election_ms = [60, 120]", "[60", &["2 x 30 ms = 60 ms < 60 ms", "above 60"]),
        (
            "profile = \"fast\"\nheartbeat_ms = 30",
            "30",
            &["2 x 30 ms = 60 ms < 60 ms", "the profile for what is not given"],
        ),
        ("election_ms = [200, 200]", "[200", &["election min < election max does not hold: 200 ms < 200 ms"]),
        ("election_ms = [300, 200]", "[300", &["300 ms < 200 ms"]),
        (
            "heartbeat_ms = 5\nelection_ms = [11, 14]",
            "5\n",
            &["2 x 5 ms = 10 ms < 14 - 0.14 - 5.00 = 8.86 ms", "lease - 1 % - margin"],
        ),
        ("election_ms = [100]", "[100", &["has 1 numbers, not two", "[100, 200]"]),
        ("election_ms = [100, 200, 300]", "[100", &["has 3 numbers"]),
        ("election_ms = [100, 90000]", "90000", &["raft.election_ms = 90000 is outside 1 to 60000"]),
        ("election_ms = [100, -1]", "-1", &["raft.election_ms = -1 is outside"]),
        ("heartbeat_ms = 4", "4\n", &["raft.heartbeat_ms = 4 is outside 5 to"]),
        ("profile = \"slow\"", "\"slow\"", &["not one of steady, balanced, fast"]),
    ] {
        let text = least_and(&format!("[raft]\n{raft}\n"));
        let at = text.find("[raft]").expect("raft");
        let line = text[..at].matches('\n').count() + 2;
        let (row, column) = raft
            .lines()
            .chain([""])
            .enumerate()
            .find_map(|(i, l)| format!("{l}\n").find(mark).map(|c| (line + i, c + 1)))
            .expect(raft);
        let error = refused(&text, (row, column), words);
        assert_eq!(error.mistakes().len(), 1, "{}", shown(&error));
    }
    // The shortest that holds: 2 x 5 < 11, and 10 < 16 - 0.16 - 5.
    assert!(parse(least_and("[raft]\nheartbeat_ms = 5\nelection_ms = [11, 16]")).is_ok());
}

#[test]
fn fault_63_a_key_that_others_can_read() {
    let dir = tempfile::tempdir().expect("a directory");
    for (mode, word) in [
        (0o644, Some("mode 0644: everybody on this host can read it")),
        (0o604, Some("everybody on this host can read it")),
        (0o602, Some("everybody on this host can write it")),
        (0o660, Some("its group can write it")),
        (0o640, None),
        (0o600, None),
        (0o400, None),
    ] {
        let text = tls_files(dir.path(), mode);
        match word {
            Some(word) => {
                let key = format!("\"{}\"", dir.path().join("az-a.key").display());
                refused_at(&text, &key, &[word, "chmod 0600"]);
            }
            None => assert!(parse(text).is_ok(), "{mode:o}"),
        }
    }
}

#[test]
fn fault_63_tls_files_that_are_not_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = tls_files(dir.path(), 0o600);
    let ca = format!("\"{}\"", dir.path().join("ca.pem").display());
    fs::remove_file(dir.path().join("ca.pem")).expect("removed");
    refused_at(&text, &ca, &["tls.ca", "cannot be read: No such file", "put the PEM file there"]);
    fs::create_dir(dir.path().join("ca.pem")).expect("a directory");
    refused_at(&text, &ca, &["ca.pem is not a file"]);
    refused_at(
        &least_with("insecure = true", "insecure = false"),
        "[tls]",
        &["there is no [tls]", "insecure = true"],
    );
    refused(least_with("[tls]\ninsecure = true\n", ""), (1, 1), &["there is no [tls]"]);
    let half = least_with("insecure = true", "ca = \"/dev/null\"");
    refused(half, (12, 1), &["tls.cert is missing", "tls.key is missing", "/dev/null is not a file"]);
    // In so many words, none: the paths are not even looked at.
    let config = parse(least_and("ca = \"/none\"")).expect("accepted");
    assert_eq!(config.tls.ca, None);
}
