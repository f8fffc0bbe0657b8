//! What ships as a file, by the program that reads it.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::tool::tool;
use crate::tools::{ok, read, repo};

fn promtool(arguments: &[&str]) -> String {
    ok(Command::new(tool("promtool")).args(arguments).current_dir(repo("cluster/prometheus")))
}

#[test]
fn promtool_takes_the_alerts_and_they_fire_when_they_should() {
    let said = promtool(&["check", "rules", "vipd-alerts.yml"]);
    assert!(said.contains("SUCCESS"), "{said}");
    let said = promtool(&["test", "rules", "vipd-alerts.test.yml"]);
    assert!(said.contains("SUCCESS"), "{said}");
}

/// Each alert is seen firing and not firing, so that one which never fires is noticed.
#[test]
fn no_alert_goes_untested() {
    let (rules, tests) =
        (read("cluster/prometheus/vipd-alerts.yml"), read("cluster/prometheus/vipd-alerts.test.yml"));
    let alerts: Vec<_> =
        rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")).map(str::to_owned).collect();
    assert!(alerts.len() >= 15, "{alerts:?}");
    for alert in alerts {
        assert!(
            tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n          - ")),
            "{alert} never fires"
        );
        assert!(tests.contains(&format!("alertname: {alert}}}")), "{alert} is never seen silent");
    }
}

/// On the dashboard's panels in no way: who owns leads as well, and what the end of a lifeline does is a move.
const LEFT_OUT: [&str; 2] = ["vipd_is_leader", "vipd_lifelines"];

