//! EC2's and IMDS' answers, with bytes changed, cut, doubled and nested: the adapter stands them all.
//!
//! Few, blind, and over a real connection, through HTTP client, SDK and adapter: many more, without one, and
//! led by coverage, are the fuzz target's (`src/vpc/fuzz.rs`).

use std::sync::Mutex;

use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use vipd::vpc::http::http_client;
use vipd::vpc::imds;

use super::fake_http::{Asked, Reply};
use super::random::Random;
use super::*;

/// Mutations of each answer.
const ROUNDS: usize = 300;

/// No text that is shown of an answer is longer.
const TEXT_MAX: usize = 2000;

const TABLES: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <DescribeRouteTablesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>\
    <routeTableSet><item><routeTableId>rtb-0a</routeTableId><vpcId>vpc-1</vpcId><routeSet><item>\
    <destinationCidrBlock>10.0.0.0/16</destinationCidrBlock><gatewayId>local</gatewayId><state>active</state></item>\
    <item><destinationCidrBlock>192.168.77.10/32</destinationCidrBlock><networkInterfaceId>eni-0b</networkInterfaceId>\
    <state>active</state></item></routeSet></item><item><routeTableId>rtb-0b</routeTableId><routeSet/></item>\
    </routeTableSet></DescribeRouteTablesResponse>";

const INTERFACES: &str = "<DescribeNetworkInterfacesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
    <requestId>r</requestId><networkInterfaceSet><item><networkInterfaceId>eni-0a</networkInterfaceId>\
    <availabilityZone>eu-west-1a</availabilityZone><sourceDestCheck>true</sourceDestCheck><vpcId>vpc-1</vpcId>\
    </item></networkInterfaceSet></DescribeNetworkInterfacesResponse>";

/// A server that mutates each answer, and keeps the newest one.
async fn mutating(
    seed: u64,
    answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
) -> (Fake, Last) {
    let last = Last::default();
    let (random, kept) = (Mutex::new(Random(seed)), last.clone());
    let fake = Fake::start(move |asked| {
        let (status, good) = answer(asked);
        let bytes = random.lock().unwrap().mutate(good.as_bytes());
        *kept.0.lock().unwrap() = (status, bytes.clone());
        Reply::Bytes(status, vec![("x-amzn-requestid".to_owned(), "req-1".to_owned())], bytes)
    })
    .await;
    (fake, last)
}

#[derive(Clone, Default)]
struct Last(Arc<Mutex<(u16, Vec<u8>)>>);

impl Last {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap().1).trim().to_owned()
    }
}

/// How many were taken and how many were not. A test whose every answer is refused shows nothing.
#[derive(Default, Debug)]
struct Seen {
    taken: usize,
    refused: usize,
}

impl Seen {
    fn note<T, E: std::fmt::Display>(&mut self, result: &Result<T, E>) {
        match result {
            Ok(_) => self.taken += 1,
            Err(error) => {
                assert!(error.to_string().len() < TEXT_MAX, "{error}");
                self.refused += 1;
            }
        }
    }

    fn both(&self) {
        assert!(self.taken >= 5 && self.refused >= 5, "{self:?}");
    }
}

#[tokio::test]
async fn fault_68_no_mutated_yes_passes_for_one_that_is_cut_off_or_of_another_call() {
    let (fake, last) = mutating(1, |_| (200, REPLACED.to_owned())).await;
    let ec2 = ec2(&fake);
    let mut seen = Seen::default();
    for round in 0..ROUNDS {
        let outcome = try_swap(&ec2).await;
        let text = last.text();
        let result = match outcome {
            Outcome::Done { .. } => {
                assert!(text.contains("<ReplaceRouteResponse"), "{round}: {text}");
                assert!(text.ends_with("</ReplaceRouteResponse>"), "{round}: {text}");
                Ok(())
            }
            // With status 200 nothing says that EC2 did not do it.
            Outcome::Unknown(error) => Err(error),
            other => panic!("{round}: {other:?} of {text}"),
        };
        seen.note(&result);
    }
    seen.both();
}

#[tokio::test]
async fn fault_68_mutated_refusals_are_read_or_leave_the_outcome_open() {
    let refusal = error("InvalidRoute.NotFound", "There is no route defined for '192.168.77.10/32'.");
    let (fake, _) = mutating(2, move |_| (400, refusal.clone())).await;
    let ec2 = ec2(&fake);
    let mut seen = Seen::default();
    for round in 0..ROUNDS {
        let result = match try_swap(&ec2).await {
            Outcome::Refused(error) => {
                assert!(error.to_string().len() < TEXT_MAX, "{error}");
                Ok(())
            }
            Outcome::Unknown(error) => Err(error),
            other => panic!("{round}: {other:?}"),
        };
        seen.note(&result);
    }
    seen.both();
}

