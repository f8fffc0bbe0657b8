//! What is said of a refusal, to whoever asked and in the log: short, one line, and not without end.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use vipd::decide::Role;
use vipd::proto::peer_client::PeerClient;
use vipd::proto::{FormRequest, HelloRequest, JoinRequest, OrderRequest};
use vipd::raft::{Answer, Passed, Verb, Who};
use vipd::tls::{Speaker, Transport};

use crate::member::{self, desk};
use crate::roles::{Scene, channel};

const BOUND: Duration = Duration::from_secs(20);

/// The longest words, with the dots where they were cut; and how many refusals of a kind are told in a minute.
const WORDS: usize = 403;
const TOLD: usize = 10;
const ORDERS: usize = 60;

/// Nearly the longest message without entries, of what is three times as long in a header.
fn huge(bytes: usize) -> String {
    "\n".repeat(bytes - 200)
}

impl Scene {
    async fn to_peers(&self, who: &str) -> PeerClient<Channel> {
        let shown = Some(self.pki.raw(&self.pki.issue(who)));
        PeerClient::new(channel(self.az_a.peer, shown).await.unwrap())
    }

    async fn to_operators(&self, who: &str) -> Channel {
        let shown = Some(self.pki.raw(&self.pki.issue(who)));
        channel(self.az_a.operators, shown).await.unwrap()
    }
}

fn hello(cluster: &str, member: &str) -> HelloRequest {
    HelloRequest { cluster: cluster.into(), member: member.into(), incarnation: 1 }
}

fn is_short<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, begins: &str) {
    let status = answer.expect_err("refused");
    let words = status.message();
    assert_eq!(status.code(), code, "{words}");
    assert!(words.starts_with(begins), "{words}");
    assert!(words.chars().count() <= WORDS, "{} characters", words.chars().count());
}

#[tokio::test]
async fn fault_66_a_refusal_is_short_whatever_was_sent() {
    let scene = Scene::new().await;
    let mut b = scene.to_peers("member/az-b").await;
    let message = 64 << 10;
    is_short(
        b.hello(hello(&huge(message), "az-b")).await,
        Code::FailedPrecondition,
        "this member is of cluster edge, and the message names none",
    );
    is_short(
        b.hello(hello("edge", &huge(message))).await,
        Code::InvalidArgument,
        "the message says that it is of what is no name",
    );
    // Where the sender's own text is repeated, its beginning is.
    let mine = b.hello(hello("edge", "az-b")).await.unwrap().into_inner();
    let form = FormRequest {
        cluster: "edge".into(),
        from: "az-b".into(),
        to: "az-a".into(),
        to_incarnation: mine.incarnation,
        members: vec![huge(message)],
        ..FormRequest::default()
    };
    let words = "the member lists differ: here [az-a=127.0.0.1:7400, ";
    is_short(b.form(form).await, Code::FailedPrecondition, words);

    // In what follows an answer as well: gRPC's own reflection, which repeats what it was asked for.
    let mut reflection = ServerReflectionClient::new(scene.to_operators("viewer/eve").await);
    let symbol = MessageRequest::FileContainingSymbol(huge(4 << 10));
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(symbol) };
    let asked = Request::new(tokio_stream::once(request));
    let mut answers = reflection.server_reflection_info(asked).await.unwrap().into_inner();
    is_short(timeout(BOUND, answers.message()).await.expect("an answer"), Code::NotFound, "symbol '\n\n\n");

    // In the answer to what a member passes on.
    let (desk, _kept) = desk();
    let order = OrderRequest { order: 1, member: huge(message), ..OrderRequest::default() };
    let passed = Passed { verb: Verb::Order(order), by: Speaker::Unproven, who: Who::default() };
    let Answer::Failure(failure) = desk.answer(passed).await else { panic!("refused") };
    assert!(failure.cause.starts_with("no member is named that: \"\n\n\n"), "{}", failure.cause);
    assert!(failure.cause.chars().count() <= WORDS + 200, "{} characters", failure.cause.chars().count());
}

