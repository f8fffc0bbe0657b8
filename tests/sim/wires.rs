//! The network between the members: each request and each answer is a message of its own, which may be
//! late, lost or doubled, and overtake another.
//!
//! ```text
//!   Links --Carrier--> leg(a, b) --> PeerService of b, on b's host --> leg(b, a) --> Links
//!                         '------ what passes is told to the referee ------'
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Collected, Full};
use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::oneshot;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::Service;
use tower::util::BoxCloneSyncService;

use vipd::proto::peer_server::PeerServer;
use vipd::raft::{CallError, Carrier, Dial, Held, Lifelines, PeerService};
use vipd::runtime::simulated::{Host, true_now};
use vipd::tls::Speaker;

use crate::lifelines::Lines;
use crate::referee::Referee;

/// How messages fare.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// One way, in microseconds: at least and at most.
    pub latency_us: (u64, u64),
    /// Of a thousand messages so many are lost ...
    pub lost: u32,
    /// ... arrive twice ...
    pub doubled: u32,
    /// ... or only after another 5 to 300 ms.
    pub late: u32,
}

impl Default for Weather {
    fn default() -> Self {
        Self { latency_us: (200, 900), lost: 0, doubled: 0, late: 0 }
    }
}

/// What happened to messages, for the count of faults.
#[derive(Clone, Copy, Default, Debug)]
pub struct Mail {
    pub lost: u64,
    pub doubled: u64,
    pub late: u64,
    /// In bad weather, there before another that left the same member for the same one earlier.
    pub overtook: u64,
    pub cut: u64,
    /// Its sender's name was not let in: it was removed, or is not known to be in yet.
    pub refused: u64,
    /// Lifelines: by the leader's death, without it, by a reset.
    pub ended: u64,
    pub ended_falsely: u64,
    pub reset: u64,
}

/// When messages from one member to another leave and arrive.
#[derive(Default)]
struct Traffic {
    /// When the last one left.
    left: Duration,
    /// When the last of those arrives that left before, and of all.
    earlier: Duration,
    all: Duration,
}

impl Traffic {
    /// Whether what leaves at `now` overtakes another. The two copies of a doubled message leave at one moment.
    fn overtakes(&mut self, now: Duration, arrives: Duration) -> bool {
        if now > self.left {
            (self.left, self.earlier) = (now, self.all);
        }
        self.all = self.all.max(arrives);
        arrives < self.earlier
    }
}

struct Net {
    doors: BTreeMap<String, Door>,
    traffic: BTreeMap<(usize, usize), Traffic>,
    /// From whom to whom nothing goes.
    cut: BTreeSet<(usize, usize)>,
    weather: Weather,
    rng: SmallRng,
    mail: Mail,
    lines: Lines,
}

#[derive(Clone)]
struct Door {
    seat: usize,
    host: Host,
    service: PeerServer<PeerService>,
    lifelines: Lifelines,
}

/// The network. Cheap to clone.
#[derive(Clone)]
pub struct Wires {
    net: Arc<Mutex<Net>>,
    referee: Referee,
    /// Of each seat, by its certificate.
    speakers: Arc<[Speaker]>,
}

pub(crate) enum Leg {
    Lost,
    After(Duration),
}

/// As the files say.
const CLUSTER: &str = "edge";

impl Wires {
    pub fn new(seed: u64, referee: Referee, names: &[String]) -> Self {
        let named = |name: &String| format!("spiffe://{CLUSTER}/member/{name}").parse().map(Speaker::Proven);
        let speakers = names.iter().map(named).collect::<Result<_, _>>().expect("members' names");
        let net = Net {
            doors: BTreeMap::new(),
            traffic: BTreeMap::new(),
            cut: BTreeSet::new(),
            weather: Weather::default(),
            rng: SmallRng::seed_from_u64(seed),
            mail: Mail::default(),
            lines: Lines::default(),
        };
        Self { net: Arc::new(Mutex::new(net)), referee, speakers }
    }

