//! What EC2 shows, judged.

use crate::config::Config;
use crate::doctor::certificate::{list, tls, validity};
use crate::doctor::ec2::{Seen, judge, may_fix, permissions};
use crate::doctor::finding::{Finding, Level};
use crate::doctor::host::Root;
use crate::model::{RouteTableId, WallMs};
use crate::proto;
use crate::vpc::CloudError;
use crate::vpc::ec2::{EniFacts, TableFacts};

pub(super) fn config(aws: &str) -> Config {
    let text = format!(
        "cluster = \"edge\"\nmember = \"az-a\"\n[peer]\nlisten = \"10.0.1.10:7400\"\n[[members]]\nname = \"az-a\"\n\
         peer = \"10.0.1.10:7400\"\n[vip]\naddresses = [\"192.168.77.10/32\", \"fd00:77::10/128\"]\n[tls]\ninsecure = true\n\
         [aws]\n{aws}\n"
    );
    Config::parse(text.as_bytes(), "vipd.toml", None).expect("a configuration")
}

fn table(id: &str, vpc: &str) -> TableFacts {
    TableFacts {
        id: id.parse().expect("an id"),
        vpc: vpc.into(),
        owner: "123456789012".into(),
        local: vec!["10.0.0.0/16".parse().expect("a CIDR")],
    }
}

fn seen(tables: Vec<TableFacts>) -> Seen {
    let facts = EniFacts { source_dest_check: false, zone: "eu-west-1a".into(), vpc: "vpc-1".into() };
    Seen {
        region: Some("eu-west-1".into()),
        eni: Some("eni-0a".parse().expect("an ENI")),
        tables: Ok(tables),
        interface: Some(Ok(facts)),
        clock_ahead: Some(0),
        time_service: Some("chrony"),
    }
}

const TWO: &str = "route_tables = [\"rtb-0a\", \"rtb-0b\"]";

fn bad(found: &[Finding]) -> Vec<&Finding> {
    found.iter().filter(|f| f.level != Level::Ok).collect()
}

/// The only one that is not well.
fn one(found: &[Finding]) -> &Finding {
    let bad = bad(found);
    assert_eq!(bad.len(), 1, "{found:#?}");
    bad[0]
}

#[test]
fn nothing_is_wrong_where_nothing_is() {
    let found = judge(&config(TWO), &seen(vec![table("rtb-0a", "vpc-1"), table("rtb-0b", "vpc-1")]));
    assert!(bad(&found).is_empty(), "{found:#?}");
    for check in ["route-tables", "vpc", "vip-address", "source-dest-check", "clock"] {
        assert!(found.iter().any(|f| f.check == check), "{check}: {found:#?}");
    }
}

#[test]
fn fault_47_a_wrong_table_region_or_vpc_is_named() {
    let found = judge(&config(TWO), &seen(vec![table("rtb-0a", "vpc-1")]));
    let absent = one(&found);
    assert_eq!(absent.level, Level::Fail);
    assert!(
        absent.finding.starts_with("rtb-0b is not to be found in eu-west-1, in this account"),
        "{absent:?}"
    );
    assert!(absent.mend.contains("aws.region"), "{absent:?}");
    let found = judge(&config(TWO), &seen(vec![table("rtb-0a", "vpc-1"), table("rtb-0b", "vpc-2")]));
    assert_eq!(one(&found).finding, "rtb-0b is of vpc-2, but eni-0a is of vpc-1");
    let mut elsewhere = seen(vec![table("rtb-0a", "vpc-1"), table("rtb-0b", "vpc-1")]);
    let code = "InvalidNetworkInterfaceID.NotFound".to_owned();
    let error = CloudError::NotFound { action: "DescribeNetworkInterfaces", code, message: "no".into() };
    elsewhere.interface = Some(Err(error));
    let found = judge(&config(TWO), &elsewhere);
    assert!(one(&found).finding.starts_with("EC2 knows no eni-0a in eu-west-1"), "{found:?}");
    assert!(one(&found).mend.contains("aws.region"), "{found:?}");
}

