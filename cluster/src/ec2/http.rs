//! The endpoint itself: receives, logs, applies the faults and answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

use super::calls::{Call, Calls, Stamp};
use super::faults::{Effect, Faults, Garbage, Verdict};
use super::params::Params;
use super::state::State;
use super::xml::{self, Xml};
use super::{Refusal, api};
use crate::clock::{boot_ns, unix_ms};

/// vipd's largest request is under 1 KiB; 50 tables' ids are under 2.
const MOST_BODY: usize = 64 * 1024;
/// A body that takes longer will not come.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// No caller waits longer than this for an answer that never comes.
const NEVER: Duration = Duration::from_secs(900);

/// EC2: state, faults and log. Locks are taken one at a time, never one inside the other.
pub struct Ec2 {
    /// Tables and ENIs.
    pub state: Mutex<State>,
    /// What shall go wrong.
    pub faults: Mutex<Faults>,
    /// What happened.
    pub calls: Mutex<Calls>,
    /// Told each time an ENI's source/dest check changed.
    pub checked: watch::Sender<Vec<String>>,
    started_ns: u64,
}

impl Ec2 {
    /// Nothing wrong, nothing called.
    pub fn new(state: State, calls: Calls) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            faults: Mutex::default(),
            calls: Mutex::new(calls),
            checked: watch::Sender::new(Vec::new()),
            started_ns: boot_ns(),
        })
    }

    /// The service; needs `SocketAddr` as connect info.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().fallback(receive).with_state(self)
    }

    async fn member(&self, source: SocketAddr) -> Option<String> {
        self.state.lock().await.spec.member_at(source.ip()).map(|zone| zone.member.clone())
    }

    fn request_id(&self, call: u64) -> String {
        format!("{:08x}-0000-4000-8000-{call:012x}", self.started_ns & 0xffff_ffff)
    }
}

/// A caller that goes away changes nothing: EC2 finishes what it has begun, so each call has a task of its own.
async fn receive(
    Shared(ec2): Shared<Arc<Ec2>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let received_ns = boot_ns();
    match tokio::spawn(handle(ec2, source, request, received_ns)).await {
        Ok(Some(response)) => response,
        Ok(None) | Err(_) => {
            sleep(NEVER).await;
            respond(StatusCode::GATEWAY_TIMEOUT, String::new())
        }
    }
}

async fn handle(ec2: Arc<Ec2>, source: SocketAddr, request: Request, received_ns: u64) -> Option<Response> {
    let (head, body) = request.into_parts();
    let agent =
        head.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut call = Call {
        received_boot_ns: received_ns,
        received_unix_ms: unix_ms(),
        source: source.ip().to_string(),
        port: source.port(),
        member: ec2.member(source).await,
        stamp: Stamp::parse(&agent),
        user_agent: agent,
        outcome: "pending".into(),
        ..Call::default()
    };
    let read = tokio::time::timeout(BODY_PATIENCE, axum::body::to_bytes(body, MOST_BODY)).await;
    let Ok(Ok(bytes)) = read else {
        call.outcome = "incomplete".into();
        let mut calls = ec2.calls.lock().await;
        let id = calls.begin(call);
        calls.settle(id);
        return Some(respond(
            StatusCode::BAD_REQUEST,
            xml::error("MalformedQueryString", "The body broke off", "none"),
        ));
    };
    let form = format!("{}&{}", head.uri.query().unwrap_or_default(), String::from_utf8_lossy(&bytes));
    let params = Params::parse(&form);
    describe(&mut call, &params);
    let verdict = ec2.faults.lock().await.judge(&call, received_ns);
    call.faults.clone_from(&verdict.names);
    let id = {
        let mut calls = ec2.calls.lock().await;
        let id = calls.begin(call.clone());
        calls.update(id, |c| c.request_id = ec2.request_id(id));
        id
    };
    call.id = id;
    answer(&ec2, &call, &params, verdict).await
}

fn describe(call: &mut Call, params: &Params) {
    let owned = |key| params.get(key).map(str::to_owned);
    call.action = owned("Action").unwrap_or_default();
    call.table = owned("RouteTableId").or_else(|| owned("RouteTableId.1"));
    call.destination = owned("DestinationCidrBlock").or_else(|| owned("DestinationIpv6CidrBlock"));
    call.eni = owned("NetworkInterfaceId");
    call.dry_run = params.flag("DryRun");
}