    fn lock(&self) -> MutexGuard<'_, Net> {
        self.net.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Nothing goes from `from` to `to` any more.
    pub fn cut(&self, from: usize, to: usize) {
        self.lock().cut.insert((from, to));
    }

    /// Whatever was cut is whole again.
    pub fn heal(&self) {
        self.lock().cut.clear();
    }

    /// Lets go of everybody: a service holds its links, and they hold this network.
    pub fn take_down(&self) {
        let mut net = self.lock();
        let parts = (std::mem::take(&mut net.doors), std::mem::take(&mut net.lines));
        drop(net);
        drop(parts);
    }

    pub fn mail(&self) -> Mail {
        let net = self.lock();
        let (ended, ended_falsely, reset) = (net.lines.ended, net.lines.false_ends, net.lines.resets);
        Mail { ended, ended_falsely, reset, ..net.mail }
    }

    /// From now on `service` answers at `address`, on `host`.
    pub fn serve(
        &self,
        address: &str,
        seat: usize,
        host: Host,
        service: PeerServer<PeerService>,
        lifelines: Lifelines,
    ) {
        self.lock().doors.insert(address.to_owned(), Door { seat, host, service, lifelines });
    }

    /// Who takes lifelines at `address`.
    pub(crate) fn door(&self, address: &str) -> Option<(usize, (Host, Lifelines))> {
        self.lock().doors.get(address).map(|d| (d.seat, (d.host.clone(), d.lifelines.clone())))
    }

    pub(crate) fn with_lines<T>(&self, what: impl FnOnce(&mut Lines) -> T) -> T {
        what(&mut self.lock().lines)
    }

    /// Nobody answers at `address`.
    pub fn close(&self, address: &str) {
        self.lock().doors.remove(address);
    }

    /// The network as `seat` dials it.
    pub fn dialer(&self, seat: usize) -> Arc<dyn Dial> {
        Arc::new(Dialer { wires: self.clone(), seat })
    }

    pub(crate) fn leg(&self, from: usize, to: usize) -> Leg {
        let mut net = self.lock();
        if net.cut.contains(&(from, to)) {
            net.mail.cut += 1;
            return Leg::Lost;
        }
        let weather = net.weather;
        if net.rng.random_range(0..1000) < weather.lost {
            net.mail.lost += 1;
            return Leg::Lost;
        }
        let (least, most) = weather.latency_us;
        let mut us = net.rng.random_range(least..=most);
        if net.rng.random_range(0..1000) < weather.late {
            net.mail.late += 1;
            us += net.rng.random_range(5_000..=300_000);
        }
        let (now, takes) = (true_now(), Duration::from_micros(us));
        let overtakes = net.traffic.entry((from, to)).or_default().overtakes(now, now + takes);
        let fair = weather.latency_us == Weather::default().latency_us && weather.late == 0;
        net.mail.overtook += u64::from(overtakes && !fair);
        Leg::After(takes)
    }

    fn is_doubled(&self) -> bool {
        let mut net = self.lock();
        let doubled = net.weather.doubled;
        let twice = net.rng.random_range(0..1000) < doubled;
        net.mail.doubled += u64::from(twice);
        twice
    }

    pub(crate) fn speaker(&self, seat: usize) -> Speaker {
        self.speakers[seat].clone()
    }