/// There the reason is in the answer itself, and without TLS anybody may say any name.
#[tokio::test]
async fn fault_66_a_huge_newcomer_is_told_briefly_that_it_is_none() {
    let member = member::alone().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    member.serve(listener, &Transport::Insecure);
    let running = member.start().await;
    let mut client = PeerClient::connect(format!("http://{address}")).await.unwrap();
    let group = client.hello(hello("edge", "az-a")).await.unwrap().into_inner().group;
    let join = JoinRequest { cluster: "edge".into(), group, member: huge(64 << 10), incarnation: 1 };
    let leads = async {
        while running.group.view().role != Role::Leader {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(BOUND, leads).await.expect("it leads");
    let answer = client.join(join).await.unwrap().into_inner();
    assert!(answer.reason.starts_with("the group has no member \n\n"), "{}", answer.reason);
    assert!(answer.reason.chars().count() <= 2 * WORDS + 100, "{} characters", answer.reason.chars().count());
}

/// What this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// From here on, without what is below that level.
    fn begin(least: tracing::Level) -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let sink = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(least)
            .with_ansi(false)
            .with_writer(move || sink.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<String> {
        let all = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        all.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn fault_65_a_forged_name_makes_no_line_of_the_log() {
    let scene = Scene::new().await;
    let mut b = scene.to_peers("member/az-b").await;
    let (log, _guard) = Log::begin(tracing::Level::WARN);
    let forged = "az-c\n2026-11-26T10:00:00Z  INFO this member owns the VIP term=9 epoch=9";
    b.hello(hello("edge", forged)).await.expect_err("no name");
    b.hello(hello(forged, "az-b")).await.expect_err("no cluster");
    let (desk, _kept) = desk();
    let verb = Verb::Order(OrderRequest { order: 1, member: "az-b".into(), ..OrderRequest::default() });
    let by = Speaker::Proven("spiffe://edge/member/az-b".parse().unwrap());
    let who = Who { name: forged.into(), role: "viewer".into() };
    desk.answer(Passed { verb, by, who }).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("from=spiffe://edge/member/az-b")), "{lines:#?}");
}

#[tokio::test]
async fn fault_66_refused_calls_are_told_ten_times_a_minute() {
    let scene = Scene::new().await;
    let (mut b, eve) = (scene.to_peers("member/az-b").await, scene.to_operators("viewer/eve").await);
    let (log, _guard) = Log::begin(tracing::Level::WARN);
    let (desk, _kept) = desk();
    for _ in 0..5 * TOLD {
        // In another's name; what a viewer may not; what nobody may; what a viewer may not, by way of a member.
        let refused = b.hello(hello("edge", "az-c")).await.expect_err("another's name");
        assert_eq!(refused.code(), Code::PermissionDenied);
        for path in ["/vipd.v1.Admin/Order", "/vipd.v1.Admin/Anything"] {
            let mut grpc = tonic::client::Grpc::new(eve.clone());
            grpc.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<OrderRequest, ()>::default();
            let asked = Request::new(OrderRequest::default());
            grpc.unary(asked, path.parse().unwrap(), codec).await.expect_err("not a viewer's");
        }
        let verb = Verb::Order(OrderRequest { order: 1, ..OrderRequest::default() });
        let by = Speaker::Proven("spiffe://edge/member/az-b".parse().unwrap());
        let who = Who { name: "spiffe://edge/viewer/eve".into(), role: "viewer".into() };
        let Answer::Failure(failure) = desk.answer(Passed { verb, by, who }).await else { panic!("refused") };
        assert_eq!(failure.kind, "refused");
    }
    let lines = log.lines();
    for words in
        [" a message says that it is of az-c: refused", " refused: ", " refused, as a member passes it on: "]
    {
        let told = lines.iter().filter(|line| line.contains(words)).count();
        assert_eq!(told, TOLD, "{words}: {lines:#?}");
    }
    assert_eq!(lines.len(), 3 * TOLD, "{lines:#?}");
}

/// Each by its own line, as far as a person gives them; who has a key writes no log full.
#[tokio::test]
async fn fault_66_orders_are_told_sixty_times_a_minute() {
    let scene = Scene::new().await;
    let alice = scene.to_operators("operator/alice").await;
    let (log, _guard) = Log::begin(tracing::Level::DEBUG);
    let (desk, _kept) = desk();
    for _ in 0..2 * ORDERS {
        let mut grpc = tonic::client::Grpc::new(alice.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<OrderRequest, ()>::default();
        let path = "/vipd.v1.Admin/Order".parse().unwrap();
        grpc.unary(Request::new(OrderRequest::default()), path, codec).await.expect_err("no group yet");
        let verb = Verb::Order(OrderRequest { order: 1, ..OrderRequest::default() });
        let by = Speaker::Proven("spiffe://edge/member/az-b".parse().unwrap());
        let who = Who { name: "\u{1}".repeat(200), role: "operator".into() };
        desk.answer(Passed { verb, by, who }).await;
    }
    let lines = log.lines();
    for words in [" an operator asks who=", " an operator asks by way of another member "] {
        let all: Vec<_> = lines.iter().filter(|line| line.contains(words)).collect();
        let (told, remarks): (Vec<&String>, Vec<&String>) =
            all.iter().partition(|line| line.contains("INFO"));
        assert_eq!((told.len(), remarks.len()), (ORDERS, ORDERS), "{words}: {all:#?}");
        assert!(remarks.iter().all(|line| line.contains("DEBUG")), "{remarks:#?}");
        assert!(told.iter().all(|line| !line.contains("left_out")), "{told:#?}");
    }
}
