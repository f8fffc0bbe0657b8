//! `vpc::ec2` and `vpc::imds` against a server on loopback. F-a, F-b: DESIGN.md section 4; the
//! numbers in the names: FAULTS.md.
#![cfg(feature = "aws")]

mod answers;
mod fake_http;
mod fence;
mod instance;
mod mutated;
#[path = "../common/random.rs"]
mod random;
mod reads;

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::{Credentials, SharedCredentialsProvider};

use fake_http::Fake;
use vipd::clock;
use vipd::config::{AwsConfig, SourceDestCheck};
use vipd::decide::{Gate, Permit};
use vipd::model::{Epoch, RouteKey, Term, Time};
use vipd::vpc::ec2::Ec2;
use vipd::vpc::{Cloud, Outcome, Stamp, Swap, Verb};

const REPLACED: &str = "<ReplaceRouteResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
    <requestId>req-1</requestId><return>true</return></ReplaceRouteResponse>";
const STAMP: Stamp = Stamp { term: Term(7), epoch: Epoch(93) };

fn config(url: String) -> AwsConfig {
    AwsConfig {
        region: Some("eu-west-1".to_owned()),
        route_tables: vec!["rtb-0a".parse().unwrap(), "rtb-0b".parse().unwrap()],
        route_table_tag: None,
        eni: None,
        endpoint_url: Some(url),
        assume_role_arn: None,
        create_missing: false,
        source_dest_check: SourceDestCheck::Verify,
        // Far more than loopback needs: only tests of timeouts set less.
        attempt_timeout: Duration::from_secs(10),
        reconcile: Duration::from_secs(10),
        warm_connections: 8,
    }
}

fn sdk() -> SdkConfig {
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

fn ec2_with(sdk: &SdkConfig, config: &AwsConfig) -> Ec2 {
    let vips = ["192.168.77.10/32".parse().unwrap(), "fd00:77::10/128".parse().unwrap()];
    Ec2::with_config(sdk, config, &"edge".parse().unwrap(), &"az-a".parse().unwrap(), &vips)
}

fn ec2(fake: &Fake) -> Ec2 {
    ec2_with(&sdk(), &config(format!("http://{}", fake.addr)))
}

fn swap() -> Swap {
    let route = RouteKey { table: "rtb-0a".parse().unwrap(), vip: "192.168.77.10/32".parse().unwrap() };
    Swap { route, eni: "eni-0a".parse().unwrap(), verb: Verb::Replace }
}

fn far() -> Time {
    clock::now() + Duration::from_secs(3600)
}

/// A permit, and a gate that is open for it.
fn open() -> (Permit, Arc<Gate>) {
    let permit = Permit::for_tests(Term(7), Epoch(93), far());
    let gate = Arc::new(Gate::new(Duration::from_millis(5)));
    gate.set(Some(permit));
    (permit, gate)
}

async fn try_swap(ec2: &Ec2) -> Outcome {
    let (permit, gate) = open();
    ec2.swap(swap(), permit, gate).await
}

fn error(code: &str, message: &str) -> String {
    format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>req-2</RequestID></Response>"
    )
}
