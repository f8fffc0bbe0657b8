//! `[vip]` and `[aws]`.

use std::time::Duration;

use toml::Spanned;

use super::values::Checker;
use super::{Unique, inner};
use crate::config::raw::{self, Raw, Table, Word};
use crate::config::reason::Reason;
use crate::config::{AwsConfig, SourceDestCheck, VipConfig};
use crate::model::route::ROUTES_MAX;
use crate::model::{EniId, Name, RouteTableId, Vip};

pub(super) fn vip(c: &mut Checker, table: &Table<raw::Vip>) -> Option<VipConfig> {
    let at = table.as_ref().map(Spanned::span);
    let raw = inner(table);
    let interface = interface(c, raw.map_or(&None, |v| &v.interface));
    let lifetime_s = raw.map_or(&None, |v| &v.lifetime_s);
    // Refreshed in whole seconds, so that 1 would be over before the refresh. An hour is a bound
    // that nobody who wants the address gone should come near.
    let lifetime_s = match lifetime_s {
        Some(zero) if *zero.get_ref() == 0 => 0,
        value => c.number("vip.lifetime_s", value, 0, 2..=3600),
    };
    let example = "[vip] with addresses = [\"192.168.77.10/32\"]";
    let list = c.required(raw.map_or(&None, |v| &v.addresses), "vip.addresses", example, at)?;
    if list.get_ref().is_empty() {
        c.refuse(Reason::Empty { key: "vip.addresses" }, vec![(list.span(), "no VIP")]);
        return None;
    }
    let mut seen = Unique::new("the VIP");
    let mut addresses = Vec::new();
    for value in list.get_ref() {
        if let Some(vip) = c.parsed::<Vip>("vip.addresses", value) {
            seen.add(c, vip.to_string(), value.span());
            addresses.push(vip);
        }
    }
    let lifetime_s = u32::try_from(lifetime_s).unwrap_or(0);
    Some(VipConfig { addresses, interface, lifetime_s })
}

/// IFNAMSIZ is 16 with its closing zero; the kernel refuses slashes, blanks, `.` and `..`
/// (dev_valid_name).
fn interface(c: &mut Checker, value: &Word) -> String {
    let Some(value) = value else { return "lo".to_owned() };
    let name = value.get_ref();
    let odd = |ch: char| ch == '/' || ch == ':' || ch.is_whitespace() || ch.is_control();
    if !(1..=15).contains(&name.len()) || name.contains(odd) || name == "." || name == ".." {
        let reason = Reason::Interface { value: name.clone() };
        c.refuse(reason, vec![(value.span(), "this name")]);
    }
    name.clone()
}