#[test]
fn fault_47_a_tag_that_no_table_has_is_named() {
    let tag = "route_table_tag = \"vipd:cluster=edge\"";
    let found = judge(&config(tag), &seen(vec![]));
    assert_eq!(one(&found).level, Level::Fail);
    assert!(one(&found).mend.contains("--tags Key=vipd:cluster,Value=edge"), "{found:?}");
    let found = judge(
        &config(&format!("{TWO}\n{tag}")),
        &seen(vec![table("rtb-0a", "vpc-1"), table("rtb-0b", "vpc-1")]),
    );
    assert_eq!(one(&found).level, Level::Warn, "the listed ones are there");
    let found = judge(&config(tag), &seen(vec![table("rtb-0c", "vpc-1")]));
    assert!(bad(&found).is_empty() && found[0].finding.contains("1 of them by tag"), "{found:?}");
}

#[test]
fn fault_48_a_source_dest_check_that_is_on_is_named() {
    let tables = || vec![table("rtb-0a", "vpc-1"), table("rtb-0b", "vpc-1")];
    let on = EniFacts { source_dest_check: true, zone: String::new(), vpc: "vpc-1".into() };
    let found = judge(&config(TWO), &Seen { interface: Some(Ok(on)), ..seen(tables()) });
    assert_eq!(one(&found).level, Level::Fail);
    assert!(one(&found).mend.contains("--network-interface-id eni-0a --no-source-dest-check"), "{found:?}");
    let found = judge(&config(TWO), &Seen { interface: None, ..seen(tables()) });
    assert!(bad(&found).is_empty(), "ignore: {found:?}");
    let found = judge(&config(TWO), &Seen { interface: None, eni: None, ..seen(tables()) });
    assert!(one(&found).mend.contains("aws.eni"), "{found:?}");
}

#[test]
fn fault_59_a_vip_inside_the_vpc_is_named() {
    let mut tables = vec![table("rtb-0a", "vpc-1"), table("rtb-0b", "vpc-1")];
    tables[1].local.push("fd00:77::/56".parse().expect("a CIDR"));
    let found = judge(&config(TWO), &seen(tables));
    assert_eq!(one(&found).finding, "fd00:77::10/128 lies inside the VPC's CIDR fd00:77::/56");
}

#[test]
fn fault_22_a_clock_that_is_off_is_named_before_ec2_refuses() {
    let tables = || vec![table("rtb-0a", "vpc-1"), table("rtb-0b", "vpc-1")];
    for (ahead, level) in
        [(0, Level::Ok), (-5, Level::Ok), (20, Level::Warn), (-360, Level::Fail), (360, Level::Fail)]
    {
        let found = judge(&config(TWO), &Seen { clock_ahead: Some(ahead), ..seen(tables()) });
        let clock = found.iter().find(|f| f.check == "clock").expect("it is judged");
        assert_eq!(clock.level, level, "{clock:?}");
    }
    let found = judge(&config(TWO), &Seen { time_service: None, ..seen(tables()) });
    assert_eq!(one(&found).level, Level::Warn, "nothing corrects it");
}

#[test]
fn fault_63_a_certificate_that_is_over_or_soon_will_be_is_named() {
    let day = 24 * 60 * 60 * 1000;
    let now = WallMs(1_000 * day);
    let from = WallMs(900 * day);
    let of = |days: u64| validity("/etc/vipd/az-a.pem", now, Some((from, WallMs(days * day)))).level;
    assert_eq!(
        [of(999), of(1_000), of(1_001), of(1_029), of(1_031)],
        [Level::Fail, Level::Fail, Level::Warn, Level::Warn, Level::Ok]
    );
    assert_eq!(validity("/etc/vipd/az-a.pem", now, None).level, Level::Warn);
    let not_yet = validity("/etc/vipd/az-a.pem", now, Some((WallMs(1_000 * day + 1), WallMs(2_000 * day))));
    assert!(
        not_yet.level == Level::Fail && not_yet.finding.contains("is valid from 1972-09-27"),
        "{not_yet:?}"
    );
    assert_eq!(validity("/etc/vipd/az-a.pem", now, Some((now, WallMs(2_000 * day)))).level, Level::Ok);
    // Without TLS no file is looked at.
    let insecure = tls(&Root::new("/nowhere"), &config(TWO), now);
    let insecure: Vec<_> = insecure.iter().map(|f| (f.level, f.finding.as_str())).collect();
    assert_eq!(insecure, [(Level::Warn, "tls.insecure is on")]);
}

