//! Route tables and ENIs, with their history, and the router's kernel tables that follow them.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use netlink::Fib;
use serde::Serialize;

use super::Refusal;
use crate::spec::{Spec, Zone};

/// So many changes of one route are remembered for reads that lag.
const HISTORY: usize = 1024;

/// What EC2 knows. All changes go through one lock, so the kernel's order is the log's order.
pub struct State {
    /// Where nothing else fits: names, subnets, members.
    pub spec: Spec,
    /// ENIs that are gone.
    pub gone: Vec<String>,
    /// ENIs with source/dest check on.
    pub checked: Vec<String>,
    routes: BTreeMap<(String, String), VecDeque<Change>>,
    /// By table and key, beside those that every table has.
    tags: BTreeMap<(String, String), String>,
    fib: Fib,
}

#[derive(Clone, Debug)]
struct Change {
    at_ns: u64,
    eni: Option<String>,
}

/// Whether a route has to be there, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// CreateRoute: it must not.
    Create,
    /// ReplaceRoute: it must.
    Replace,
    /// By hand: either.
    Put,
}

/// One route as `routes` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Route table.
    pub table: String,
    /// `192.168.77.10/32`.
    pub destination: String,
    /// ENI.
    pub target: String,
    /// Its member.
    pub member: Option<String>,
    /// `active` or `blackhole`.
    pub state: &'static str,
}

impl State {
    /// As the spec says, with the kernel made to agree.
    pub async fn new(spec: Spec, fib: Fib, now_ns: u64) -> Result<Self, Refusal> {
        let (routes, tags) = (BTreeMap::new(), BTreeMap::new());
        let mut state = Self { spec, gone: Vec::new(), checked: Vec::new(), routes, tags, fib };
        if let Some(eni) = state.spec.initial_route.clone() {
            for table in state.spec.tables.clone() {
                for vip in state.spec.vips.clone() {
                    state.set(&table.id, &vip, &eni, Mode::Put, now_ns).await?;
                }
            }
        }
        Ok(state)
    }

    /// The ENI's zone, unless it is gone.
    pub fn eni(&self, id: &str) -> Result<&Zone, Refusal> {
        let known = self.spec.zones.iter().find(|z| z.eni == id);
        known.filter(|_| !self.gone.iter().any(|g| g == id)).ok_or_else(|| Refusal::NoEni(id.into()))
    }

    /// Says no as `set` would, and changes nothing.
    pub fn check(&self, table: &str, destination: &str, eni: &str, mode: Mode) -> Result<(), Refusal> {
        if !self.spec.tables.iter().any(|t| t.id == table) {
            return Err(Refusal::NoTable(table.into()));
        }
        parse_cidr(destination)?;
        self.eni(eni)?;
        let there = self.target(table, destination, u64::MAX).is_some();
        match mode {
            Mode::Create if there => Err(Refusal::RouteExists(destination.into())),
            Mode::Replace if !there => Err(Refusal::NoRoute(destination.into())),
            Mode::Create | Mode::Replace | Mode::Put => Ok(()),
        }
    }

    /// Points a route at an ENI, in the kernel first.
    pub async fn set(
        &mut self,
        table: &str,
        destination: &str,
        eni: &str,
        mode: Mode,
        now_ns: u64,
    ) -> Result<(), Refusal> {
        self.check(table, destination, eni, mode)?;
        self.follow(table, destination, Some(eni)).await?;
        self.note(table, destination, Some(eni.into()), now_ns);
        Ok(())
    }

    /// Takes a route away.
    pub async fn delete(&mut self, table: &str, destination: &str, now_ns: u64) -> Result<(), Refusal> {
        if self.target(table, destination, u64::MAX).is_none() {
            return Err(Refusal::NoRoute(destination.into()));
        }
        self.follow(table, destination, None).await?;
        self.note(table, destination, None, now_ns);
        Ok(())
    }

    /// An ENI that goes leaves its routes behind as black holes; one that comes back fills them again.
    pub async fn set_gone(&mut self, eni: &str, gone: bool) -> Result<(), Refusal> {
        if !self.spec.zones.iter().any(|z| z.eni == eni) {
            return Err(Refusal::NoEni(eni.into()));
        }
        self.gone.retain(|g| g != eni);
        if gone {
            self.gone.push(eni.into());
        }
        for entry in self.entries(u64::MAX) {
            if entry.target == eni {
                self.follow(&entry.table, &entry.destination, Some(eni)).await?;
            }
        }
        Ok(())
    }

    /// Turns an ENI's source/dest check on or off; the router's packet filter is the caller's to renew.
    pub fn set_checked(&mut self, eni: &str, on: bool) -> Result<(), Refusal> {
        self.eni(eni)?;
        self.checked.retain(|c| c != eni);
        if on {
            self.checked.push(eni.into());
        }
        Ok(())
    }