pub(super) fn aws(c: &mut Checker, table: &Table<raw::Aws>) -> Option<AwsConfig> {
    let Some(raw) = inner(table) else {
        c.refuse(Reason::NoRouteTables, vec![]);
        return None;
    };
    let route_tables = route_tables(c, raw);
    let route_table_tag = raw.route_table_tag.as_ref().and_then(|v| tag(c, v));
    let listed = raw.route_tables.as_ref().is_some_and(|list| !list.get_ref().is_empty());
    if !listed && raw.route_table_tag.is_none() {
        let place = raw.route_tables.as_ref().map(|list| (list.span(), "empty"));
        let place = place.or(table.as_ref().map(|t| (t.span(), "missing in this table")));
        c.refuse(Reason::NoRouteTables, place.into_iter().collect());
    }
    let region: Option<Name> = raw.region.as_ref().and_then(|v| c.parsed("aws.region", v));
    let endpoint_url = raw.endpoint_url.as_ref().and_then(|v| {
        c.url(v, &["http://", "https://"], |value| Reason::NotUrl {
            key: "aws.endpoint_url",
            value,
            wanted: "an http or https",
            example: "\"https://ec2.eu-west-1.amazonaws.com\" or \"http://10.0.0.2:5000\"",
        })
    });
    let choices = [
        ("verify", SourceDestCheck::Verify),
        ("fix", SourceDestCheck::Fix),
        ("ignore", SourceDestCheck::Ignore),
    ];
    let check = &raw.source_dest_check;
    let check = c.choice("aws.source_dest_check", check, "verify, fix, ignore", &choices);
    // Below 50 ms no swap would end in time; above a minute an attempt hides a dead endpoint.
    let timeout_ms = c.number("aws.attempt_timeout_ms", &raw.attempt_timeout_ms, 1000, 50..=60_000);
    let reconcile_s = c.number("aws.reconcile_s", &raw.reconcile_s, 10, 1..=3600);
    // EC2's burst of mutating calls is 50: more connections than that never have work.
    let warm = c.number("aws.warm_connections", &raw.warm_connections, 8, 0..=50);
    Some(AwsConfig {
        region: region.map(String::from),
        route_tables,
        route_table_tag,
        eni: raw.eni.as_ref().and_then(|v| c.parsed::<EniId>("aws.eni", v)),
        endpoint_url,
        assume_role_arn: raw.assume_role_arn.as_ref().and_then(|v| role_arn(c, v)),
        create_missing: raw.create_missing.as_ref().is_some_and(|v| *v.get_ref()),
        source_dest_check: check.unwrap_or(SourceDestCheck::Verify),
        attempt_timeout: Duration::from_millis(timeout_ms),
        reconcile: Duration::from_secs(reconcile_s),
        warm_connections: usize::try_from(warm).unwrap_or(8),
    })
}

/// Those that are listed. How many the tag adds, EC2 tells (`doctor::ec2`).
pub(super) fn routes(c: &mut Checker, raw: &Raw, vip: &VipConfig, aws: &AwsConfig) {
    let (tables, vips) = (aws.route_tables.len(), vip.addresses.len());
    if tables * vips > ROUTES_MAX {
        let list = inner(&raw.aws).and_then(|aws| aws.route_tables.as_ref());
        let places = list.map(|list| (list.span(), "these, each with every VIP")).into_iter().collect();
        c.refuse(Reason::TooManyRoutes { tables, vips, max: ROUTES_MAX }, places);
    }
}

fn route_tables(c: &mut Checker, raw: &raw::Aws) -> Vec<RouteTableId> {
    let mut seen = Unique::new("the route table");
    let mut tables = Vec::new();
    for value in raw.route_tables.iter().flat_map(|list| list.get_ref()) {
        if let Some(id) = c.parsed::<RouteTableId>("aws.route_tables", value) {
            seen.add(c, id.to_string(), value.span());
            tables.push(id);
        }
    }
    tables
}

/// Split at the first equals sign: a key may hold colons (`vipd:cluster`), a value anything.
fn tag(c: &mut Checker, value: &Spanned<String>) -> Option<(String, String)> {
    // EC2's limits, in characters (EC2 User Guide, "Tag restrictions").
    let fits = |k: &str, v: &str| (1..=128).contains(&k.chars().count()) && v.chars().count() <= 256;
    let tag = value.get_ref().split_once('=').filter(|(k, v)| fits(k, v));
    if tag.is_none() {
        let reason = Reason::Tag { value: value.get_ref().clone() };
        c.refuse(reason, vec![(value.span(), "not KEY=VALUE")]);
    }
    tag.map(|(k, v)| (k.to_owned(), v.to_owned()))
}

/// `arn:PARTITION:iam::ACCOUNT:role/NAME`.
fn role_arn(c: &mut Checker, value: &Spanned<String>) -> Option<String> {
    let text = value.get_ref();
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let role = match parts.as_slice() {
        ["arn", partition, "iam", "", account, resource] => {
            !partition.is_empty()
                && account.len() == 12
                && account.chars().all(|ch| ch.is_ascii_digit())
                && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty())
        }
        _ => false,
    };
    if !role {
        let reason = Reason::RoleArn { value: text.clone() };
        c.refuse(reason, vec![(value.span(), "not a role")]);
    }
    role.then(|| text.clone())
}
