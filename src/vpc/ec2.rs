//! The real cloud: route tables and network interfaces by aws-sdk-ec2.

use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::config::{SharedCredentialsProvider, StalledStreamProtectionConfig};
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_sdk_ec2::operation::describe_route_tables::DescribeRouteTablesOutput;
use aws_sdk_ec2::types::{AttributeBooleanValue, Filter, RouteTable};
use futures_util::future::{join_all, try_join_all};

use super::call::{Call, ClockOffset};
use super::door::Door;
use super::errors::{Attempt, Effect, Failure};
use super::http::{IDLE_MAX, http_client};
use super::imds::Cidr;
use super::{Cloud, CloudError, Outcome, Sight, Stamp, Swap, Verb, imds, routes, user_agent};
use crate::clock;
use crate::config::AwsConfig;
use crate::decide::{Gate, Permit};
use crate::model::{EniId, Name, RouteKey, RouteTableId, Vip};

/// How many tables are asked for at once: even full ones fit into `ANSWER_MAX_BYTES`.
const PAGE: i32 = 25;
/// How many pages of tables with the tag are read: 500 tables, far more than a VPC's quota of 200.
const PAGES_MAX: usize = 20;
/// How long before their end credentials are renewed (with jitter at least half of it): a few of
/// the reads that come every 10 s, so that the renewal falls to a read and not to a swap.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// One request that has ended, for the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// EC2's name of it, `ReplaceRoute` for instance.
    pub operation: &'static str,
    /// `ok`, `fenced`, or [`CloudError::label`].
    pub outcome: &'static str,
    /// From the call to the answer or error.
    pub took: Duration,
}

/// Told of each request that has ended. Called on the caller's task: it must not block.
pub type OnRequest = Arc<dyn Fn(Request) + Send + Sync>;

/// Why there is no [`Ec2`].
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Region(#[from] imds::ImdsError),
}

/// A network interface, as far as it matters to a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EniFacts {
    /// While on, EC2 drops what is sent from or to an overlay address.
    pub source_dest_check: bool,
    pub zone: String,
    pub vpc: String,
}

/// A route table, as far as it matters to the doctor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableFacts {
    pub id: RouteTableId,
    pub vpc: String,
    /// The account that owns it.
    pub owner: String,
    /// The VPC's own ranges: what the table routes locally.
    pub local: Vec<Cidr>,
}

/// EC2 in one region, under one set of credentials.
///
/// Reads and swaps go through one client with one set of timeouts, so that they share their warm
/// connections. No call is repeated by the SDK.
pub struct Ec2 {
    /// For route tables.
    client: Client,
    /// For the member's own interface: the instance's credentials, also where the tables are another account's.
    own: Client,
    cluster: Name,
    member: Name,
    vips: Vec<Vip>,
    tables: Mutex<Arc<Tables>>,
    region: Option<String>,
    endpoint: String,
    timeout: Duration,
    on_request: OnRequest,
    clock: Arc<ClockOffset>,
}