#[test]
fn a_revocation_list_that_is_overdue_is_named() {
    let now = WallMs(1_000_000);
    let of = |next| list("/etc/vipd/crl.pem", now, next);
    let overdue = of(Some(Some(now)));
    assert!(
        overdue.level == Level::Warn && overdue.finding.contains("renewed by 1970-01-01T00:16:40Z"),
        "{overdue:?}"
    );
    assert!(overdue.mend.contains("vipctl certs revoke"), "{overdue:?}");
    let levels = [None, Some(Some(WallMs(now.0 + 1))), Some(None)].map(|next| of(next).level);
    assert_eq!(levels, [Level::Warn, Level::Ok, Level::Ok]);
}

#[test]
fn a_role_that_may_not_switch_the_check_off_is_named_where_the_file_asks_for_it() {
    let denied = CloudError::Unauthorized {
        action: "ModifyNetworkInterfaceAttribute",
        resource: "arn:eni".into(),
        message: "no".into(),
    };
    let of = |on: bool, result| {
        let mut seen = seen(vec![]);
        let facts = EniFacts { source_dest_check: on, zone: "eu-west-1a".into(), vpc: "vpc-1".into() };
        seen.interface = Some(Ok(facts));
        may_fix(&seen, &result)
    };
    let found = of(false, Err(denied.clone())).expect("a finding");
    assert_eq!(found.level, Level::Warn, "it is off: nothing hangs on it now");
    assert!(
        found.finding.starts_with("ec2:ModifyNetworkInterfaceAttribute is denied on eni-0a"),
        "{found:?}"
    );
    let line =
        r#"{"Effect": "Allow", "Action": "ec2:ModifyNetworkInterfaceAttribute", "Resource": "arn:eni"}"#;
    assert!(found.mend.ends_with(line), "{found:?}");
    assert_eq!(of(true, Err(denied)).expect("a finding").level, Level::Fail);
    assert_eq!(of(false, Ok(())).expect("a finding").level, Level::Ok);
    let throttled = CloudError::Throttled { action: "ModifyNetworkInterfaceAttribute" };
    assert!(of(false, Err(throttled)).is_none(), "it says nothing about permission");
}

fn right(table: &str, error: &str) -> proto::Right {
    proto::Right { route_table: table.into(), allowed: error.is_empty(), age_ms: 12_345, error: error.into() }
}

#[test]
fn fault_38_a_denied_table_is_named_with_the_line_to_add() {
    let denied =
        CloudError::Unauthorized { action: "ReplaceRoute", resource: "arn:b".into(), message: "no".into() };
    let tables: Vec<RouteTableId> =
        ["rtb-0a", "rtb-0b", "rtb-0c"].map(|t| t.parse().expect("a table")).to_vec();
    let rights = [right("rtb-0a", ""), right("rtb-0b", &denied.to_string())];
    let exists = CloudError::Other {
        action: "CreateRoute",
        code: "RouteAlreadyExists".into(),
        message: String::new(),
    };
    let create =
        CloudError::Unauthorized { action: "CreateRoute", resource: "arn:c".into(), message: "no".into() };
    let created = [(tables[0].clone(), Err(exists)), (tables[2].clone(), Err(create))];
    let found = permissions(&tables, &rights, &created);
    let lines: Vec<_> = found.iter().map(|f| (f.level, f.finding.as_str())).collect();
    assert!(lines[0].1.starts_with("ec2:ReplaceRoute is denied on rtb-0b"), "{lines:?}");
    assert!(
        found[0].mend.ends_with(r#"{"Effect": "Allow", "Action": "ec2:ReplaceRoute", "Resource": "arn:b"}"#),
        "{found:?}"
    );
    assert_eq!(lines[1], (Level::Ok, "ec2:ReplaceRoute is allowed on rtb-0a (12 s ago)"));
    assert_eq!(lines[2], (Level::Warn, "not known yet for rtb-0c"));
    assert_eq!(lines[3], (Level::Ok, "ec2:CreateRoute is allowed on rtb-0a"));
    assert!(lines[4].1.starts_with("ec2:CreateRoute is denied on rtb-0c"), "{lines:?}");
}

/// How many tables have the tag, no file tells.
#[test]
fn more_tables_by_tag_than_a_claim_holds_are_named() {
    let tables = |n: usize| (0..n).map(|i| table(&format!("rtb-{i:08x}"), "vpc-1")).collect::<Vec<_>>();
    let tag = config("route_table_tag = \"vipd:cluster=edge\"");
    assert!(bad(&judge(&tag, &seen(tables(175)))).is_empty());
    let found = judge(&tag, &seen(tables(176)));
    let one = one(&found);
    assert!(one.level == Level::Fail && one.finding.contains("are 352 routes"), "{one:?}");
}
