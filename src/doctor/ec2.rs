//! What EC2 shows, judged: the tables are there and of the right VPC, the interface lets the VIP's packets pass, the
//! role may change the routes, the clocks agree.

use std::collections::BTreeSet;
use std::time::Duration;

use super::finding::{Finding, Level};
use crate::config::{Config, SourceDestCheck};
use crate::model::route::ROUTES_MAX;
use crate::model::{EniId, RouteTableId};
use crate::proto;
use crate::vpc::CloudError;
use crate::vpc::ec2::{EniFacts, TableFacts};

const TABLES: &str = "route-tables";
const ENI: &str = "source-dest-check";
const PERMISSION: &str = "permission";

/// What was read. An error is a finding too.
pub struct Seen {
    pub region: Option<String>,
    pub eni: Option<EniId>,
    pub tables: Result<Vec<TableFacts>, CloudError>,
    /// `None`: not asked, since there is no ENI.
    pub interface: Option<Result<EniFacts, CloudError>>,
    /// By how many seconds EC2's clock is ahead.
    pub clock_ahead: Option<i64>,
    pub time_service: Option<&'static str>,
}

/// Everything but permissions.
pub fn judge(config: &Config, seen: &Seen) -> Vec<Finding> {
    let mut all = Vec::new();
    match &seen.tables {
        Err(error) => all.push(Finding::new(
            Level::Fail,
            TABLES,
            format!("the route tables cannot be read: {error}"),
            "this member does not see whether a route is right, and a swap goes the same way",
            "mend what is named; vipctl iam-policy prints all that the role needs",
        )),
        Ok(tables) => {
            all.extend(are_there(config, seen, tables));
            all.extend(of_one_vpc(seen, tables));
            all.extend(vip_outside(config, tables));
            all.extend(too_many(config, tables));
        }
    }
    all.push(interface(config, seen));
    all.push(clock(seen));
    all
}

fn account(config: &Config) -> &'static str {
    if config.aws.assume_role_arn.is_some() { "the account of aws.assume_role_arn" } else { "this account" }
}

fn are_there(config: &Config, seen: &Seen, tables: &[TableFacts]) -> Vec<Finding> {
    let region = seen.region.as_deref().unwrap_or("an unknown region");
    let found: BTreeSet<&RouteTableId> = tables.iter().map(|t| &t.id).collect();
    let mut all = Vec::new();
    for id in config.aws.route_tables.iter().filter(|id| !found.contains(id)) {
        all.push(Finding::new(
            Level::Fail,
            TABLES,
            format!("{id} is not to be found in {region}, in {}", account(config)),
            "its subnets keep the route of the last owner, or none",
            format!(
                "aws ec2 describe-route-tables --region {region} --route-table-ids {id}; correct aws.route_tables, \
                 aws.region or aws.assume_role_arn"
            ),
        ));
    }
    let listed = |t: &&TableFacts| config.aws.route_tables.contains(&t.id);
    let by_tag = tables.iter().filter(|t| !listed(t)).count();
    if let Some((key, value)) = &config.aws.route_table_tag
        && by_tag == 0
    {
        let level = if config.aws.route_tables.is_empty() { Level::Fail } else { Level::Warn };
        all.push(Finding::new(
            level,
            TABLES,
            format!("no other route table has the tag {key}={value} in {region}, in {}", account(config)),
            "a table that was meant to have it is not swapped",
            format!("aws ec2 create-tags --region {region} --resources RTB --tags Key={key},Value={value}"),
        ));
    }
    if let Some(first) = tables.first() {
        let n = tables.len();
        let ids: Vec<_> = tables.iter().take(8).map(|t| t.id.as_str()).collect();
        let more = if n > ids.len() { format!(" and {} more", n - ids.len()) } else { String::new() };
        let tag = if by_tag > 0 { format!(", {by_tag} of them by tag") } else { String::new() };
        let where_ = format!("{} in {region}, account {}", first.vpc, first.owner);
        all.push(Finding::ok(TABLES, format!("{}{more}{tag}: {where_}", ids.join(", "))));
    }
    all
}

/// The file holds the list to the bound; a tag may go past it.
fn too_many(config: &Config, tables: &[TableFacts]) -> Option<Finding> {
    let (n, vips) = (tables.len(), config.vip.addresses.len());
    (n * vips > ROUTES_MAX).then(|| {
        Finding::new(
            Level::Fail,
            TABLES,
            format!(
                "{n} route tables times {vips} VIPs are {} routes, and a claim holds {ROUTES_MAX}",
                n * vips
            ),
            "after a failover the rest is swapped as repairs are: late, one look after the other",
            "take the tag from some tables, or divide the VIPs or tables among several groups",
        )
    })
}

