//! What EC2 answers to a swap, and what that means.

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use vipd::vpc::CloudError;
use vipd::vpc::http::http_client;

use super::fake_http::{Reply, status, xml};
use super::*;

#[tokio::test]
async fn a_swap_is_done_and_says_what_ec2_needs() {
    let fake = Fake::start(|_| xml(REPLACED)).await;
    let ec2 = ec2(&fake);
    let (permit, gate) = open();
    let done = Outcome::Done { request_id: Some("req-1".to_owned()) };
    assert_eq!(ec2.swap(swap(), permit, gate.clone()).await, done);
    let asked = fake.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].field("Action"), "ReplaceRoute");
    assert_eq!(asked[0].field("RouteTableId"), "rtb-0a");
    assert_eq!(asked[0].field("DestinationCidrBlock"), "192.168.77.10/32");
    assert_eq!(asked[0].field("NetworkInterfaceId"), "eni-0a");
    assert_eq!(asked[0].field("DryRun"), "");

    fake.answer(|_| xml("<CreateRouteResponse><return>true</return></CreateRouteResponse>"));
    let mut create = swap();
    create.verb = Verb::Create;
    create.route.vip = "fd00:77::10/128".parse().unwrap();
    assert_eq!(ec2.swap(create, permit, gate).await, done);
    let asked = fake.asked();
    assert_eq!(asked[1].field("Action"), "CreateRoute");
    assert_eq!(asked[1].field("DestinationIpv6CidrBlock"), "fd00:77::10/128");
    assert_eq!(asked[1].field("DestinationCidrBlock"), "");
}

#[tokio::test]
async fn what_ec2_refuses_changed_nothing() {
    let fake = Fake::start(|_| Reply::Hang).await;
    let ec2 = ec2(&fake);
    let action = "ReplaceRoute";
    let text = "some text".to_owned();
    for (http, code, said, expected) in [
        (503, "RequestLimitExceeded", "some text", CloudError::Throttled { action }),
        (
            403,
            "UnauthorizedOperation",
            "some text Encoded authorization failure message: abc",
            CloudError::Unauthorized { action, resource: "*".to_owned(), message: text.clone() },
        ),
        (
            400,
            "InvalidRoute.NotFound",
            "some text",
            CloudError::NotFound { action, code: "InvalidRoute.NotFound".to_owned(), message: text.clone() },
        ),
        (
            400,
            "InvalidParameterValue",
            "There is no route defined for '192.168.77.10/32' in the route table.",
            CloudError::NotFound {
                action,
                code: "InvalidParameterValue".to_owned(),
                message: "There is no route defined for '192.168.77.10/32' in the route table.".to_owned(),
            },
        ),
        (400, "RequestExpired", "some text", CloudError::Clock { action, code: "RequestExpired".to_owned() }),
        (
            401,
            "AuthFailure",
            "some text",
            CloudError::Credentials { message: format!("{action}: AuthFailure: {text}") },
        ),
        (
            400,
            "RouteAlreadyExists",
            "some text",
            CloudError::Other { action, code: "RouteAlreadyExists".to_owned(), message: text },
        ),
    ] {
        let body = error(code, said);
        fake.answer(move |_| status(http, body.clone()));
        assert_eq!(try_swap(&ec2).await, Outcome::Refused(expected), "{code}");
    }
    // One attempt each.
    assert_eq!(fake.asked().len(), 7);
}

