//! Looks, warm connections, interfaces, and what goes with every request.

use std::sync::Mutex;

use tokio::sync::Barrier;
use vipd::model::Observed;
use vipd::vpc::CloudError;
use vipd::vpc::ec2::{EniFacts, Request};

use super::fake_http::{Asked, Reply, status, xml};
use super::*;

#[tokio::test]
async fn every_request_carries_its_term_and_claim() {
    let fake = Fake::start(|asked: &Asked| {
        let action = asked.field("Action");
        xml(format!("<{action}Response><return>true</return></{action}Response>"))
    })
    .await;
    let ec2 = ec2(&fake);
    try_swap(&ec2).await;
    ec2.look(STAMP).await.unwrap();
    ec2.warm(1, STAMP).await.unwrap();
    // Whoever says yes to a DryRun has done it.
    let ignored = CloudError::DryRunIgnored { action: "ReplaceRoute" };
    assert_eq!(ec2.rehearse(swap(), STAMP).await, Err(ignored));
    ec2.fix_source_dest_check(&"eni-0a".parse().unwrap(), STAMP).await.unwrap();
    let _ = ec2.eni_facts(&"eni-0a".parse().unwrap(), STAMP).await;
    let asked = fake.asked();
    assert_eq!(asked.len(), 6);
    let tail = format!(" vipd/{} (cluster=edge; member=az-a; term=7; epoch=93)", env!("CARGO_PKG_VERSION"));
    for asked in asked {
        for header in ["user-agent", "x-amz-user-agent"] {
            let agent = asked.header(header);
            assert!(agent.starts_with("aws-sdk-rust/"), "{header}: {agent}");
            assert!(agent.ends_with(&tail), "{header}: {agent}");
            assert_eq!(agent.matches("vipd/").count(), 1, "{header}: {agent}");
        }
    }
}

fn table(id: &str, routes: &str) -> String {
    format!(
        "<item><routeTableId>{id}</routeTableId><vpcId>vpc-1</vpcId><routeSet><item>\
         <destinationCidrBlock>10.0.0.0/16</destinationCidrBlock><gatewayId>local</gatewayId>\
         <state>active</state></item>{routes}</routeSet></item>"
    )
}

fn route(field: &str, cidr: &str, target: &str, state: &str) -> String {
    format!("<item><{field}>{cidr}</{field}>{target}<state>{state}</state></item>")
}

fn tables(tables: &[String], next: &str) -> Reply {
    let tables = tables.concat();
    xml(format!(
        "<DescribeRouteTablesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>r</requestId><routeTableSet>{tables}</routeTableSet>{next}\
         </DescribeRouteTablesResponse>"
    ))
}

#[tokio::test]
async fn a_look_finds_tables_by_id_and_by_tag() {
    let v4 = "destinationCidrBlock";
    let v6 = "destinationIpv6CidrBlock";
    let ours = "<networkInterfaceId>eni-0a</networkInterfaceId>";
    let theirs = "<networkInterfaceId>eni-0b</networkInterfaceId>";
    let fake = Fake::start(move |asked: &Asked| {
        let zeta = table(
            "rtb-0z",
            &[
                route(v4, "192.168.77.10/32", ours, "active"),
                // The same address, spelled in full.
                route(v6, "fd00:77:0:0:0:0:0:10/128", theirs, "blackhole"),
                route(v4, "192.168.77.11/32", theirs, "active"),
            ]
            .concat(),
        );
        if asked.field("Filter.1.Name") == "route-table-id" {
            assert_eq!(asked.field("Filter.1.Value.1"), "rtb-0z");
            assert_eq!(asked.field("Filter.1.Value.2"), "rtb-0gone");
            return tables(&[zeta], "");
        }
        assert_eq!(asked.field("Filter.1.Name"), "tag:vipd:cluster");
        assert_eq!(asked.field("Filter.1.Value.1"), r"edge\*");
        let gateway = "<gatewayId>igw-1</gatewayId>";
        let alpha = table("rtb-0a", &route(v4, "192.168.77.10/32", gateway, "active"));
        match asked.field("NextToken") {
            "" => tables(&[zeta, table("rtb-0b", "")], "<nextToken>more</nextToken>"),
            "more" => tables(&[alpha], ""),
            other => panic!("{other}"),
        }
    })
    .await;
    let mut config = config(format!("http://{}", fake.addr));
    config.route_tables = vec!["rtb-0z".parse().unwrap(), "rtb-0gone".parse().unwrap()];
    config.route_table_tag = Some(("vipd:cluster".to_owned(), "edge*".to_owned()));
    let sight = ec2_with(&sdk(), &config).look(STAMP).await.unwrap();

    let names: Vec<_> = sight.tables.iter().map(|id| id.as_str()).collect();
    assert_eq!(names, ["rtb-0z", "rtb-0a", "rtb-0b"]);
    let absent: Vec<_> = sight.absent.iter().map(|id| id.as_str()).collect();
    assert_eq!(absent, ["rtb-0gone"]);
    let ours = Some("eni-0a".parse().unwrap());
    let theirs = Some("eni-0b".parse().unwrap());
    let expected = [
        ("rtb-0z", "192.168.77.10/32", Observed::Active(ours)),
        ("rtb-0z", "fd00:77::10/128", Observed::Blackhole(theirs)),
        ("rtb-0a", "192.168.77.10/32", Observed::Active(None)),
        ("rtb-0a", "fd00:77::10/128", Observed::Missing),
        ("rtb-0b", "192.168.77.10/32", Observed::Missing),
        ("rtb-0b", "fd00:77::10/128", Observed::Missing),
    ];
    let expected = expected.into_iter().map(|(table, vip, observed)| {
        (RouteKey { table: table.parse().unwrap(), vip: vip.parse().unwrap() }, observed)
    });
    assert_eq!(sight.routes, expected.collect());
}