/// That each name is a metric: tests/e2e/metrics.rs.
#[test]
fn the_dashboard_shows_every_metric() {
    let source = read("src/metrics.rs");
    let names: BTreeSet<_> = source.split('"').filter(|word| word.starts_with("vipd_")).collect();
    assert!(names.len() >= 20, "{names:?}");
    let dashboard: Value = serde_json::from_str(&read("cluster/grafana/vipd.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let expressions =
        panels.iter().flat_map(|p| p["targets"].as_array().unwrap()).map(|t| t["expr"].as_str());
    let shown: String = expressions.map(|e| format!("{} ", e.unwrap())).collect();
    let words: BTreeSet<_> = shown.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    let is_shown =
        |name: &str| ["", "_bucket", "_count"].iter().any(|end| words.contains(&*format!("{name}{end}")));
    let missing: BTreeSet<_> = names.into_iter().filter(|name| !is_shown(name)).collect();
    assert_eq!(missing, LEFT_OUT.into(), "neither on a panel nor left out");
}

#[test]
fn vipd_takes_the_example_of_each_zone() {
    let mut without_names = BTreeSet::new();
    for (zone, net) in [("a", "10.0.1.10"), ("b", "10.0.2.10"), ("c", "10.0.3.10")] {
        let path = format!("cluster/examples/az-{zone}.toml");
        // With certificates in another folder than /etc/vipd.
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().display().to_string();
        let certs = |arguments: &[&str]| {
            ok(Command::new(env!("CARGO_BIN_EXE_vipctl")).arg("certs").args(arguments).args(["--dir", &pki]))
        };
        certs(&["init", "--cluster", "edge"]);
        certs(&["issue", "member", &format!("az-{zone}")]);
        for end in ["pem", "key"] {
            std::fs::rename(format!("{pki}/az-{zone}.{end}"), format!("{pki}/member.{end}")).unwrap();
        }
        let file = dir.path().join("vipd.toml");
        std::fs::write(&file, read(&path).replace("\"/etc/vipd", &format!("\"{pki}"))).unwrap();
        let said = ok(Command::new(env!("CARGO_BIN_EXE_vipd")).args(["--check", "--config"]).arg(&file));
        assert!(said.starts_with(&format!("timeline of az-{zone} in edge")), "{said}");
        let own =
            |line: &str| line.starts_with('#') || line.starts_with("member ") || line.starts_with("listen ");
        let text = read(&path);
        let listens = text.lines().filter(|l| l.starts_with("listen ") && l.contains(net)).count();
        assert_eq!(listens, 2, "{path} listens on its own address");
        without_names.insert(text.lines().filter(|l| !own(l)).collect::<Vec<_>>().join("\n"));
    }
    assert_eq!(without_names.len(), 1, "they differ in member and listen alone");
}

#[test]
fn haproxy_takes_its_example() {
    ok(Command::new(tool("haproxy")).args(["-c", "-f"]).arg(repo("cluster/haproxy/haproxy.cfg")));
}

/// The policy allows what vipd calls by default, and no more.
#[test]
fn the_policy_is_the_least() {
    let policy: Value = serde_json::from_str(&read("cluster/iam/policy.json")).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let mut allowed = BTreeSet::new();
    for statement in statements {
        assert_eq!(statement["Effect"], "Allow");
        let actions = match &statement["Action"] {
            Value::Array(all) => all.iter().map(|a| a.as_str().unwrap().to_owned()).collect(),
            one => vec![one.as_str().unwrap().to_owned()],
        };
        let resources = statement["Resource"].to_string();
        for action in actions {
            let reads = action.starts_with("ec2:Describe");
            assert!(
                reads || (resources.contains(":route-table/") && !resources.contains('*')),
                "{statement}"
            );
            allowed.insert(action);
        }
    }
    let called = read("src/vpc/ec2.rs") + &read("src/vpc/routes.rs") + &read("src/model/route.rs");
    let by_default = ["DescribeNetworkInterfaces", "DescribeRouteTables", "ReplaceRoute"];
    assert_eq!(allowed, by_default.iter().map(|a| format!("ec2:{a}")).collect());
    for action in by_default {
        assert!(called.contains(&format!("\"{action}\"")), "vipd does not call {action}");
    }
    let terraform = read("cluster/terraform/iam.tf");
    for action in &allowed {
        assert!(terraform.contains(&format!("\"{action}\"")), "{action} is not in cluster/terraform/iam.tf");
    }
    // The tables of another account are looked at by its role alone.
    let look = terraform.lines().find(|line| line.contains("ec2:DescribeRouteTables")).unwrap();
    assert!(look.contains("var.assume_role_arn == null ? [\"ec2:DescribeRouteTables\"] : []"), "{look}");
    // Any table at all, but for its tag.
    let by_tag = terraform.split_once("\"SwapByTag\"").unwrap().1.split_once("\n  }\n").unwrap().0;
    assert!(by_tag.contains("\"aws:ResourceTag/${statement.value.key}\""), "{by_tag}");
    assert_eq!(terraform.matches(":route-table/*").count(), 1, "only by tag");
    // A statement without resources is an invalid policy: there is none where tables come by tag alone.
    let before = terraform.split_once("sid       = \"Swap\"\n").unwrap().0;
    let only_if = before.rsplit_once("for_each = ").unwrap().1.lines().next().unwrap();
    assert!(only_if.contains("length(var.route_table_ids) > 0 ? [1] : []"), "{only_if}");
}

/// No provider is to be had where the tests run: that the module is applied nowhere here makes its
/// words worth a look.
#[test]
fn terraform_leaves_the_routes_to_vipd() {
    let main = read("cluster/terraform/main.tf");
    let block = |start: &str| {
        let from = main.split_once(start).unwrap_or_else(|| panic!("{start} is missing")).1;
        from.split_once("\n}\n").unwrap().0.to_owned()
    };
    let route = block("resource \"aws_route\" \"vip\" {");
    assert!(route.contains("ignore_changes = [network_interface_id]"), "{route}");
    for family in ["destination_cidr_block ", "destination_ipv6_cidr_block "] {
        assert!(route.contains(family), "{family}: {route}");
    }
    let eni = block("resource \"aws_network_interface\" \"member\" {");
    assert!(eni.contains("source_dest_check = false"), "{eni}");
    let instance = block("resource \"aws_instance\" \"member\" {");
    assert!(instance.contains("http_put_response_hop_limit = 2"), "{instance}");
    let security = read("cluster/terraform/security.tf");
    let service = security.split_once("\"service\" {").unwrap().1.split_once("\n}\n").unwrap().0;
    assert!(service.contains("cidr_ipv4") && !service.contains("referenced_security_group_id"), "{service}");
    // Closed unless somebody says from where.
    let operators = security.split_once("\"operators\" {").unwrap().1.split_once("\n}\n").unwrap().0;
    assert!(operators.contains("for_each          = toset(var.operator_cidrs)"), "{operators}");
    assert!(operators.contains("from_port         = 7401"), "{operators}");
    let variables = read("cluster/terraform/variables.tf");
    for list in ["route_table_ids", "additional_security_group_ids"] {
        let start = format!("variable \"{list}\" {{");
        let variable = variables.split_once(&start).unwrap().1.split_once("\n}\n").unwrap().0;
        assert!(variable.contains("default     = []"), "{variable}");
    }
    assert!(eni.contains("var.additional_security_group_ids)"), "{eni}");
    for file in ["main.tf", "iam.tf", "security.tf"] {
        let text = read(&format!("cluster/terraform/{file}"));
        for after in text.split("var.").skip(1) {
            let name: String = after.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            assert!(
                variables.contains(&format!("variable \"{name}\" {{")),
                "{file}: var.{name} is not declared"
            );
        }
    }
}
