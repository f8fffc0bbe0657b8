//! The fuzz target's way in (`crate::fuzz`): any status and any body of EC2's, through the client's bound, the SDK's
//! deserialiser and this adapter's judgement. No connection: `tests/vpc` has those.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a target is to panic where an answer passes for what it is not"
)]

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::{
    Credentials, HttpClient, RuntimeComponents, SharedCredentialsProvider, SharedHttpClient,
};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt as _;

use super::ec2::Ec2;
use super::http::bounded;
use super::{Cloud, CloudError, Fenced, Outcome, Stamp, Swap, Verb};
use crate::clock;
use crate::config::{AwsConfig, SourceDestCheck};
use crate::decide::{Gate, Permit};
use crate::model::{Epoch, RouteKey, Term, Vip};

/// No text that is shown of an answer is longer.
const TEXT_MAX: usize = 2000;

const STAMP: Stamp = Stamp { term: Term(7), epoch: Epoch(93) };

/// Gives every request the same answer.
#[derive(Clone, Debug)]
struct Said {
    status: u16,
    body: Vec<u8>,
}

impl HttpConnector for Said {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        // hyper takes these and no others (RFC 9110, section 15).
        let status = StatusCode::try_from(self.status).expect("100 to 999");
        let answer = HttpResponse::new(status, SdkBody::from(self.body.clone()));
        let sent = mem::replace(request.body_mut(), SdkBody::taken());
        HttpConnectorFuture::new(async move {
            // Where nothing was sent, no answer counts.
            sent.collect().await.map_err(|e| ConnectorError::other(e, None))?;
            Ok(answer)
        })
    }
}

impl HttpClient for Said {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }

    fn ec2(&self) -> Ec2 {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(bounded(SharedHttpClient::new(self.clone())))
            .build();
        let config = AwsConfig {
            region: Some("eu-west-1".to_owned()),
            route_tables: vec!["rtb-0a".parse().unwrap(), "rtb-0b".parse().unwrap()],
            route_table_tag: None,
            eni: None,
            endpoint_url: Some("http://10.0.0.2:5000".to_owned()),
            assume_role_arn: None,
            create_missing: false,
            source_dest_check: SourceDestCheck::Verify,
            attempt_timeout: Duration::from_secs(10),
            reconcile: Duration::from_secs(10),
            warm_connections: 8,
        };
        Ec2::with_config(&sdk, &config, &"edge".parse().unwrap(), &"az-a".parse().unwrap(), &vips())
    }
}

fn vips() -> [Vip; 2] {
    ["192.168.77.10/32".parse().unwrap(), "fd00:77::10/128".parse().unwrap()]
}

fn swap(verb: Verb) -> Swap {
    let route = RouteKey { table: "rtb-0a".parse().unwrap(), vip: vips()[0] };
    Swap { route, eni: "eni-0a".parse().unwrap(), verb }
}

/// The first byte chooses the question, two are the status, the rest is the body.
pub fn ec2(data: &[u8]) {
    let Some((&[question, high, low], body)) = data.split_first_chunk::<3>() else { return };
    let status = u16::from_be_bytes([high, low]) % 900 + 100;
    let said = Said { status, body: body.to_vec() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ec2, eni) = (said.ec2(), "eni-0a".parse().unwrap());
        match question % 7 {
            0 => swapped(&said, &ec2, Verb::Replace).await,
            1 => swapped(&said, &ec2, Verb::Create).await,
            2 => looked(&ec2).await,
            3 => short(ec2.eni_facts(&eni, STAMP).await.err().as_ref()),
            4 => short(ec2.fix_source_dest_check(&eni, STAMP).await.err().as_ref()),
            5 => short(ec2.survey(STAMP).await.err().as_ref()),
            _ => rehearsed(&said, &ec2).await,
        }
    });
}

/// Yes is only what EC2 says whole; no only what EC2 says. Everything else may have been done.
async fn swapped(said: &Said, ec2: &Ec2, verb: Verb) {
    let permit = Permit::for_tests(Term(7), Epoch(93), clock::now() + Duration::from_secs(3600));
    let gate = Arc::new(Gate::new(Duration::from_millis(5)));
    gate.set(Some(permit));
    let root = if verb == Verb::Replace { "ReplaceRouteResponse" } else { "CreateRouteResponse" };
    match ec2.swap(swap(verb), permit, gate).await {
        Outcome::Done { request_id } => {
            let text = said.text();
            assert!((200..300).contains(&said.status), "{} for a yes: {text}", said.status);
            assert!(text.contains(&format!("<{root}")) && text.ends_with(&format!("</{root}>")), "{text}");
            assert!(request_id.as_ref().is_none_or(|id| id.len() <= 64), "{request_id:?}");
        }
        Outcome::Refused(error) => {
            let throttled = matches!(error, CloudError::Throttled { .. });
            assert!((400..500).contains(&said.status) || throttled, "{} for a no: {error}", said.status);
            short(Some(&error));
        }
        Outcome::Unknown(error) => short(Some(&error)),
        // The lease is an hour.
        Outcome::Fenced(fenced @ (Fenced::Closed | Fenced::Superseded | Fenced::LeaseOver)) => {
            panic!("{fenced}: the gate is open")
        }
    }
}

