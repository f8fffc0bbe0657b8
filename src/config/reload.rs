//! What a member that runs takes over from a file that was read again.

use std::sync::Arc;

use super::{AwsConfig, Config, Member, Tls, VipConfig};

/// What is in force since the newest start or reload, and what stands in its way.
#[derive(Clone, Debug)]
pub struct InForce {
    pub config: Arc<Config>,
    /// Why the newest file was refused: `config` is what was in force before.
    pub refused: Option<String>,
    /// Keys whose value in the newest good file takes a restart: `config` has the old one.
    pub restart: Vec<&'static str>,
}

impl InForce {
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, refused: None, restart: Vec::new() }
    }

    /// The file is not to be used; everything stays.
    pub fn refuse(&self, why: String) -> Self {
        Self { refused: Some(why), ..self.clone() }
    }

    /// Takes over what a running member can, and names the keys of the rest.
    pub fn reload(&self, newer: Config) -> Self {
        let (config, restart) = merge(&self.config, newer);
        Self { config: Arc::new(config), refused: None, restart }
    }
}

/// Names no field by `..`: whoever adds a key says here what a reload does with it.
fn merge(old: &Config, newer: Config) -> (Config, Vec<&'static str>) {
    let mut restart = Vec::new();
    let mut kept = |key: &'static str, same: bool| {
        if !same {
            restart.push(key);
        }
    };
    let Config {
        cluster,
        member,
        data_dir,
        peer_listen,
        admin_listen,
        admin_socket,
        admin_group,
        members,
        vip: VipConfig { addresses, interface, lifetime_s },
        aws,
        timing,
        health,
        policy,
        tls: Tls { ca, cert, key, crl, insecure },
        metrics_listen,
        log,
    } = newer;
    kept("cluster", cluster == old.cluster);
    kept("member", member == old.member);
    kept("data_dir", data_dir == old.data_dir);
    kept("peer.listen", peer_listen == old.peer_listen);
    kept("admin.listen", admin_listen == old.admin_listen);
    kept("admin.socket", admin_socket == old.admin_socket);
    kept("admin.group", admin_group == old.admin_group);
    kept("members", same_but_for_display(&members, &old.members));
    kept("vip.addresses", addresses == old.vip.addresses);
    kept("vip.interface", interface == old.vip.interface);
    kept("vip.lifetime_s", lifetime_s == old.vip.lifetime_s);
    kept("raft", timing == old.timing);
    // What the files hold is read again; which they are stays.
    kept("tls.ca", ca == old.tls.ca);
    kept("tls.cert", cert == old.tls.cert);
    kept("tls.key", key == old.tls.key);
    kept("tls.crl", crl == old.tls.crl);
    kept("tls.insecure", insecure == old.tls.insecure);
    kept("metrics.listen", metrics_listen == old.metrics_listen);
    let config = Config {
        members: displayed(&old.members, &members),
        aws: merge_aws(&old.aws, aws, &mut kept),
        health,
        policy,
        log,
        ..old.clone()
    };
    (config, restart)
}

/// EC2's client holds its region, credentials, endpoint and timeouts for good: its pool of warm connections is
/// keyed by them. The ENI is the target of claims that were made.
fn merge_aws(old: &AwsConfig, newer: AwsConfig, kept: &mut impl FnMut(&'static str, bool)) -> AwsConfig {
    let AwsConfig {
        region,
        route_tables,
        route_table_tag,
        eni,
        endpoint_url,
        assume_role_arn,
        create_missing,
        source_dest_check,
        attempt_timeout,
        reconcile,
        warm_connections,
    } = newer;
    kept("aws.region", region == old.region);
    kept("aws.eni", eni == old.eni);
    kept("aws.endpoint_url", endpoint_url == old.endpoint_url);
    kept("aws.assume_role_arn", assume_role_arn == old.assume_role_arn);
    kept("aws.attempt_timeout_ms", attempt_timeout == old.attempt_timeout);
    AwsConfig {
        route_tables,
        route_table_tag,
        create_missing,
        source_dest_check,
        reconcile,
        warm_connections,
        ..old.clone()
    }
}

/// The zone and the operators' address of a member are for people to read.
fn same_but_for_display(newer: &[Member], old: &[Member]) -> bool {
    let bare = |members: &[Member]| -> Vec<Member> {
        members.iter().map(|m| Member { admin: None, zone: None, ..m.clone() }).collect()
    };
    bare(newer) == bare(old)
}

fn displayed(old: &[Member], newer: &[Member]) -> Vec<Member> {
    let mut members = old.to_vec();
    for member in &mut members {
        if let Some(new) = newer.iter().find(|m| m.name == member.name) {
            member.admin.clone_from(&new.admin);
            member.zone.clone_from(&new.zone);
        }
    }
    members
}