/// A route names an interface of its own VPC only.
fn of_one_vpc(seen: &Seen, tables: &[TableFacts]) -> Vec<Finding> {
    let check = "vpc";
    let own = match &seen.interface {
        Some(Ok(facts)) => Some(facts.vpc.as_str()),
        Some(Err(_)) | None => None,
    };
    let Some(vpc) = own.or(tables.first().map(|t| t.vpc.as_str())) else { return vec![] };
    let eni = seen.eni.as_ref().map_or_else(|| "the others".to_owned(), |eni| format!("{eni} is"));
    let subject = if own.is_some() { eni } else { "the first table is".to_owned() };
    let others = tables.iter().filter(|t| t.vpc != vpc);
    let mut all: Vec<_> = others
        .map(|t| {
            Finding::new(
                Level::Fail,
                check,
                format!("{} is of {}, but {subject} of {vpc}", t.id, t.vpc),
                "a route can name an interface of its own VPC only: EC2 refuses the swap",
                format!("take {} out of aws.route_tables (or its tag away)", t.id),
            )
        })
        .collect();
    if all.is_empty() && own.is_some() && !tables.is_empty() {
        all.push(Finding::ok(check, format!("tables and interface are of {vpc}")));
    }
    all
}

/// The time that an examination has is over.
pub fn silent(after: Duration) -> Finding {
    Finding::new(
        Level::Fail,
        "ec2",
        format!("EC2 did not answer within {} s: what is not told here was not found out", after.as_secs()),
        "no route can be changed from here",
        "see the way to EC2: security groups, NAT or VPC endpoint, DNS; a long aws.attempt_timeout_ms hides a call that hangs",
    )
}

fn vip_outside(config: &Config, tables: &[TableFacts]) -> Vec<Finding> {
    let check = "vip-address";
    let local = || tables.iter().flat_map(|t| &t.local);
    let one = |vip: &crate::model::Vip| match local().find(|cidr| cidr.contains(vip.ip())) {
        Some(cidr) => Finding::new(
            Level::Fail,
            check,
            format!("{vip} lies inside the VPC's CIDR {cidr}"),
            "EC2 delivers that by itself, and no route can change it",
            "choose an address outside of every CIDR of the VPC, in vip.addresses of every member",
        ),
        None => {
            let known: BTreeSet<_> = local().map(ToString::to_string).collect();
            let known: Vec<_> = known.into_iter().collect();
            Finding::ok(check, format!("{vip} lies outside of {}", known.join(", ")))
        }
    };
    config.vip.addresses.iter().map(one).collect()
}

fn interface(config: &Config, seen: &Seen) -> Finding {
    let Some(eni) = &seen.eni else {
        return Finding::new(
            Level::Fail,
            ENI,
            "this member's network interface is not known",
            "no route can be pointed at it",
            "set aws.eni, or switch IMDSv2 on (in a container with a hop limit of 2)",
        );
    };
    let off = format!(
        "aws ec2 modify-network-interface-attribute --network-interface-id {eni} --no-source-dest-check"
    );
    match &seen.interface {
        None => Finding::ok(ENI, "not looked at: aws.source_dest_check = \"ignore\""),
        Some(Ok(facts)) if !facts.source_dest_check => Finding::ok(ENI, format!("off, on {eni}")),
        Some(Ok(_)) => Finding::new(
            Level::Fail,
            ENI,
            format!("the source/dest check of {eni} is on"),
            match config.aws.source_dest_check {
                SourceDestCheck::Fix => {
                    "EC2 drops what is sent from or to the VIP; vipd could not switch it off"
                }
                SourceDestCheck::Verify | SourceDestCheck::Ignore => {
                    "EC2 drops what is sent from or to the VIP: this member may not own"
                }
            },
            off,
        ),
        Some(Err(error @ CloudError::NotFound { .. })) => Finding::new(
            Level::Fail,
            ENI,
            format!(
                "EC2 knows no {eni} in {}: {error}",
                seen.region.as_deref().unwrap_or("an unknown region")
            ),
            "no route can be pointed at it",
            "correct aws.eni or aws.region, or attach the interface",
        ),
        Some(Err(error)) => Finding::new(
            Level::Warn,
            ENI,
            format!("{eni} cannot be read: {error}"),
            "a source/dest check that is on would not be seen; EC2 then drops what is sent from or to the VIP",
            "mend what is named; vipctl iam-policy prints all that the role needs",
        ),
    }
}