impl Ec2 {
    /// Takes the region from `config` or IMDS, and the credentials from where the AWS tools look for
    /// them (environment, profile, web identity, container, instance), or by assuming
    /// `assume_role_arn` with those. Calls nothing else: the first request says whether they work.
    pub async fn connect(
        config: &AwsConfig,
        cluster: &Name,
        member: &Name,
        vips: &[Vip],
    ) -> Result<Ec2, ConnectError> {
        let region = match &config.region {
            Some(region) => region.clone(),
            None => imds::region(None).await?,
        };
        let own = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region))
            .http_client(http_client())
            .identity_cache(IdentityCache::lazy().buffer_time(RENEW_BEFORE).build())
            .load()
            .await;
        let Some(role) = &config.assume_role_arn else {
            return Ok(Self::with_config(&own, config, cluster, member, vips));
        };
        let assumed = assume(own.clone(), role, cluster, member).await;
        let ec2 = Self::with_config(&assumed, config, cluster, member, vips);
        Ok(Ec2 { own: client(&own, config), ..ec2 })
    }

    /// With region and credentials from `sdk`, and its HTTP client if it has one. Its timeouts and
    /// retries are not used.
    pub fn with_config(
        sdk: &SdkConfig,
        config: &AwsConfig,
        cluster: &Name,
        member: &Name,
        vips: &[Vip],
    ) -> Ec2 {
        let region = sdk.region().map(ToString::to_string);
        let named = region.as_deref().unwrap_or("no region");
        let client = client(sdk, config);
        Ec2 {
            own: client.clone(),
            client,
            cluster: cluster.clone(),
            member: member.clone(),
            vips: vips.to_vec(),
            tables: Mutex::new(Arc::new(Tables::of(config))),
            endpoint: config.endpoint_url.clone().unwrap_or_else(|| format!("the EC2 endpoint of {named}")),
            region,
            timeout: config.attempt_timeout,
            on_request: Arc::new(|_| {}),
            clock: Arc::default(),
        }
    }

    /// From now on reads the tables that `config` names; nothing else of it is taken over.
    pub fn set_tables(&self, config: &AwsConfig) {
        *self.tables.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Tables::of(config));
    }

    fn tables_now(&self) -> Arc<Tables> {
        Arc::clone(&self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on tells `f` of each request that has ended.
    pub fn on_request(mut self, f: OnRequest) -> Ec2 {
        self.on_request = f;
        self
    }

    /// Makes `n` small reads at once, at most 64, so that as many connections are open afterwards
    /// and the credentials are fresh. Fails with the first read's error, after all have ended.
    pub async fn warm(&self, n: usize, stamp: Stamp) -> Result<(), CloudError> {
        let Some(filter) = self.tables_now().filters().into_iter().next() else {
            return Ok(());
        };
        let reads = (0..n.min(IDLE_MAX)).map(|_| self.page(filter.clone(), None, stamp));
        join_all(reads).await.into_iter().try_for_each(|read| read.map(drop))
    }

    /// The region that is asked.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// By how many seconds EC2's clock is ahead of this machine's wall clock; `None` before the first answer.
    pub fn clock_ahead(&self) -> Option<i64> {
        self.clock.seconds()
    }

    /// What is known of the route tables besides the VIPs' routes: one read, as a look makes it.
    pub async fn survey(&self, stamp: Stamp) -> Result<Vec<TableFacts>, CloudError> {
        let chosen = self.tables_now();
        let reads = chosen.filters().into_iter().map(|filter| self.tables(filter, stamp));
        let found = try_join_all(reads).await?;
        let mut all: Vec<TableFacts> = Vec::new();
        for table in found.iter().flatten().filter_map(routes::facts) {
            if all.iter().all(|known| known.id != table.id) {
                all.push(table);
            }
        }
        Ok(all)
    }

    /// Reads the interface `eni`. `NotFound` where this region and account have no such one.
    pub async fn eni_facts(&self, eni: &EniId, stamp: Stamp) -> Result<EniFacts, CloudError> {
        fault!(wait "vpc.eni");
        let call = self.call("DescribeNetworkInterfaces", stamp);
        let request = self.own.describe_network_interfaces().network_interface_ids(eni.as_str());
        let send = request.customize().interceptor(call.clone()).send();
        let output = self.run(&call, send).await.map_err(|failure| failure.error)?;
        let found = output
            .network_interfaces()
            .iter()
            .find(|found| found.network_interface_id() == Some(eni.as_str()));
        let Some(found) = found else {
            let message = format!("the answer does not tell of {eni}");
            return Err(CloudError::Garbled { action: call.action, message });
        };
        let Some(source_dest_check) = found.source_dest_check() else {
            let message = format!("no sourceDestCheck for {eni}");
            return Err(CloudError::Garbled { action: call.action, message });
        };
        Ok(EniFacts {
            source_dest_check,
            zone: found.availability_zone().unwrap_or_default().to_owned(),
            vpc: found.vpc_id().unwrap_or_default().to_owned(),
        })
    }

    /// Switches the source/dest check of `eni` off. For the member's own interface only, so it needs
    /// no permit (FENCING.md, F-a).
    pub async fn fix_source_dest_check(&self, eni: &EniId, stamp: Stamp) -> Result<(), CloudError> {
        let call = self.call("ModifyNetworkInterfaceAttribute", stamp);
        let off = AttributeBooleanValue::builder().value(false).build();
        let request = self.own.modify_network_interface_attribute();
        let request = request.network_interface_id(eni.as_str()).source_dest_check(off);
        let send = request.customize().interceptor(call.clone()).send();
        self.run(&call, send).await.map(drop).map_err(|failure| failure.error)
    }

    /// Asks whether [`fix_source_dest_check`](Self::fix_source_dest_check) would be allowed (`DryRun`), once. An endpoint
    /// that carries it out all the same does what the file wants anyway.
    pub async fn rehearse_fix(&self, eni: &EniId, stamp: Stamp) -> Result<(), CloudError> {
        let call = self.call("ModifyNetworkInterfaceAttribute", stamp);
        let off = AttributeBooleanValue::builder().value(false).build();
        let request = self.own.modify_network_interface_attribute().dry_run(true);
        let request = request.network_interface_id(eni.as_str()).source_dest_check(off);
        let send = request.customize().interceptor(call.clone()).send();
        match self.run(&call, send).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_dry_run_yes() => Ok(()),
            Err(failure) => Err(failure.error),
        }
    }

    fn call(&self, action: &'static str, stamp: Stamp) -> Call {
        Call::new(action, user_agent::tail(&self.cluster, &self.member, stamp), None, &self.clock)
    }

    async fn page(
        &self,
        filter: Filter,
        token: Option<String>,
        stamp: Stamp,
    ) -> Result<DescribeRouteTablesOutput, CloudError> {
        let call = self.call("DescribeRouteTables", stamp);
        let request = self.client.describe_route_tables().filters(filter).max_results(PAGE);
        let request = request.set_next_token(token).customize().interceptor(call.clone());
        self.run(&call, request.send()).await.map_err(|failure| failure.error)
    }

    async fn tables(&self, filter: Filter, stamp: Stamp) -> Result<Vec<RouteTable>, CloudError> {
        let mut tables = Vec::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            let page = self.page(filter.clone(), token, stamp).await?;
            tables.extend(page.route_tables.unwrap_or_default());
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(tables);
            }
        }
        let message = format!("more than {PAGES_MAX} pages of route tables");
        Err(CloudError::Garbled { action: "DescribeRouteTables", message })
    }

    /// Sends one swap, once. The id is EC2's of the request.
    async fn send(&self, swap: &Swap, dry: DryRun, call: Call) -> Result<Option<String>, Failure> {
        let RouteKey { table, vip } = &swap.route;
        let (v4, v6) = match vip.ip() {
            IpAddr::V4(_) => (Some(vip.to_string()), None),
            IpAddr::V6(_) => (None, Some(vip.to_string())),
        };
        let dry = matches!(dry, DryRun::Yes).then_some(true);
        match swap.verb {
            Verb::Replace => {
                let request = self.client.replace_route().route_table_id(table.as_str());
                let request = request.set_destination_cidr_block(v4);
                let request = request.set_destination_ipv6_cidr_block(v6).set_dry_run(dry);
                let request = request.network_interface_id(swap.eni.as_str()).customize();
                let output = self.run(&call, request.interceptor(call.clone()).send()).await?;
                Ok(output.request_id().and_then(request_id))
            }
            Verb::Create => {
                let request = self.client.create_route().route_table_id(table.as_str());
                let request = request.set_destination_cidr_block(v4);
                let request = request.set_destination_ipv6_cidr_block(v6).set_dry_run(dry);
                let request = request.network_interface_id(swap.eni.as_str()).customize();
                let output = self.run(&call, request.interceptor(call.clone()).send()).await?;
                Ok(output.request_id().and_then(request_id))
            }
        }
    }

    /// Runs one request to its end, then shuts its door and reports it.
    async fn run<T, E>(
        &self,
        call: &Call,
        send: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, Failure>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let _shut = ShutOnDrop(call);
        let started = clock::now();
        let answer = send.await;
        fault!(wait "vpc.answer");
        let took = clock::now().since(started);
        let result = answer.map_err(|error| {
            let attempt = Attempt {
                action: call.action,
                endpoint: &self.endpoint,
                timeout: self.timeout,
                signed: call.signed(),
                nothing_left: call.shut(),
            };
            attempt.failure(&error)
        });
        let outcome = result.as_ref().err().map_or("ok", Failure::label);
        (self.on_request)(Request { operation: call.action, outcome, took });
        result
    }
}

