//! The endpoint over a loopback socket, without a router behind it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::calls::{Call, Calls};
use super::faults::{Effect, Garbage, Rule};
use super::http::Ec2;
use super::state::State;
use super::state::netlink::Fib;
use crate::clock::boot_ns;
use crate::serve;
use crate::spec::Spec;

const VIP: &str = "DestinationCidrBlock=192.168.77.10%2F32";

async fn endpoint() -> (Arc<Ec2>, SocketAddr) {
    let spec = Spec::new("vip", Path::new("/run/x"), 3, 3).unwrap();
    let state = State::new(spec, Fib::Absent, boot_ns()).await.unwrap();
    let ec2 = Ec2::new(state, Calls::new(None).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve::http(listener, ec2.clone().router()));
    (ec2, address)
}

/// Status and body; `None`: nothing within 300 ms.
async fn post(address: SocketAddr, form: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = form.len();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: ec2\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{form}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(Duration::from_millis(300), stream.read_to_end(&mut answer)).await.ok()?.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    Some((status, answer.split_once("\r\n\r\n").unwrap().1.into()))
}

fn swap(table: &str, eni: &str) -> String {
    format!("Action=ReplaceRoute&Version=2016-11-15&RouteTableId={table}&{VIP}&NetworkInterfaceId={eni}")
}

async fn target(ec2: &Ec2) -> String {
    ec2.state.lock().await.entries(u64::MAX)[0].target.clone()
}

async fn last(ec2: &Ec2) -> Call {
    ec2.calls.lock().await.since(0).last().unwrap().clone()
}

#[tokio::test]
async fn refuses_with_ec2s_own_codes() {
    let (_, at) = endpoint().await;
    let cases = [
        (swap("rtb-zz", "eni-0b"), 400, "InvalidRouteTableID.NotFound"),
        (swap("rtb-0a", "eni-zz"), 400, "InvalidNetworkInterfaceID.NotFound"),
        (swap("rtb-0a", "eni-0b").replace("77.10", "77.11"), 400, "InvalidParameterValue"),
        (swap("rtb-0a", "eni-0b").replace("%2F32", "%2F99"), 400, "InvalidParameterValue"),
        (swap("rtb-0a", "eni-0b").replace("Replace", "Create"), 400, "RouteAlreadyExists"),
        (swap("rtb-0a", "eni-0b") + "&DryRun=true", 412, "DryRunOperation"),
        (swap("rtb-zz", "eni-0b") + "&DryRun=true", 400, "InvalidRouteTableID.NotFound"),
        (format!("Action=ReplaceRoute&{VIP}&NetworkInterfaceId=eni-0b"), 400, "MissingParameter"),
        ("Action=DeleteRoute&RouteTableId=rtb-0a".into(), 400, "InvalidAction"),
        ("Action=DescribeRouteTables&RouteTableId.1=rtb-zz".into(), 400, "InvalidRouteTableID.NotFound"),
        (
            "Action=DescribeRouteTables&Filter.1.Name=nonsense&Filter.1.Value.1=x".into(),
            400,
            "InvalidParameterValue",
        ),
        ("Version=2016-11-15".into(), 400, "MissingParameter"),
    ];
    for (form, status, code) in cases {
        let (got, body) = post(at, &form).await.unwrap();
        assert_eq!((got, body.contains(&format!("<Code>{code}</Code>"))), (status, true), "{form}: {body}");
    }
}