/// Lets the verdict happen. `None`: no answer, ever.
async fn answer(ec2: &Arc<Ec2>, call: &Call, params: &Params, verdict: Verdict) -> Option<Response> {
    let half = Duration::from_millis(verdict.delay_ms) / 2;
    sleep(half).await;
    let refuse = |refusal| Some(Err(refusal));
    let result = match verdict.effect {
        Some(Effect::Hang) => None,
        Some(Effect::Throttle) => refuse(Refusal::Throttled),
        Some(Effect::Error { code }) => refuse(Refusal::Injected(code)),
        Some(Effect::Deny) => refuse(denied(ec2, call).await),
        Some(Effect::Late { ms }) => {
            sleep(Duration::from_millis(ms)).await;
            note(ec2, call.id, &run(ec2, call, params, verdict.read_lag_ms).await).await;
            return None;
        }
        Some(Effect::Lost) => {
            note(ec2, call.id, &run(ec2, call, params, verdict.read_lag_ms).await).await;
            return None;
        }
        Some(Effect::Garbage { what }) => {
            let result = run(ec2, call, params, verdict.read_lag_ms).await;
            sleep(half).await;
            ec2.calls.lock().await.update(call.id, |c| c.answered_boot_ns = Some(boot_ns()));
            note(ec2, call.id, &result).await;
            return Some(garbage(what));
        }
        None | Some(Effect::Delay { .. } | Effect::ReadLag { .. }) => {
            Some(run(ec2, call, params, verdict.read_lag_ms).await)
        }
    };
    let Some(result) = result else {
        let mut calls = ec2.calls.lock().await;
        calls.update(call.id, |c| c.outcome = "hung".into());
        calls.settle(call.id);
        return None;
    };
    if !half.is_zero() {
        sleep(half).await;
    }
    ec2.calls.lock().await.update(call.id, |c| c.answered_boot_ns = Some(boot_ns()));
    note(ec2, call.id, &result).await;
    let request_id = ec2.request_id(call.id);
    let mut response = match result {
        Ok(body) => respond(StatusCode::OK, xml::answer(&call.action, &request_id, &body)),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            respond(status, xml::error(refusal.code(), &refusal.to_string(), &request_id))
        }
    };
    // The SDKs read it here and not in the body.
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-amzn-requestid", value);
    }
    Some(response)
}

async fn run(ec2: &Arc<Ec2>, call: &Call, params: &Params, read_lag_ms: u64) -> Result<Xml, Refusal> {
    let mut state = ec2.state.lock().await;
    let now_ns = boot_ns();
    let read_at_ns = if read_lag_ms == 0 {
        u64::MAX
    } else {
        now_ns.saturating_sub(read_lag_ms.saturating_mul(1_000_000))
    };
    let result = api::execute(&mut state, params, now_ns, read_at_ns).await;
    let checked = state.checked.clone();
    drop(state);
    if result.is_ok() {
        // The kernel has the route by now: this is when packets follow it.
        let executed_ns = boot_ns();
        ec2.calls.lock().await.update(call.id, |c| c.executed_boot_ns = Some(executed_ns));
        ec2.checked.send_if_modified(|old| std::mem::replace(old, checked.clone()) != checked);
    }
    result
}

async fn note(ec2: &Arc<Ec2>, id: u64, result: &Result<Xml, Refusal>) {
    let outcome = match result {
        Ok(_) => "ok".into(),
        Err(refusal) => refusal.code().to_owned(),
    };
    let mut calls = ec2.calls.lock().await;
    calls.update(id, |c| c.outcome = outcome);
    calls.settle(id);
}

async fn denied(ec2: &Arc<Ec2>, call: &Call) -> Refusal {
    let state = ec2.state.lock().await;
    let instance =
        call.member.as_deref().and_then(|m| state.spec.zone(m).ok()).map_or("unknown", |z| &z.instance);
    let account = crate::spec::ACCOUNT;
    let region = crate::spec::REGION;
    let resource = match &call.table {
        Some(table) => format!("arn:aws:ec2:{region}:{account}:route-table/{table}"),
        None => "*".into(),
    };
    Refusal::Denied { action: call.action.clone(), resource, instance: instance.into() }
}

fn garbage(what: Garbage) -> Response {
    /// 256 pieces of 1 MiB, made as they are sent.
    const PIECES: usize = 256;
    match what {
        Garbage::Html => {
            let mut page =
                respond(StatusCode::OK, "<html><body><h1>Sign in to the network</h1></body></html>".into());
            page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            page
        }
        Garbage::Malformed => {
            respond(StatusCode::OK, "<?xml version=\"1.0\"?><ReplaceRouteResponse><requestId>x</req".into())
        }
        Garbage::Empty => respond(StatusCode::OK, String::new()),
        Garbage::Bytes => {
            let bytes: Vec<u8> =
                (0u32..4096).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
            let mut response = Response::new(Body::from(bytes));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml;charset=UTF-8"));
            response
        }
        Garbage::Huge => {
            let piece = Bytes::from(vec![b'x'; 1 << 20]);
            let pieces = stream::iter((0..PIECES).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
            let mut response = Response::new(Body::from_stream(pieces));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml;charset=UTF-8"));
            response
        }
    }
}

fn respond(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml;charset=UTF-8"));
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("AmazonEC2"));
    response
}