async fn looked(ec2: &Ec2) {
    match ec2.look(STAMP).await {
        Ok(sight) => {
            assert_eq!(
                sight.routes.len(),
                sight.tables.len() * vips().len(),
                "each table, each VIP: {sight:?}"
            );
        }
        Err(error) => short(Some(&error)),
    }
}

async fn rehearsed(said: &Said, ec2: &Ec2) {
    match ec2.rehearse(swap(Verb::Replace), STAMP).await {
        Ok(()) => assert!(said.text().contains("DryRunOperation"), "{}", said.text()),
        Err(error) => short(Some(&error)),
    }
}

/// Goes into logs and reports.
fn short(error: Option<&CloudError>) {
    let text = error.map(ToString::to_string).unwrap_or_default();
    assert!(text.len() < TEXT_MAX, "{text}");
}

#[cfg(test)]
const TABLES: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <DescribeRouteTablesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>\
    <routeTableSet><item><routeTableId>rtb-0a</routeTableId><vpcId>vpc-1</vpcId><ownerId>123456789012</ownerId>\
    <routeSet><item><destinationCidrBlock>10.0.0.0/16</destinationCidrBlock><gatewayId>local</gatewayId>\
    <state>active</state></item><item><destinationCidrBlock>192.168.77.10/32</destinationCidrBlock>\
    <networkInterfaceId>eni-0b</networkInterfaceId><state>active</state></item><item>\
    <destinationIpv6CidrBlock>fd00:77::10/128</destinationIpv6CidrBlock><networkInterfaceId>eni-0b\
    </networkInterfaceId><state>blackhole</state></item></routeSet></item><item><routeTableId>rtb-0b</routeTableId>\
    <routeSet/></item></routeTableSet></DescribeRouteTablesResponse>";

#[cfg(test)]
const PAGED: &str = "<DescribeRouteTablesResponse><routeTableSet/><nextToken>more</nextToken>\
    </DescribeRouteTablesResponse>";

#[cfg(test)]
const INTERFACES: &str = "<DescribeNetworkInterfacesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
    <requestId>r</requestId><networkInterfaceSet><item><networkInterfaceId>eni-0a</networkInterfaceId>\
    <availabilityZone>eu-west-1a</availabilityZone><sourceDestCheck>true</sourceDestCheck><vpcId>vpc-1</vpcId>\
    </item></networkInterfaceSet></DescribeNetworkInterfacesResponse>";

#[cfg(test)]
fn yes(action: &str) -> String {
    let space = "xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"";
    format!("<{action}Response {space}><requestId>r</requestId><return>true</return></{action}Response>")
}

#[cfg(test)]
fn no(code: &str, message: &str) -> String {
    format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>req-2</RequestID></Response>"
    )
}

#[cfg(test)]
/// Target, name, bytes.
pub(crate) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let denied = "You are not authorized to perform: ec2:ReplaceRoute on resource: \
                  arn:aws:ec2:eu-west-1:123456789012:route-table/rtb-0a because no policy allows it. Encoded \
                  authorization failure message: abc";
    let absent = "There is no route defined for '192.168.77.10/32' in the route table.";
    let answers: [(&str, u8, u16, String); 12] = [
        ("replaced", 0, 200, yes("ReplaceRoute")),
        ("created", 1, 200, yes("CreateRoute")),
        ("tables", 2, 200, TABLES.to_owned()),
        ("pages-without-end", 2, 200, PAGED.to_owned()),
        ("interface", 3, 200, INTERFACES.to_owned()),
        ("modified", 4, 200, yes("ModifyNetworkInterfaceAttribute")),
        ("survey", 5, 200, TABLES.to_owned()),
        ("would-replace", 6, 412, no("DryRunOperation", "Request would have succeeded")),
        ("denied", 0, 403, no("UnauthorizedOperation", denied)),
        ("throttled", 0, 503, no("RequestLimitExceeded", "Request limit exceeded.")),
        ("no-route", 0, 400, no("InvalidParameterValue", absent)),
        ("html", 0, 200, "<!DOCTYPE html><html><body>Please sign in</body></html>".to_owned()),
    ];
    let bytes = |question: u8, status: u16, body: String| {
        [&[question], (status - 100).to_be_bytes().as_slice(), body.as_bytes()].concat()
    };
    answers.map(|(name, question, status, body)| ("ec2", name, bytes(question, status, body))).to_vec()
}
