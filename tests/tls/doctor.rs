//! What doctor says of a member's own certificate and of its list, read from where the configuration says.

use vipd::config::Config;
use vipd::doctor::certificate::tls;
use vipd::doctor::finding::{Finding, Level};
use vipd::doctor::host::Root;
use vipd::model::WallMs;

use crate::pki::Pki;

/// Valid from yesterday on for 90 days; the next list is due in 30.
fn member() -> (Pki, Config) {
    let pki = Pki::new();
    let files = pki.issue("member/az-a");
    let crl = pki.revoke(&[], 30);
    let text = format!(
        "cluster = \"edge\"\nmember = \"az-a\"\npeer.listen = \"10.0.1.10:7400\"\nvip.addresses = [\"192.168.77.10/32\"]\n\
         aws.route_tables = [\"rtb-0a\"]\n[[members]]\nname = \"az-a\"\npeer = \"10.0.1.10:7400\"\n\
         [tls]\nca = {:?}\ncert = {:?}\nkey = {:?}\ncrl = {crl:?}\n",
        files.ca, files.cert, files.key
    );
    (pki, Config::parse(text.as_bytes(), "vipd.toml", None).unwrap())
}

fn in_days(config: &Config, days: i64) -> Vec<Finding> {
    let at = time::OffsetDateTime::now_utc() + time::Duration::days(days);
    tls(&Root::new("/"), config, WallMs(u64::try_from(at.unix_timestamp()).unwrap() * 1000))
}

fn levels(found: &[Finding]) -> Vec<Level> {
    found.iter().map(|f| f.level).collect()
}

#[test]
fn a_certificate_before_its_time_and_a_list_after_it_are_findings() {
    let (pki, config) = member();
    let at = |days: i64| levels(&in_days(&config, days));
    assert_eq!(at(-2), [Level::Fail, Level::Ok], "not yet");
    assert_eq!(at(1), [Level::Ok, Level::Ok]);
    assert_eq!(at(31), [Level::Ok, Level::Warn], "the list is overdue");
    assert_eq!(at(80), [Level::Warn, Level::Warn], "ten days are left");
    assert_eq!(at(91), [Level::Fail, Level::Warn]);
    let early = &in_days(&config, -2)[0];
    assert!(early.finding.contains("is valid from ") && early.mend.contains("timedatectl"), "{early:?}");
    let overdue = &in_days(&config, 31)[1];
    let list = pki.path("crl.pem").display().to_string();
    assert!(overdue.finding.contains(&list) && overdue.mend.contains("vipctl certs revoke"), "{overdue:?}");
    std::fs::write(&list, "nothing").unwrap();
    assert_eq!(at(1), [Level::Ok, Level::Warn], "no list any more");
}