#[tokio::test]
async fn a_swap_is_read_back() {
    let (ec2, at) = endpoint().await;
    let (status, body) = post(at, &swap("rtb-0a", "eni-0b")).await.unwrap();
    assert!(
        status == 200
            && body.contains("<ReplaceRouteResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">"),
        "{body}"
    );
    let (_, body) = post(at, "Action=DescribeRouteTables&RouteTableId.1=rtb-0a").await.unwrap();
    assert_eq!(body.matches("<routeTableId>rtb-0a</routeTableId><vpcId>").count(), 1);
    assert!(
        body.contains(
            "<destinationCidrBlock>192.168.77.10/32</destinationCidrBlock><instanceId>i-0b</instanceId>"
        ),
        "{body}"
    );
    let ask = "Action=DescribeRouteTables&Filter.1.Name=tag%3Avipd%3Acluster&Filter.1.Value.1=";
    assert_eq!(post(at, &format!("{ask}edge")).await.unwrap().1.matches("<propagatingVgwSet>").count(), 3);
    assert_eq!(post(at, &format!("{ask}other")).await.unwrap().1.matches("<propagatingVgwSet>").count(), 0);
    ec2.state.lock().await.tag("rtb-0b", "vipd:own", Some("yes".into())).unwrap();
    let ask = "Action=DescribeRouteTables&Filter.1.Name=tag%3Avipd%3Aown&Filter.1.Value.1=yes";
    let (_, body) = post(at, ask).await.unwrap();
    assert_eq!(body.matches("<propagatingVgwSet>").count(), 1);
    assert!(
        body.contains("<item><key>vipd:own</key><value>yes</value></item>") && body.contains("rtb-0b"),
        "{body}"
    );
    ec2.state.lock().await.tag("rtb-0b", "vipd:own", None).unwrap();
    assert!(!post(at, ask).await.unwrap().1.contains("rtb-0b"));
    assert!(ec2.state.lock().await.tag("rtb-0b", "vipd:own", None).is_err(), "it has none");
    let create = "Action=CreateRoute&RouteTableId=rtb-0c&DestinationIpv6CidrBlock=fd00%3A77%3A%3A10%2F128&NetworkInterfaceId=eni-0c";
    assert_eq!(post(at, create).await.unwrap().0, 200);
    let (_, body) = post(at, "Action=DescribeRouteTables&RouteTableId.1=rtb-0c").await.unwrap();
    assert!(body.contains("<destinationIpv6CidrBlock>fd00:77::10/128</destinationIpv6CidrBlock>"), "{body}");
    ec2.state.lock().await.set_gone("eni-0b", true).await.unwrap();
    let (_, body) = post(at, "Action=DescribeRouteTables&RouteTableId.1=rtb-0a").await.unwrap();
    assert!(
        body.contains("<networkInterfaceId>eni-0b</networkInterfaceId><state>blackhole</state>"),
        "{body}"
    );
}

#[tokio::test]
async fn reads_can_lag() {
    let (ec2, at) = endpoint().await;
    post(at, &swap("rtb-0a", "eni-0b")).await.unwrap();
    ec2.faults.lock().await.add(Rule::always(Effect::ReadLag { ms: 60_000 })).unwrap();
    let (_, body) = post(at, "Action=DescribeRouteTables&RouteTableId.1=rtb-0a").await.unwrap();
    assert!(body.contains("eni-0a") && !body.contains("eni-0b"), "{body}");
    assert_eq!(target(&ec2).await, "eni-0b");
}

#[tokio::test]
async fn no_answer_is_not_no_effect() {
    let (ec2, at) = endpoint().await;
    let once = |effect| Rule { times: Some(1), ..Rule::always(effect) };
    ec2.faults.lock().await.add(once(Effect::Lost)).unwrap();
    assert_eq!(post(at, &swap("rtb-0a", "eni-0b")).await, None);
    assert_eq!(target(&ec2).await, "eni-0b");
    assert_eq!((last(&ec2).await.outcome.as_str(), last(&ec2).await.answered_boot_ns), ("ok", None));
    ec2.faults.lock().await.add(once(Effect::Hang)).unwrap();
    assert_eq!(post(at, &swap("rtb-0a", "eni-0c")).await, None);
    assert_eq!((target(&ec2).await.as_str(), last(&ec2).await.outcome.as_str()), ("eni-0b", "hung"));
    // The caller gives up after 300 ms, and the call is executed all the same.
    ec2.faults.lock().await.add(once(Effect::Late { ms: 400 })).unwrap();
    assert_eq!(post(at, &swap("rtb-0a", "eni-0c")).await, None);
    assert_eq!(target(&ec2).await, "eni-0b");
    let late = async {
        while target(&ec2).await != "eni-0c" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), late).await.unwrap();
    let call = last(&ec2).await;
    assert!(call.executed_boot_ns.unwrap() - call.received_boot_ns >= 400_000_000);
}

#[tokio::test]
async fn answers_can_be_refusals_or_garbage() {
    let (ec2, at) = endpoint().await;
    ec2.faults.lock().await.add(Rule::always(Effect::Throttle)).unwrap();
    assert_eq!(post(at, &swap("rtb-0a", "eni-0b")).await.unwrap().0, 503);
    ec2.faults.lock().await.clear(Some("throttle"));
    let deny = Rule { table: Some("rtb-0b".into()), ..Rule::always(Effect::Deny) };
    ec2.faults.lock().await.add(deny).unwrap();
    assert_eq!(post(at, &swap("rtb-0b", "eni-0b")).await.unwrap().0, 403);
    assert_eq!(post(at, &swap("rtb-0a", "eni-0b")).await.unwrap().0, 200);
    ec2.faults.lock().await.clear(None);
    ec2.faults.lock().await.add(Rule::always(Effect::Garbage { what: Garbage::Html })).unwrap();
    let (status, body) = post(at, &swap("rtb-0a", "eni-0c")).await.unwrap();
    assert!(status == 200 && body.starts_with("<html>"), "{body}");
    assert_eq!(target(&ec2).await, "eni-0c");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_logged() {
    let (ec2, at) = endpoint().await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: ec2\r\nContent-Length: 100\r\n\r\nAction=Repl")
        .await
        .unwrap();
    drop(stream);
    let logged = async {
        while ec2.calls.lock().await.since(0).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), logged).await.unwrap();
    assert_eq!(last(&ec2).await.outcome, "incomplete");
}
