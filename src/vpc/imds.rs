//! What the instance says of itself (IMDSv2), for what `vipd.toml` leaves out.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use aws_config::imds::Client;
use aws_config::imds::client::error::ImdsError as SdkImdsError;
use aws_config::provider_config::ProviderConfig;

use super::errors::chain;
use super::http::http_client;
use crate::model::{EniId, ParseError};

/// IMDS is on the same host: one second is much.
const STEP_TIMEOUT: Duration = Duration::from_secs(1);
/// One attempt: a token and an answer, each with a connect and a read.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// With the second attempt and the pause before it.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// A second attempt, since IMDS throttles.
const ATTEMPTS: u32 = 2;

/// The longest is the list of the VPC's ranges: 50 (EC2's quota) of at most 19 bytes.
const ANSWER_MAX_BYTES: usize = 1024;

/// This instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub region: String,
    pub zone: String,
    /// That of the primary interface.
    pub eni: EniId,
    /// The VPC's own ranges, IPv4 and IPv6: no VIP may lie in one.
    pub vpc_cidrs: Vec<Cidr>,
}

/// A range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    ip: IpAddr,
    len: u8,
}

impl Cidr {
    /// Whether `ip` lies in the range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let rest = 32 - u32::from(self.len);
                u32::from(own).checked_shr(rest) == u32::from(ip).checked_shr(rest)
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let rest = 128 - u32::from(self.len);
                u128::from(own).checked_shr(rest) == u128::from(ip).checked_shr(rest)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.len)
    }
}

/// The text is no range of addresses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{0}\" is not a range of addresses")]
pub struct NotACidr(String);

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let bad = || NotACidr(text.to_owned());
        let (ip, len) = text.split_once('/').ok_or_else(bad)?;
        let (ip, len): (IpAddr, u8) = (ip.parse().map_err(|_| bad())?, len.parse().map_err(|_| bad())?);
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        if len <= whole { Ok(Self { ip, len }) } else { Err(bad()) }
    }
}

/// Why IMDS did not say. The message names the key that makes the question needless.
#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    #[error(
        "cannot read {what} from the instance metadata service: {message}; set {key}, or switch \
         IMDSv2 on (in a container with a hop limit of 2)"
    )]
    Read { what: &'static str, key: &'static str, message: String },
    #[error("the instance metadata service's {what} is unusable: {source}; set {key}")]
    Eni { what: &'static str, key: &'static str, source: ParseError },
    #[error("the instance metadata service's {what} is unusable: {source}; see {key}")]
    Cidr { what: &'static str, key: &'static str, source: NotACidr },
}

/// One question, and the key of `vipd.toml` that answers it.
#[derive(Clone, Copy)]
struct Question {
    what: &'static str,
    key: &'static str,
}

const REGION: Question = Question { what: "the region", key: "aws.region" };
const ZONE: Question = Question { what: "the zone", key: "this member's zone in [[members]]" };
const ENI: Question = Question { what: "the network interface", key: "aws.eni" };
const CIDRS: Question = Question { what: "the VPC's ranges", key: "vip.addresses" };

/// Where this instance runs and by which interface. `endpoint`: another address of IMDS than its
/// own (or `AWS_EC2_METADATA_SERVICE_ENDPOINT`'s). Bounded: six questions of at most 5 s each.
pub async fn identity(endpoint: Option<&str>) -> Result<Identity, ImdsError> {
    let client = client(endpoint, REGION)?;
    let region = ask(&client, "/latest/meta-data/placement/region".to_owned(), REGION).await?;
    let zone = "/latest/meta-data/placement/availability-zone".to_owned();
    let zone = ask(&client, zone, ZONE).await?;
    let mac = ask(&client, "/latest/meta-data/mac".to_owned(), ENI).await?;
    if !is_mac(&mac) {
        let message = "its MAC address is none".to_owned();
        return Err(ImdsError::Read { what: ENI.what, key: ENI.key, message });
    }
    let of_mac = |leaf: &str| format!("/latest/meta-data/network/interfaces/macs/{mac}/{leaf}");
    let eni = ask(&client, of_mac("interface-id"), ENI).await?;
    let eni = eni.parse().map_err(|source| ImdsError::Eni { what: ENI.what, key: ENI.key, source })?;
    let v4 = ask(&client, of_mac("vpc-ipv4-cidr-blocks"), CIDRS).await?;
    // 404 where the VPC has none.
    let v6 = if_any(&client, of_mac("vpc-ipv6-cidr-blocks"), CIDRS).await?.unwrap_or_default();
    let vpc_cidrs = v4.split_whitespace().chain(v6.split_whitespace()).map(str::parse);
    let vpc_cidrs = vpc_cidrs.collect::<Result<_, _>>().map_err(|source| ImdsError::Cidr {
        what: CIDRS.what,
        key: CIDRS.key,
        source,
    })?;
    Ok(Identity { region, zone, eni, vpc_cidrs })
}

/// `0e:11:22:33:44:55`. It becomes a part of a path, and the SDK panics where that makes no URI.
fn is_mac(text: &str) -> bool {
    let pair = |part: &str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    text.split(':').count() == 6 && text.split(':').all(pair)
}

/// Only the region.
pub async fn region(endpoint: Option<&str>) -> Result<String, ImdsError> {
    let client = client(endpoint, REGION)?;
    ask(&client, "/latest/meta-data/placement/region".to_owned(), REGION).await
}

fn client(endpoint: Option<&str>, question: Question) -> Result<Client, ImdsError> {
    let config = ProviderConfig::without_region().with_http_client(http_client());
    let builder = Client::builder()
        .configure(&config)
        .max_attempts(ATTEMPTS)
        .connect_timeout(STEP_TIMEOUT)
        .read_timeout(STEP_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(READ_TIMEOUT);
    let builder = match endpoint {
        None => builder,
        Some(url) => builder.endpoint(url).map_err(|error| ImdsError::Read {
            what: question.what,
            key: question.key,
            message: format!("{url}: {error}"),
        })?,
    };
    Ok(builder.build())
}

async fn ask(client: &Client, path: String, question: Question) -> Result<String, ImdsError> {
    let answer = if_any(client, path, question).await?;
    answer.filter(|text| !text.is_empty()).ok_or_else(|| ImdsError::Read {
        what: question.what,
        key: question.key,
        message: "it knows none".to_owned(),
    })
}

/// `None` where IMDS answers 404.
async fn if_any(client: &Client, path: String, question: Question) -> Result<Option<String>, ImdsError> {
    fault!(wait "vpc.imds");
    match client.get(path).await {
        Ok(text) if text.as_ref().len() > ANSWER_MAX_BYTES => {
            let message = format!("an answer of {} bytes is none", text.as_ref().len());
            Err(ImdsError::Read { what: question.what, key: question.key, message })
        }
        Ok(text) => Ok(Some(text.as_ref().trim().to_owned())),
        Err(SdkImdsError::ErrorResponse(answer)) if answer.response().status().as_u16() == 404 => Ok(None),
        Err(error) => {
            let message = match &error {
                // Its own text shows the whole response.
                SdkImdsError::ErrorResponse(answer) => {
                    format!("HTTP status {}", answer.response().status().as_u16())
                }
                _ => chain(&error),
            };
            Err(ImdsError::Read { what: question.what, key: question.key, message })
        }
    }
}
