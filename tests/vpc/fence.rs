//! F-a and F-b: what leaves, and when nothing does.

use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns};
use tokio::sync::Semaphore;
use vipd::decide::Fenced;
use vipd::vpc::CloudError;

use super::fake_http::{Asked, Reply, xml};
use super::*;

/// A resolver that says when it was asked and answers when it is told to.
#[derive(Clone, Debug)]
struct SlowDns {
    asked: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl ResolveDns for SlowDns {
    fn resolve_dns<'a>(&'a self, _: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async {
            self.asked.add_permits(1);
            self.go.acquire().await.unwrap().forget();
            Ok(vec!["127.0.0.1".parse().unwrap()])
        })
    }
}

/// An `Ec2` whose first connection waits for the resolver.
fn slow(fake: &Fake, timeout: Duration) -> (Ec2, SlowDns) {
    let dns = SlowDns { asked: Arc::new(Semaphore::new(0)), go: Arc::new(Semaphore::new(0)) };
    let client = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_with_resolver(dns.clone());
    let mut config = config(format!("http://ec2.test:{}", fake.addr.port()));
    config.attempt_timeout = timeout;
    (ec2_with(&sdk().into_builder().http_client(client).build(), &config), dns)
}

#[tokio::test]
async fn f_a_a_closed_gate_opens_not_even_a_connection() {
    let fake = Fake::start(|_| xml(REPLACED)).await;
    let ec2 = ec2(&fake);
    let (permit, gate) = open();
    gate.set(None);
    assert_eq!(ec2.swap(swap(), permit, gate).await, Outcome::Fenced(Fenced::Closed));
    assert_eq!(fake.connections(), 0);
    // The same server does see what is not fenced.
    assert!(matches!(try_swap(&ec2).await, Outcome::Done { .. }));
    assert_eq!(fake.connections(), 1);
}

/// Hole 5: the fence falls while the connection is being made.
#[tokio::test]
async fn f_a_no_byte_leaves_once_the_gate_has_closed_behind_a_slow_connect() {
    let newer = Permit::for_tests(Term(8), Epoch(99), far());
    let ended = Permit::for_tests(Term(7), Epoch(93), clock::now());
    for (now_open, why) in
        [(None, Fenced::Closed), (Some(newer), Fenced::Superseded), (Some(ended), Fenced::LeaseOver)]
    {
        let fake = Fake::start(|_| xml(REPLACED)).await;
        let (ec2, dns) = slow(&fake, Duration::from_secs(10));
        let ec2 = Arc::new(ec2);
        let (permit, gate) = open();
        let running = tokio::spawn({
            let (ec2, gate) = (Arc::clone(&ec2), Arc::clone(&gate));
            async move { ec2.swap(swap(), permit, gate).await }
        });
        dns.asked.acquire().await.unwrap().forget();
        gate.set(now_open);
        dns.go.add_permits(1);
        assert_eq!(running.await.unwrap(), Outcome::Fenced(why));
        // It did connect, so that it was the fence that kept the bytes back.
        fake.wait(|fake| fake.connections() == 1).await;

        dns.go.add_permits(1);
        assert!(matches!(try_swap(&ec2).await, Outcome::Done { .. }), "{why:?}");
        let asked = fake.asked();
        assert_eq!(asked.len(), 1, "{why:?}");
        assert_eq!(fake.bytes(), request_bytes(&asked[0]), "{why:?}");
    }
}

/// What one request takes on the wire.
fn request_bytes(asked: &Asked) -> u64 {
    let head: usize = asked.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let length: usize = asked.header("content-length").parse().unwrap();
    let first = asked.method.len() + asked.path.len() + " HTTP/1.1\r\n ".len();
    (first + head + "\r\n".len() + length) as u64
}

#[tokio::test]
async fn f_b_an_attempt_that_timed_out_while_connecting_sends_nothing_later() {
    let fake = Fake::start(|_| xml(REPLACED)).await;
    let (ec2, dns) = slow(&fake, Duration::from_secs(1));
    let refused = CloudError::Timeout { action: "ReplaceRoute", ms: 1000 };
    assert_eq!(try_swap(&ec2).await, Outcome::Refused(refused));
    // Connections that were begun may now come about; only the second swap's bytes may follow.
    dns.go.add_permits(16);
    assert!(matches!(try_swap(&ec2).await, Outcome::Done { .. }));
    assert_eq!(fake.asked().len(), 1);
    assert_eq!(fake.bytes(), request_bytes(&fake.asked()[0]));
}

#[tokio::test]
async fn f_b_a_swap_that_is_dropped_sends_nothing_later() {
    let fake = Fake::start(|_| xml(REPLACED)).await;
    let (ec2, dns) = slow(&fake, Duration::from_secs(10));
    {
        let attempt = std::pin::pin!(try_swap(&ec2));
        tokio::select! {
            outcome = attempt => panic!("{outcome:?}"),
            asked = dns.asked.acquire() => asked.unwrap().forget(),
        }
    }
    dns.go.add_permits(16);
    assert!(matches!(try_swap(&ec2).await, Outcome::Done { .. }));
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn f_b_an_attempt_ends_at_its_timeout() {
    let fake = Fake::start(|_| Reply::Hang).await;
    let mut config = config(format!("http://{}", fake.addr));
    config.attempt_timeout = Duration::from_millis(200);
    let ec2 = ec2_with(&sdk(), &config);
    let timeout = CloudError::Timeout { action: "ReplaceRoute", ms: 200 };
    let started = clock::now();
    assert_eq!(try_swap(&ec2).await, Outcome::Unknown(timeout));
    let took = clock::now().since(started);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(fake.asked().len(), 1);
}