#[tokio::test]
async fn fault_38_what_is_not_allowed_is_named_with_the_policy_that_allows_it() {
    let arn = "arn:aws:ec2:eu-west-1:123456789012:route-table/rtb-0a";
    let message = format!(
        "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/vipd/i-0a \
         is not authorized to perform: ec2:ReplaceRoute on resource: {arn} because no identity-based policy allows \
         the ec2:ReplaceRoute action. Encoded authorization failure message: abc"
    );
    let body = error("UnauthorizedOperation", &message);
    let fake = Fake::start(move |_| status(403, body.clone())).await;
    let Outcome::Refused(error) = try_swap(&ec2(&fake)).await else { panic!("EC2 said no") };
    assert!(matches!(&error, CloudError::Unauthorized { resource, .. } if resource == arn), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("not allowed to call ec2:ReplaceRoute on"), "{text}");
    let line = format!(r#"{{"Effect": "Allow", "Action": "ec2:ReplaceRoute", "Resource": "{arn}"}}"#);
    assert!(text.contains(&line), "{text}");
    assert!(!text.contains("Encoded"), "{text}");
}

#[tokio::test]
async fn fault_35_a_throttled_table_stops_no_other() {
    let fake = Fake::start(|asked: &fake_http::Asked| match asked.field("RouteTableId") {
        "rtb-0a" => status(503, error("RequestLimitExceeded", "slow down")),
        _ => xml(REPLACED),
    })
    .await;
    let ec2 = ec2(&fake);
    let (permit, gate) = open();
    let mut other = swap();
    other.route.table = "rtb-0b".parse().unwrap();
    let (throttled, done) = tokio::join!(try_swap(&ec2), ec2.swap(other, permit, gate));
    let action = "ReplaceRoute";
    assert_eq!(throttled, Outcome::Refused(CloudError::Throttled { action }));
    assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    assert_eq!(fake.asked().len(), 2, "no attempt of the SDK's own");
}

#[tokio::test]
async fn fault_22_a_refused_signature_with_another_time_is_a_clock_fault() {
    let fake = Fake::start(|_| {
        let date = ("date".to_owned(), "Sun, 06 Nov 1994 08:49:37 GMT".to_owned());
        Reply::Full(401, vec![date], error("AuthFailure", "not able to validate"))
    })
    .await;
    let clock = CloudError::Clock { action: "ReplaceRoute", code: "AuthFailure".to_owned() };
    assert_eq!(try_swap(&ec2(&fake)).await, Outcome::Refused(clock));
}

#[tokio::test]
async fn fault_36_a_server_error_leaves_the_outcome_open() {
    let fake = Fake::start(|_| status(500, error("InternalError", "oops"))).await;
    let other = CloudError::Other {
        action: "ReplaceRoute",
        code: "InternalError".to_owned(),
        message: "oops".to_owned(),
    };
    assert_eq!(try_swap(&ec2(&fake)).await, Outcome::Unknown(other));
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn fault_37_a_lost_answer_leaves_the_outcome_open() {
    let fake = Fake::start(|_| Reply::Close).await;
    let outcome = try_swap(&ec2(&fake)).await;
    let Outcome::Unknown(CloudError::Unreachable { action: "ReplaceRoute", .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_refused_and_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let ec2 = ec2_with(&sdk(), &config(format!("http://{addr}")));
    let outcome = try_swap(&ec2).await;
    let Outcome::Refused(error @ CloudError::Unreachable { .. }) = &outcome else {
        panic!("{outcome:?}");
    };
    let text = error.to_string();
    assert!(text.contains(&addr.to_string()) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn connecting_asks_nobody() {
    let fake = Fake::start(|_| Reply::Hang).await;
    let mut config = config(format!("http://{}", fake.addr));
    for role in [None, Some("arn:aws:iam::123456789012:role/routes".to_owned())] {
        config.assume_role_arn = role;
        let (cluster, member) = ("edge".parse().unwrap(), "az-a".parse().unwrap());
        Ec2::connect(&config, &cluster, &member, &[]).await.unwrap();
    }
    assert_eq!(fake.connections(), 0);
}

#[tokio::test]
async fn fault_44_no_credentials_are_named() {
    let fake = Fake::start(|_| xml(REPLACED)).await;
    let none = ProfileFileCredentialsProvider::builder()
        .configure(&ProviderConfig::without_region().with_http_client(http_client()))
        .profile_name("no-such-profile")
        .build();
    let sdk = sdk().into_builder().credentials_provider(SharedCredentialsProvider::new(none)).build();
    let ec2 = ec2_with(&sdk, &config(format!("http://{}", fake.addr)));
    let outcome = try_swap(&ec2).await;
    let Outcome::Refused(CloudError::Credentials { message }) = &outcome else {
        panic!("{outcome:?}");
    };
    assert!(message.contains("credential provider"), "{message}");
    assert!(matches!(ec2.look(STAMP).await, Err(CloudError::Credentials { .. })));
    assert_eq!(fake.connections(), 0);
}

#[tokio::test]
async fn fault_46_html_is_no_answer() {
    let html = "<html><body>Sign in to the hotel's network</body></html>";
    for http in [200, 403, 503] {
        let fake = Fake::start(move |_| status(http, html)).await;
        let ec2 = ec2(&fake);
        let outcome = try_swap(&ec2).await;
        let Outcome::Unknown(CloudError::Garbled { .. }) = outcome else {
            panic!("{http}: {outcome:?}");
        };
        let look = ec2.look(STAMP).await;
        assert!(matches!(look, Err(CloudError::Garbled { .. })), "{http}: {look:?}");
    }
}

#[tokio::test]
async fn fault_46_garbage_is_no_answer() {
    for body in ["", "\u{0}\u{1}\u{2}", "<ReplaceRoute", "<DescribeRouteTablesResponse><a></b>"] {
        let fake = Fake::start(move |_| xml(body)).await;
        let ec2 = ec2(&fake);
        let outcome = try_swap(&ec2).await;
        assert!(matches!(outcome, Outcome::Unknown(CloudError::Garbled { .. })), "{outcome:?}");
        let look = ec2.look(STAMP).await;
        assert!(matches!(look, Err(CloudError::Garbled { .. })), "{body:?}: {look:?}");
    }
}

#[tokio::test]
async fn fault_46_an_endless_answer_is_cut() {
    let fake = Fake::start(|_| Reply::Endless).await;
    let ec2 = ec2(&fake);
    let outcome = try_swap(&ec2).await;
    let Outcome::Unknown(CloudError::Garbled { message, .. }) = &outcome else {
        panic!("{outcome:?}");
    };
    assert!(message.contains("length limit"), "{message}");
    let look = ec2.look(STAMP).await;
    assert!(matches!(look, Err(CloudError::Garbled { .. })), "{look:?}");
}

/// It goes into the log with the move, and an entry that is too long for the log ends no move.
#[tokio::test]
async fn fault_46_a_request_id_of_any_length_is_bounded() {
    for (length, kept) in [(64, true), (65, false), (100_000, false)] {
        let fake = Fake::start(move |_| {
            let id = ("x-amzn-requestid".to_owned(), "r".repeat(length));
            Reply::Full(200, vec![id], REPLACED.to_owned())
        })
        .await;
        let Outcome::Done { request_id } = try_swap(&ec2(&fake)).await else { panic!("{length}") };
        assert_eq!(request_id.is_some(), kept, "{length}");
    }
}