#[tokio::test]
async fn fault_68_mutated_route_tables_are_read_or_refused() {
    let (fake, _) = mutating(3, |_| (200, TABLES.to_owned())).await;
    let ec2 = ec2(&fake);
    let mut seen = Seen::default();
    for _ in 0..ROUNDS {
        let look = ec2.look(STAMP).await;
        if let Ok(sight) = &look {
            assert_eq!(sight.routes.len(), sight.tables.len() * 2, "each table, each VIP: {sight:?}");
        }
        seen.note(&look);
    }
    seen.both();
}

#[tokio::test]
async fn fault_68_mutated_interfaces_are_read_or_refused() {
    let (fake, _) = mutating(4, |_| (200, INTERFACES.to_owned())).await;
    let ec2 = ec2(&fake);
    let mut seen = Seen::default();
    for _ in 0..ROUNDS {
        seen.note(&ec2.eni_facts(&"eni-0a".parse().unwrap(), STAMP).await);
    }
    seen.both();
}

#[tokio::test]
async fn fault_68_mutated_metadata_is_read_or_refused() {
    let answers = |asked: &Asked| {
        let of_mac = "/latest/meta-data/network/interfaces/macs/";
        let text = match asked.path.strip_prefix("/latest/meta-data/").unwrap_or("token") {
            "placement/region" => "eu-west-1",
            "placement/availability-zone" => "eu-west-1a",
            "mac" => "0e:11:22:33:44:55",
            _ if !asked.path.starts_with(of_mac) => "token",
            path if path.ends_with("/interface-id") => "eni-0a",
            path if path.ends_with("/vpc-ipv6-cidr-blocks") => "fd00:1::/56",
            _ => "10.0.0.0/16\n100.64.0.0/16",
        };
        text.to_owned()
    };
    let random = Mutex::new(Random(5));
    let fake = Fake::start(move |asked| {
        let good = answers(asked);
        let mut random = random.lock().unwrap();
        // One answer of ten, or no question would get to its end.
        let bytes = if random.below(10) == 0 { random.mutate(good.as_bytes()) } else { good.into_bytes() };
        let ttl = ("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), "21600".to_owned());
        Reply::Bytes(200, vec![ttl], bytes)
    })
    .await;
    let url = format!("http://{}", fake.addr);
    let mut seen = Seen::default();
    for _ in 0..60 {
        seen.note(&imds::identity(Some(&url)).await);
    }
    seen.both();
}

/// What IMDS gives goes into headers that are signed: where it cannot, the call fails and nothing else does.
#[tokio::test]
async fn fault_68_mutated_credentials_fail_the_call_alone() {
    const KEYS: &str = r#"{"Code":"Success","LastUpdated":"2026-11-22T10:00:00Z","Type":"AWS-HMAC",
        "AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"secret","Token":"a-session-token/+==",
        "Expiration":"2126-11-22T16:00:00Z"}"#;
    let random = Mutex::new(Random(6));
    let fake = Fake::start(move |asked| {
        let mut random = random.lock().unwrap();
        let good = match asked.path.strip_prefix("/latest/") {
            None => REPLACED,
            Some("api/token") => "token",
            Some("meta-data/iam/security-credentials/") => "vipd",
            Some(_) => KEYS,
        };
        let mutated = good != REPLACED && random.below(3) == 0;
        let bytes = if mutated { random.mutate(good.as_bytes()) } else { good.as_bytes().to_vec() };
        let ttl = ("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), "21600".to_owned());
        Reply::Bytes(200, vec![ttl], bytes)
    })
    .await;
    let url = format!("http://{}", fake.addr);
    let mut seen = Seen::default();
    for _ in 0..60 {
        let provider = ProviderConfig::without_region().with_http_client(http_client());
        let client = aws_config::imds::Client::builder().configure(&provider).endpoint(&url).unwrap();
        let client = client.max_attempts(1).build();
        let keys = ImdsCredentialsProvider::builder().configure(&provider).imds_client(client).build();
        let sdk = sdk().into_builder().credentials_provider(SharedCredentialsProvider::new(keys)).build();
        seen.note(&match try_swap(&ec2_with(&sdk, &config(url.clone()))).await {
            Outcome::Done { .. } => Ok(()),
            Outcome::Refused(error) | Outcome::Unknown(error) => Err(error),
            other => panic!("{other:?}"),
        });
    }
    seen.both();
}