    /// Tags a table, or takes a tag that was put here away.
    pub fn tag(&mut self, table: &str, key: &str, value: Option<String>) -> Result<(), Refusal> {
        if !self.spec.tables.iter().any(|t| t.id == table) {
            return Err(Refusal::NoTable(table.into()));
        }
        let place = (table.to_owned(), key.to_owned());
        match value {
            Some(value) => {
                self.tags.insert(place, value);
            }
            None => {
                let there = self.tags.remove(&place);
                there.ok_or_else(|| {
                    Refusal::BadValue(format!("{table} has no tag {key} that was put by hand"))
                })?;
            }
        }
        Ok(())
    }

    /// Every tag of a table.
    pub fn tags(&self, table: &str) -> Vec<(String, String)> {
        let mut all = vec![
            ("Name".to_owned(), format!("{}-{table}", self.spec.name)),
            ("vipd:cluster".to_owned(), self.spec.cluster.clone()),
        ];
        let own = self.tags.iter().filter(|((of, _), _)| of == table);
        all.extend(own.map(|((_, key), value)| (key.clone(), value.clone())));
        all
    }

    /// Every route as it was at `at_ns`; `u64::MAX`: as it is.
    pub fn entries(&self, at_ns: u64) -> Vec<Entry> {
        let keys =
            self.spec.tables.iter().flat_map(|t| self.routes.keys().filter(move |(table, _)| *table == t.id));
        keys.filter_map(|(table, destination)| {
            let target = self.target(table, destination, at_ns)?.to_owned();
            let state = if self.gone.contains(&target) { "blackhole" } else { "active" };
            let member = self.spec.zones.iter().find(|z| z.eni == target).map(|z| z.member.clone());
            Some(Entry { table: table.clone(), destination: destination.clone(), target, member, state })
        })
        .collect()
    }

    fn target(&self, table: &str, destination: &str, at_ns: u64) -> Option<&str> {
        let changes = self.routes.get(&(table.to_owned(), destination.to_owned()))?;
        // Before the oldest that is remembered, the oldest is the best answer.
        let at = changes.iter().rev().find(|c| c.at_ns <= at_ns).or_else(|| changes.front())?;
        at.eni.as_deref()
    }

    fn note(&mut self, table: &str, destination: &str, eni: Option<String>, at_ns: u64) {
        let changes = self.routes.entry((table.into(), destination.into())).or_default();
        if changes.len() >= HISTORY {
            changes.pop_front();
        }
        changes.push_back(Change { at_ns, eni });
    }

    async fn follow(&self, table: &str, destination: &str, eni: Option<&str>) -> Result<(), Refusal> {
        let Some(table) = self.spec.tables.iter().find(|t| t.id == table) else { return Ok(()) };
        let cidr = parse_cidr(destination)?;
        let zone = eni.and_then(|eni| self.eni(eni).ok());
        let gateway: Option<IpAddr> =
            zone.map(|zone| if cidr.0.is_ipv4() { zone.ip.into() } else { zone.ip_v6.into() });
        self.fib.put(table.kernel, cidr, gateway).await.map_err(Refusal::Internal)
    }
}

fn parse_cidr(text: &str) -> Result<(IpAddr, u8), Refusal> {
    let bad = || {
        Refusal::BadValue(format!(
            "Value ({text}) for parameter destinationCidrBlock is invalid. This is not a valid CIDR block."
        ))
    };
    let (ip, length) = text.split_once('/').ok_or_else(bad)?;
    let length: u8 = length.parse().map_err(|_| bad())?;
    let ip: IpAddr = ip.parse().map_err(|_| bad())?;
    if length > if ip.is_ipv4() { 32 } else { 128 } {
        return Err(bad());
    }
    Ok((ip, length))
}

pub mod netlink {
    //! The router's kernel tables, by rtnetlink and nothing else: a swap must not wait for a process to start.

    use std::net::IpAddr;

    use rtnetlink::{Handle, RouteMessageBuilder};

    /// The kernel, or nothing where a test has no router.
    pub enum Fib {
        /// Routes lead nowhere.
        Absent,
        /// In the namespace in which the handle was opened.
        Router(Handle),
    }

    impl Fib {
        /// Opens rtnetlink in the calling thread's namespace; the reader task ends with the runtime.
        pub fn open() -> std::io::Result<Self> {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            Ok(Self::Router(handle))
        }

        /// A route by way of `gateway`, in place of any; `None`: no route. Either is one message to the kernel.
        pub async fn put(
            &self,
            table: u32,
            cidr: (IpAddr, u8),
            gateway: Option<IpAddr>,
        ) -> Result<(), String> {
            let Self::Router(handle) = self else { return Ok(()) };
            let route = RouteMessageBuilder::<IpAddr>::new().table_id(table);
            let route = route.destination_prefix(cidr.0, cidr.1).map_err(|e| e.to_string())?;
            let done = match gateway {
                Some(gateway) => {
                    let route = route.gateway(gateway).map_err(|e| e.to_string())?;
                    handle.route().add(route.build()).replace().execute().await
                }
                None => match handle.route().del(route.build()).execute().await {
                    // ESRCH: it was not there.
                    Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -3 => Ok(()),
                    other => other,
                },
            };
            done.map_err(|error| error.to_string())
        }
    }
}