#[tokio::test]
async fn pages_without_end_are_an_error() {
    let fake = Fake::start(|_| tables(&[], "<nextToken>again</nextToken>")).await;
    let look = ec2(&fake).look(STAMP).await;
    assert!(matches!(look, Err(CloudError::Garbled { .. })), "{look:?}");
    assert_eq!(fake.asked().len(), 20);
}

#[tokio::test]
async fn warm_connections_carry_the_swaps() {
    let fake = Fake::start(|_| Reply::Hang).await;
    let ec2 = ec2(&fake);
    let together = Arc::new(Barrier::new(4));
    let barrier = Arc::clone(&together);
    fake.answer(move |_| Reply::Together(Arc::clone(&barrier), Box::new(tables(&[], ""))));
    ec2.warm(4, STAMP).await.unwrap();
    assert_eq!(fake.connections(), 4);
    fake.answer(move |_| Reply::Together(Arc::clone(&together), Box::new(xml(REPLACED))));
    let swaps = futures_util::future::join_all((0..4).map(|_| try_swap(&ec2))).await;
    assert!(swaps.iter().all(|outcome| matches!(outcome, Outcome::Done { .. })), "{swaps:?}");
    assert_eq!(fake.connections(), 4);
}

#[tokio::test]
async fn each_request_is_reported_once() {
    let fake = Fake::start(|_| xml(REPLACED)).await;
    let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let ec2 = ec2(&fake).on_request(Arc::new(move |request| sink.lock().unwrap().push(request)));
    try_swap(&ec2).await;
    fake.answer(|_| status(503, error("RequestLimitExceeded", "slow down")));
    try_swap(&ec2).await;
    fake.answer(|_| status(412, error("DryRunOperation", "would have succeeded")));
    ec2.rehearse(swap(), STAMP).await.unwrap();
    assert_eq!(fake.asked()[2].field("DryRun"), "true");
    fake.answer(|_| tables(&[], ""));
    ec2.warm(1, STAMP).await.unwrap();
    let seen: Vec<_> =
        seen.lock().unwrap().iter().map(|request| (request.operation, request.outcome)).collect();
    assert_eq!(
        seen,
        [
            ("ReplaceRoute", "ok"),
            ("ReplaceRoute", "throttled"),
            ("ReplaceRoute", "ok"),
            ("DescribeRouteTables", "ok"),
        ]
    );
}

#[tokio::test]
async fn fault_48_the_source_dest_check_is_read_and_switched_off() {
    let fake = Fake::start(|asked: &Asked| match asked.field("Action") {
        "DescribeNetworkInterfaces" => xml("<DescribeNetworkInterfacesResponse><networkInterfaceSet><item>\
             <networkInterfaceId>eni-0a</networkInterfaceId><vpcId>vpc-1</vpcId>\
             <availabilityZone>eu-west-1a</availabilityZone>\
             <sourceDestCheck>true</sourceDestCheck></item></networkInterfaceSet>\
             </DescribeNetworkInterfacesResponse>"),
        _ => xml("<ModifyNetworkInterfaceAttributeResponse><return>true</return>\
             </ModifyNetworkInterfaceAttributeResponse>"),
    })
    .await;
    let ec2 = ec2(&fake);
    let eni = "eni-0a".parse().unwrap();
    let facts = EniFacts { source_dest_check: true, zone: "eu-west-1a".to_owned(), vpc: "vpc-1".to_owned() };
    assert_eq!(ec2.eni_facts(&eni, STAMP).await, Ok(facts));
    ec2.fix_source_dest_check(&eni, STAMP).await.unwrap();
    let asked = fake.asked();
    assert_eq!(asked[0].field("NetworkInterfaceId.1"), "eni-0a");
    assert_eq!(asked[1].field("NetworkInterfaceId"), "eni-0a");
    assert_eq!(asked[1].field("SourceDestCheck.Value"), "false");
    assert_eq!(asked[1].field("DryRun"), "", "done, not asked");
    // Whether it would be allowed: EC2's yes and no to a DryRun are both errors.
    for (code, allowed) in [("DryRunOperation", true), ("UnauthorizedOperation", false)] {
        let fake = Fake::start(move |_: &Asked| status(412, super::error(code, "words"))).await;
        let ec2 = self::ec2(&fake);
        let result = ec2.rehearse_fix(&eni, STAMP).await;
        assert_eq!(result.is_ok(), allowed, "{code}: {result:?}");
        let asked = fake.asked();
        let field = |name: &str| asked[0].field(name).to_owned();
        assert_eq!((field("DryRun"), field("NetworkInterfaceId")), ("true".into(), "eni-0a".into()));
        assert_eq!(field("SourceDestCheck.Value"), "false");
    }

    fake.answer(|_| status(400, error("InvalidNetworkInterfaceID.NotFound", "no such one")));
    let facts = ec2.eni_facts(&eni, STAMP).await;
    assert!(matches!(facts, Err(CloudError::NotFound { .. })), "{facts:?}");
}