    async fn carry(
        self,
        from: usize,
        address: String,
        request: Request<tonic::body::Body>,
    ) -> Result<Response<tonic::body::Body>, Status> {
        let refused = || Status::unavailable("connection refused");
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(self.speaker(from));
        let bytes = body.collect().await.map_err(|_| refused())?.to_bytes();
        let path = parts.uri.path().to_owned();
        let (sent, left) = (self.referee.request_leaves(from, &path, &bytes), true_now());
        let seat = self.lock().doors.get(&address).map(|d| d.seat);
        // Nobody listens: the kernel there says so, if it can be reached.
        let Some(to) = seat else {
            SimRuntime::sleep(Duration::from_micros(500)).await;
            return Err(refused());
        };
        let copies = 1 + usize::from(self.is_doubled());
        let (tx, rx) = oneshot::channel();
        let mut tx = Some(tx);
        for _ in 0..copies {
            let Leg::After(delay) = self.leg(from, to) else { continue };
            let whole = Request::from_parts(parts.clone(), Full::new(bytes.clone()));
            drop(SimRuntime::spawn(self.clone().deliver(address.clone(), left, delay, whole, tx.take())));
        }
        if let Some(kept) = tx {
            // Every copy was lost: the caller's own deadline ends the waiting.
            let () = pending().await;
            drop(kept);
        }
        let Ok((head, answer)) = rx.await else { return Err(Status::unavailable("connection closed")) };
        let Leg::After(delay) = self.leg(to, from) else { return pending().await };
        SimRuntime::sleep(delay).await;
        self.referee.answer_arrives(from, &path, &bytes, &answer.bytes, sent);
        Ok(Response::from_parts(head, answer.into_body()))
    }

    async fn deliver(
        self,
        address: String,
        left: Duration,
        delay: Duration,
        request: Request<Full<Bytes>>,
        tx: Option<oneshot::Sender<Delivered>>,
    ) {
        SimRuntime::sleep(delay).await;
        // Whoever answers there by now.
        let door = self.lock().doors.get(&address).cloned();
        let Some(Door { seat, host, mut service, .. }) = door else { return };
        let (referee, mail) = (self.referee.clone(), self);
        drop(host.spawn(async move {
            let path = request.uri().path().to_owned();
            let Ok(asked) = request.body().clone().collect().await.map(Collected::to_bytes);
            let open = referee.open(seat);
            let answered = Service::call(&mut service, request).await;
            let Ok(response): Result<_, Infallible> = answered;
            let (head, body) = response.into_parts();
            let Ok(body) = body.collect().await else { return };
            let trailers = body.trailers().cloned();
            let denied =
                Status::from_header_map(&head.headers).is_some_and(|s| s.code() == Code::PermissionDenied);
            mail.lock().mail.refused += u64::from(denied);
            let answer = Answer { bytes: body.to_bytes(), trailers };
            referee.answered(seat, &path, &asked, &answer.bytes, left, open);
            if let Some(tx) = tx {
                let _ = tx.send((head, answer));
            }
        }));
    }
}

type Delivered = (tonic::codegen::http::response::Parts, Answer);

/// A whole answer.
struct Answer {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

impl Answer {
    fn into_body(self) -> tonic::body::Body {
        let trailers = self.trailers.map(Ok);
        tonic::body::Body::new(Full::new(self.bytes).with_trailers(std::future::ready(trailers)))
    }
}

struct Dialer {
    wires: Wires,
    seat: usize,
}

impl Dial for Dialer {
    fn dial(&self, _: &str, address: &str) -> Result<Carrier, CallError> {
        let (wires, from, address) = (self.wires.clone(), self.seat, address.to_owned());
        Ok(BoxCloneSyncService::new(Wire { wires, from, address }))
    }

    fn lifeline(
        &self,
        _: &str,
        address: &str,
        greeting: Vec<u8>,
    ) -> BoxFuture<'static, Result<Held, CallError>> {
        let (wires, from, address) = (self.wires.clone(), self.seat, address.to_owned());
        Box::pin(async move { Ok(wires.hold(from, address, greeting).await?) })
    }
}

#[derive(Clone)]
struct Wire {
    wires: Wires,
    from: usize,
    address: String,
}

impl Service<Request<tonic::body::Body>> for Wire {
    type Response = Response<tonic::body::Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.wires.clone().carry(self.from, self.address.clone(), request))
    }
}