impl Cloud for Ec2 {
    async fn look(&self, stamp: Stamp) -> Result<Sight, CloudError> {
        fault!(wait "vpc.look");
        let tables = self.tables_now();
        let reads = tables.filters().into_iter().map(|filter| self.tables(filter, stamp));
        let found = try_join_all(reads).await?;
        routes::sight(&tables.listed, &self.vips, found.into_iter().flatten().collect())
    }

    async fn swap(&self, swap: Swap, permit: Permit, gate: Arc<Gate>) -> Outcome {
        // Spares the connect and the signature; the check that counts is the body's.
        if let Err(fenced) = gate.check(&permit, clock::now()) {
            return Outcome::Fenced(fenced);
        }
        fault!(wait "vpc.swap.checked");
        let stamp = Stamp { term: permit.term(), epoch: permit.epoch() };
        let tail = user_agent::tail(&self.cluster, &self.member, stamp);
        let door = Arc::new(Door::new(permit, gate));
        let call = Call::new(swap.verb.action(), tail, Some(door), &self.clock);
        match self.send(&swap, DryRun::No, call).await {
            Ok(request_id) => Outcome::Done { request_id },
            Err(Failure { error, effect }) => match effect {
                Effect::Fenced(fenced) => Outcome::Fenced(fenced),
                Effect::Nothing => Outcome::Refused(error),
                Effect::Unknown => Outcome::Unknown(error),
            },
        }
    }