/// EC2 refuses a request whose time is five minutes off.
fn clock(seen: &Seen) -> Finding {
    let check = "clock";
    let mend = "systemctl enable --now chrony (server 169.254.169.123 prefer iburst)";
    let Some(ahead) = seen.clock_ahead else {
        return Finding::new(
            Level::Warn,
            check,
            "EC2 has not told its time",
            "a clock that is wrong by five minutes stops every call to EC2",
            "see what keeps EC2 from answering; timedatectl",
        );
    };
    let how = format!("EC2's clock is {ahead} s ahead of this host's");
    let service = seen.time_service.map_or("no time service is seen".to_owned(), |s| format!("{s} runs"));
    match (ahead.unsigned_abs(), seen.time_service) {
        (off, _) if off > 240 => Finding::new(
            Level::Fail,
            check,
            format!("{how}; {service}"),
            "EC2 refuses requests whose time is more than five minutes off",
            mend,
        ),
        (off, _) if off > 5 => Finding::new(
            Level::Warn,
            check,
            format!("{how}; {service}"),
            "at five minutes EC2 refuses requests",
            mend,
        ),
        (_, None) => Finding::new(
            Level::Warn,
            check,
            format!("{how}; {service}"),
            "a clock that nothing corrects drifts away",
            mend,
        ),
        (_, Some(_)) => Finding::ok(check, format!("{how}; {service}")),
    }
}

fn mend(error: &str) -> String {
    let line = error.split_once("add to the policy of the instance's role: ").map(|(_, line)| line);
    format!("vipctl iam-policy; add to the role's policy: {}", line.unwrap_or("what it names"))
}

/// What the DryRun of ModifyNetworkInterfaceAttribute says, which only `source_dest_check = "fix"` needs. While the
/// check is off nothing hangs on it.
pub fn may_fix(seen: &Seen, result: &Result<(), CloudError>) -> Option<Finding> {
    let eni = seen.eni.as_ref()?;
    match result {
        Ok(()) => {
            Some(Finding::ok(PERMISSION, format!("ec2:ModifyNetworkInterfaceAttribute is allowed on {eni}")))
        }
        Err(error @ CloudError::Unauthorized { .. }) => {
            let is_off = matches!(&seen.interface, Some(Ok(facts)) if !facts.source_dest_check);
            let text = error.to_string();
            Some(Finding::new(
                if is_off { Level::Warn } else { Level::Fail },
                PERMISSION,
                format!("ec2:ModifyNetworkInterfaceAttribute is denied on {eni}: {text}"),
                "aws.source_dest_check is \"fix\": a check that is on, as on every new interface, stays on, and this \
                 member may not own",
                mend(&text),
            ))
        }
        // What cannot be asked is named elsewhere.
        Err(_) => None,
    }
}

/// What the DryRuns say: `rights` are those of ReplaceRoute, `create` those of CreateRoute just made.
pub fn permissions(
    tables: &[RouteTableId],
    rights: &[proto::Right],
    create: &[(RouteTableId, Result<(), CloudError>)],
) -> Vec<Finding> {
    let mut all = Vec::new();
    let why = "a failover onto this member leaves that table's route where it was";
    let mut allowed = Vec::new();
    let mut unknown = Vec::new();
    for id in tables {
        match rights.iter().find(|right| right.route_table == id.as_str()) {
            Some(right) if right.allowed => allowed.push(format!("{id} ({} s ago)", right.age_ms / 1000)),
            Some(right) => {
                let finding = format!("ec2:ReplaceRoute is denied on {id}: {}", right.error);
                all.push(Finding::new(Level::Fail, PERMISSION, finding, why, mend(&right.error)));
            }
            None => unknown.push(id.as_str()),
        }
    }
    if !allowed.is_empty() {
        all.push(Finding::ok(PERMISSION, format!("ec2:ReplaceRoute is allowed on {}", allowed.join(", "))));
    }
    if !unknown.is_empty() {
        all.push(Finding::new(
            Level::Warn,
            PERMISSION,
            format!("not known yet for {}", unknown.join(", ")),
            "EC2 is asked about one table a minute, and about four more with each vipctl doctor, never near a move",
            "vipctl doctor, in a quarter of a minute",
        ));
    }
    for (id, result) in create {
        match result {
            Err(error @ CloudError::Unauthorized { .. }) => {
                let text = error.to_string();
                let finding = format!("ec2:CreateRoute is denied on {id}: {text}");
                all.push(Finding::new(
                    Level::Fail,
                    PERMISSION,
                    finding,
                    "aws.create_missing is on",
                    mend(&text),
                ));
            }
            Ok(()) => all.push(Finding::ok(PERMISSION, format!("ec2:CreateRoute is allowed on {id}"))),
            Err(CloudError::Other { code, .. }) if code == "RouteAlreadyExists" => {
                all.push(Finding::ok(PERMISSION, format!("ec2:CreateRoute is allowed on {id}")));
            }
            // What cannot be asked is named elsewhere.
            Err(_) => {}
        }
    }
    all
}
