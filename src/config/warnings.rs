//! What is allowed, but deserves a word.

use std::collections::BTreeMap;

use super::Config;

/// EC2's burst of mutating calls, per account, region and action (DESIGN.md section 5).
const EC2_BURST: usize = 50;

impl Config {
    /// What an operator should know before relying on this file, a sentence or two each.
    pub fn warnings(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.warn_of_size(&mut all);
        self.warn_of_zones(&mut all);
        self.warn_of_addresses(&mut all);
        if self.health.haproxy_socket.is_none() && self.health.http.is_none() {
            all.push("no health check: a member whose HAProxy is dead stays owner; set health.haproxy_socket, health.http or both".to_owned());
        }
        if self.tls.insecure {
            all.push("tls.insecure: whoever reaches the peer port can vote, and nothing is encrypted; set tls.ca, tls.cert and tls.key".to_owned());
        }
        if self.aws.route_tables.len() * self.vip.addresses.len() > EC2_BURST {
            all.push(format!(
                "{} route tables x {} VIPs are more than EC2's burst of {EC2_BURST} calls: the rest of a move goes at 5 calls a second",
                self.aws.route_tables.len(),
                self.vip.addresses.len()
            ));
        }
        all
    }

    fn warn_of_size(&self, all: &mut Vec<String>) {
        let able = self.members.iter().filter(|m| !m.witness).count();
        match self.members.len() {
            1 => all.push("a single member: there is nobody to fail over to; three members survive the loss of one".to_owned()),
            2 => all.push("two members only: the group survives no loss, since a majority of two is two; add a third, a witness will do".to_owned()),
            n if n % 2 == 0 => all.push(format!("{n} members survive the loss of {}, as {} would; add one or remove one", (n - 1) / 2, n - 1)),
            _ => {}
        }
        if able == 1 && self.members.len() > 1 {
            all.push("only one member is not a witness: there is nobody to fail over to".to_owned());
        }
    }

    fn warn_of_zones(&self, all: &mut Vec<String>) {
        let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
        for zone in self.members.iter().filter_map(|m| m.zone.as_deref()) {
            *zones.entry(zone).or_default() += 1;
        }
        let majority = self.members.len() / 2 + 1;
        // With one or two members that is said already.
        let crowded = zones.iter().find(|(_, n)| self.members.len() > 2 && **n >= majority);
        if let Some((zone, n)) = crowded {
            all.push(format!(
                "{n} of {} members are in {zone}: the loss of that zone is the loss of the quorum",
                self.members.len()
            ));
        }
    }

    fn warn_of_addresses(&self, all: &mut Vec<String>) {
        let port = |address: &str| address.rsplit_once(':').and_then(|(_, p)| p.parse::<u16>().ok());
        let me = self.members.iter().find(|m| m.name == self.member);
        let listed = me.and_then(|m| port(&m.peer));
        if let Some(listed) = listed
            && self.peer_listen.port() != listed
        {
            all.push(format!(
                "peer.listen has port {}, but the others dial port {listed} of {}",
                self.peer_listen.port(),
                self.member
            ));
        }
        if self.peer_listen.ip().is_loopback() && self.members.len() > 1 {
            all.push(format!("peer.listen = {} is loopback: no other host reaches it", self.peer_listen));
        }
        if self.admin_listen.is_none() && self.admin_socket.is_none() {
            all.push("neither admin.listen nor admin.socket: vipctl cannot reach this member".to_owned());
        }
    }
}