    async fn rehearse(&self, swap: Swap, stamp: Stamp) -> Result<(), CloudError> {
        match self.send(&swap, DryRun::Yes, self.call(swap.verb.action(), stamp)).await {
            Ok(_) => Err(CloudError::DryRunIgnored { action: swap.verb.action() }),
            Err(failure) if failure.is_dry_run_yes() => Ok(()),
            Err(failure) => Err(failure.error),
        }
    }
}

/// Which tables are looked at.
struct Tables {
    listed: Vec<RouteTableId>,
    tag: Option<(String, String)>,
}

impl Tables {
    fn of(config: &AwsConfig) -> Self {
        Self { listed: config.route_tables.clone(), tag: config.route_table_tag.clone() }
    }

    /// The reads that find all of them. A listed one that is gone fails a read by id, but not one by
    /// filter.
    fn filters(&self) -> Vec<Filter> {
        let page = usize::try_from(PAGE).unwrap_or(1);
        let by_id = self.listed.chunks(page).map(|ids| {
            let ids = ids.iter().map(ToString::to_string).collect();
            Filter::builder().name("route-table-id").set_values(Some(ids)).build()
        });
        let by_tag = self
            .tag
            .iter()
            .map(|(key, value)| Filter::builder().name(format!("tag:{key}")).values(literal(value)).build());
        by_id.chain(by_tag).collect()
    }
}

/// EC2's are UUIDs. What is longer is none: it goes into the log, whose entries are bounded.
const REQUEST_ID_MAX: usize = 64;

fn request_id(text: &str) -> Option<String> {
    (text.len() <= REQUEST_ID_MAX).then(|| text.to_owned())
}

/// Shuts a call's door also where its future is dropped half-way.
struct ShutOnDrop<'a>(&'a Call);

impl Drop for ShutOnDrop<'_> {
    fn drop(&mut self) {
        self.0.shut();
    }
}

#[derive(Clone, Copy)]
enum DryRun {
    Yes,
    No,
}

/// A filter's value that matches only itself: `*` and `?` are wildcards, `\` escapes them (EC2 User
/// Guide, "Filter resources using the CLI").
fn literal(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '*' | '?' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

fn client(sdk: &SdkConfig, config: &AwsConfig) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(config.attempt_timeout)
        .operation_attempt_timeout(config.attempt_timeout)
        .build();
    let mut builder = aws_sdk_ec2::config::Builder::from(sdk)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(timeouts)
        .http_client(sdk.http_client().unwrap_or_else(http_client));
    if let Some(url) = &config.endpoint_url {
        builder = builder.endpoint_url(url);
    }
    Client::from_conf(builder.build())
}

/// The credentials of `role`, taken with those of `own`.
async fn assume(own: SdkConfig, role: &str, cluster: &Name, member: &Name) -> SdkConfig {
    // STS takes 2 to 64 characters.
    let session: String = format!("vipd-{cluster}-{member}").chars().take(64).collect();
    let provider = AssumeRoleProvider::builder(role).session_name(session).configure(&own).build().await;
    own.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build()
}
