//! Why the kernel's addresses could not be read or changed.

use std::io;
use std::time::Duration;

use crate::model::Vip;

/// Numbers of errno(3): the same on every Linux
/// architecture that EC2 has.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const ERANGE: i32 = 34;
const EADDRNOTAVAIL: i32 = 99;

/// Why a request to the kernel did not do its work. Each text says the next step.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error(
        "CAP_NET_ADMIN is missing, without it no address can be set: run as root, or grant it with \
         AmbientCapabilities=CAP_NET_ADMIN in the systemd unit"
    )]
    NotPermitted,
    #[error("interface {0} does not exist: `ip link` lists those that do; correct vip.interface")]
    NoInterface(String),
    #[error(
        "IPv6 is switched off on interface {interface}, so {vip} cannot be set: sysctl net.ipv6.conf.{interface}.disable_ipv6=0"
    )]
    Ipv6Off { vip: Vip, interface: String },
    #[error(
        "no rule looks the local routing table up for all packets: `ip rule` lists them; ip rule add pref 0 lookup local"
    )]
    NoLocalRule,
    #[error("the kernel did not answer within {} ms, whether it acted is unknown: the addresses are read again", .0.as_millis())]
    Timeout(Duration),
    #[error("{what} was refused by the kernel ({source}): see the kernel's log (dmesg)")]
    Refused {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("a netlink socket could not be opened ({0}): see the limit on open files (ulimit -n)")]
    Socket(#[source] io::Error),
    #[error(
        "the netlink socket was closed, whether the kernel acted is unknown: the addresses are read again"
    )]
    Closed,
    #[error("the kernel's answer to {what} is not understood ({source}): see the kernel's log (dmesg)")]
    Garbled {
        what: &'static str,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("/proc/self/status could not be read ({0}), so CAP_NET_ADMIN could not be checked: mount /proc")]
    Capabilities(#[source] io::Error),
}

/// Which request an error answers: the same number means different things.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'a> {
    FindInterface(&'a str),
    List,
    Add(Vip, &'a str),
    Remove,
    ListLinks,
    ListRoutes,
    ListRules,
    AddRule,
    RemoveRule,
}

impl Asked<'_> {
    fn what(self) -> &'static str {
        match self {
            Asked::FindInterface(_) => "finding the interface",
            Asked::List => "listing the addresses",
            Asked::Add(..) => "setting an address",
            Asked::Remove => "removing an address",
            Asked::ListLinks => "listing the interfaces",
            Asked::ListRoutes => "listing the routes",
            Asked::ListRules => "listing the routing rules",
            Asked::AddRule => "setting a routing rule",
            Asked::RemoveRule => "removing a routing rule",
        }
    }

    /// What `error` means as the answer to this request.
    pub(super) fn failed(self, error: rtnetlink::Error) -> NetError {
        let rtnetlink::Error::NetlinkError(refusal) = error else {
            return match error {
                rtnetlink::Error::RequestFailed => NetError::Closed,
                source => NetError::Garbled { what: self.what(), source },
            };
        };
        // The kernel sends errno negated (netlink(7), NLMSG_ERROR).
        self.refused(refusal.raw_code().saturating_neg())
    }

    fn refused(self, errno: i32) -> NetError {
        match (errno, self) {
            (EPERM, _) => NetError::NotPermitted,
            // ERANGE: longer than any interface's name (IFNAMSIZ).
            (ENODEV | ERANGE, Asked::FindInterface(name)) | (ENODEV, Asked::Add(_, name)) => {
                NetError::NoInterface(name.to_owned())
            }
            // addrconf_add_dev in net/ipv6/addrconf.c, where disable_ipv6 is set.
            (EACCES, Asked::Add(vip, name)) if vip.ip().is_ipv6() => {
                NetError::Ipv6Off { vip, interface: name.to_owned() }
            }
            _ => NetError::Refused { what: self.what(), source: io::Error::from_raw_os_error(errno) },
        }
    }
}

/// Whether the kernel says that the address or rule to remove is not there, or its interface no more:
/// what was asked for holds already.
pub(super) fn is_absent(error: &rtnetlink::Error) -> bool {
    is_one_of(error, &[EADDRNOTAVAIL, ENODEV, ENOENT])
}

/// Whether the kernel says that what is to be added is there.
pub(super) fn is_there(error: &rtnetlink::Error) -> bool {
    is_one_of(error, &[EEXIST])
}

fn is_one_of(error: &rtnetlink::Error, numbers: &[i32]) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(refusal)
        if numbers.contains(&refusal.raw_code().saturating_neg()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_cause_and_the_next_step() {
        let v4: Vip = "192.168.77.10/32".parse().unwrap();
        let v6: Vip = "fd00:77::10/128".parse().unwrap();
        for (errno, asked, words) in [
            (EPERM, Asked::Add(v4, "lo"), "CAP_NET_ADMIN"),
            (EPERM, Asked::Remove, "CAP_NET_ADMIN"),
            (ENODEV, Asked::FindInterface("eth7"), "interface eth7 does not exist"),
            (ENODEV, Asked::Add(v4, "eth7"), "interface eth7 does not exist"),
            (EACCES, Asked::Add(v6, "lo"), "net.ipv6.conf.lo.disable_ipv6=0"),
            (EACCES, Asked::Add(v4, "lo"), "setting an address was refused"),
            (105, Asked::List, "listing the addresses was refused"),
        ] {
            let said = asked.refused(errno).to_string();
            assert!(said.contains(words), "{errno} {asked:?}: {said}");
        }
    }
}
