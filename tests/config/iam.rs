//! The least policies, against expected files: `tests/config/iam/*.json`.

use std::path::Path;

use serde_json::Value;
use vipd::config::Config;
use vipd::config::iam::{Policies, Whereabouts};

const ROLE: &str = "assume_role_arn = \"arn:aws:iam::210987654321:role/routes\"";

/// `[aws]` with these lines.
fn policies(aws: &str, at: &Whereabouts) -> Policies {
    let text = format!(
        "cluster = \"edge\"\nmember = \"az-a\"\n[peer]\nlisten = \"10.0.1.10:7400\"\n[[members]]\nname = \"az-a\"\n\
         peer = \"10.0.1.10:7400\"\n[vip]\naddresses = [\"192.168.77.10/32\"]\n[tls]\ninsecure = true\n[aws]\n{aws}\n"
    );
    Config::parse(text.as_bytes(), "vipd.toml", None).unwrap().iam_policies(at)
}

fn known() -> Whereabouts {
    Whereabouts {
        region: Some("eu-west-1".to_owned()),
        account: Some("123456789012".to_owned()),
        enis: vec!["eni-0a".parse().unwrap(), "eni-0b".parse().unwrap()],
    }
}

fn expected(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_least_policy_of_each_configuration() {
    let tables = "route_tables = [\"rtb-0a\", \"rtb-0b\"]";
    let tag = "route_table_tag = \"vipd:cluster=edge\"";
    let nowhere = Whereabouts::default;
    for (name, aws, at) in [
        ("tables", tables.to_owned(), known()),
        ("tag", tag.to_owned(), known()),
        ("both-create", format!("{tables}\n{tag}\ncreate_missing = true"), known()),
        ("fix", format!("{tables}\nsource_dest_check = \"fix\""), known()),
        ("fix-unknown", format!("{tables}\nsource_dest_check = \"fix\""), nowhere()),
        ("ignore", format!("{tables}\nsource_dest_check = \"ignore\""), known()),
        ("role-fix", format!("{tables}\n{ROLE}\nsource_dest_check = \"fix\""), known()),
        (
            "role-ignore",
            format!("{tag}\n{ROLE}\nsource_dest_check = \"ignore\"\ncreate_missing = true"),
            known(),
        ),
    ] {
        let all = policies(&aws, &at);
        let text = match all.routes {
            None => serde_json::to_string_pretty(&all.instance).unwrap(),
            Some(_) => serde_json::to_string_pretty(&all).unwrap(),
        };
        assert_eq!(format!("{text}\n"), expected(&format!("tests/config/iam/{name}.json")), "{name}");
        assert!(!text.contains("DeleteRoute"), "{name}");
        let _: Value = serde_json::from_str(&text).unwrap();
    }
}

#[test]
fn the_partition_follows_the_region() {
    let of = |region: &str| {
        let at = Whereabouts { region: Some(region.to_owned()), ..known() };
        serde_json::to_string(&policies("route_tables = [\"rtb-0a\"]", &at)).unwrap()
    };
    assert!(of("cn-north-1").contains("arn:aws-cn:ec2:cn-north-1:"));
    assert!(of("us-gov-west-1").contains("arn:aws-us-gov:ec2:us-gov-west-1:"));
}

/// What ships is what the verb prints for the example.
#[test]
fn the_policy_that_ships_is_the_examples() {
    // The certificates that it names are not on this machine, and are none of a policy's business.
    let text = expected("cluster/examples/az-a.toml");
    let (before, _) = text.split_once("[tls]").unwrap();
    let text = format!("{before}[tls]\ninsecure = true\n");
    let config = Config::parse(text.as_bytes(), "az-a.toml", None).unwrap();
    let at = Whereabouts { enis: vec![], ..known() };
    let text = serde_json::to_string_pretty(&config.iam_policies(&at).instance).unwrap();
    assert_eq!(format!("{text}\n"), expected("cluster/iam/policy.json"));
}
