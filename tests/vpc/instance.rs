//! IMDS.

use vipd::vpc::imds;

use super::fake_http::{Asked, Fake, Reply, status};

fn instance(asked: &Asked) -> Reply {
    if asked.method == "PUT" {
        let ttl = ("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), "21600".to_owned());
        return Reply::Full(200, vec![ttl], "token".to_owned());
    }
    if asked.header("x-aws-ec2-metadata-token") != "token" {
        return status(401, "");
    }
    let of_mac = "/latest/meta-data/network/interfaces/macs/0e:11:22:33:44:55";
    match asked.path.strip_prefix(of_mac).unwrap_or(&asked.path) {
        "/latest/meta-data/placement/region" => status(200, "eu-west-1"),
        "/latest/meta-data/placement/availability-zone" => status(200, "eu-west-1a"),
        "/latest/meta-data/mac" => status(200, "0e:11:22:33:44:55"),
        "/interface-id" => status(200, "eni-0a"),
        "/vpc-ipv4-cidr-blocks" => status(200, "10.0.0.0/16\n100.64.0.0/16"),
        _ => status(404, "not found"),
    }
}

#[tokio::test]
async fn an_instance_knows_where_it_is() {
    let fake = Fake::start(instance).await;
    let url = format!("http://{}", fake.addr);
    let identity = imds::identity(Some(&url)).await.unwrap();
    assert_eq!(identity.region, "eu-west-1");
    assert_eq!(identity.zone, "eu-west-1a");
    assert_eq!(identity.eni.as_str(), "eni-0a");
    let ranges: Vec<_> = identity.vpc_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.0.0.0/16", "100.64.0.0/16"]);
    assert!(identity.vpc_cidrs[0].contains("10.0.255.1".parse().unwrap()));
    assert!(!identity.vpc_cidrs[0].contains("10.1.0.1".parse().unwrap()));
    assert!(!identity.vpc_cidrs[0].contains("fd00::1".parse().unwrap()));
    assert_eq!(imds::region(Some(&url)).await.unwrap(), "eu-west-1");
}

#[tokio::test]
async fn fault_44_without_imds_the_key_to_set_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let text = imds::region(Some(&url)).await.unwrap_err().to_string();
    assert!(text.contains("aws.region"), "{text}");

    let fake = Fake::start(|asked: &Asked| match asked.path.as_str() {
        "/latest/meta-data/mac" => status(200, "0e:11:22:33:44:55"),
        path if path.ends_with("/interface-id") => status(200, "<html>"),
        _ => instance(asked),
    })
    .await;
    let url = format!("http://{}", fake.addr);
    let text = imds::identity(Some(&url)).await.unwrap_err().to_string();
    assert!(text.contains("aws.eni"), "{text}");
}

/// They are shown, and the zone is told to every other member.
#[tokio::test]
async fn fault_46_long_metadata_is_refused_and_not_shown() {
    let fake = Fake::start(|asked: &Asked| match asked.path.as_str() {
        "/latest/meta-data/placement/availability-zone" => status(200, "a".repeat(1025)),
        _ => instance(asked),
    })
    .await;
    let url = format!("http://{}", fake.addr);
    let text = imds::identity(Some(&url)).await.unwrap_err().to_string();
    assert!(text.contains("1025 bytes") && text.contains("zone") && text.len() < 300, "{text}");
}

/// Found by mutated answers: the SDK panics where a path is no URI, and a panic ends vipd.
#[tokio::test]
async fn fault_46_a_mac_address_that_is_none_is_refused() {
    for mac in
        ["0e:11:22:33:44", "0e:11:22:33:44:55:66", "0e:11 22:33:44:55", "0e:11:22:33:44:\u{fc}", "<html>"]
    {
        let fake = Fake::start(move |asked: &Asked| match asked.path.as_str() {
            "/latest/meta-data/mac" => status(200, mac),
            _ => instance(asked),
        })
        .await;
        let url = format!("http://{}", fake.addr);
        let text = imds::identity(Some(&url)).await.unwrap_err().to_string();
        assert!(text.contains("MAC address") && text.contains("aws.eni"), "{mac}: {text}");
    }
}

/// As above: the token becomes a header.
#[tokio::test]
async fn fault_46_a_token_that_is_no_header_is_refused() {
    for token in ["to\nken", "t\u{fc}ken", "to ken"] {
        let fake = Fake::start(move |asked: &Asked| match (asked.method.as_str(), instance(asked)) {
            ("PUT", Reply::Full(status, headers, _)) => Reply::Full(status, headers, token.to_owned()),
            (_, reply) => reply,
        })
        .await;
        let url = format!("http://{}", fake.addr);
        let text = imds::identity(Some(&url)).await.unwrap_err().to_string();
        assert!(text.contains("is no Token") && text.contains("aws.region"), "{token}: {text}");
    }
}
