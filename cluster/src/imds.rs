//! IMDSv2 (instance metadata with session tokens). Who asks is told by the source address.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;

use crate::clock::{boot_ns, rfc3339, unix_ms};
use crate::spec::{ACCOUNT, REGION, Spec, VPC_CIDR, VPC_ID, Zone};

/// Each member needs a handful; the oldest go first.
const MOST_TOKENS: usize = 1024;
/// The role of every instance.
const ROLE: &str = "vipd";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";

/// The service.
pub struct Imds {
    spec: Spec,
    /// Off: every request gets 503. (An unreachable service is `vip-lab cut MEMBER --from imds`.)
    pub on: AtomicBool,
    /// Credentials off: the role's path answers 404, as without an instance profile.
    pub credentials: AtomicBool,
    tokens: Mutex<VecDeque<Token>>,
    next: AtomicU64,
}

struct Token {
    text: String,
    source: std::net::IpAddr,
    ends_ns: u64,
}

impl Imds {
    /// On, with credentials.
    pub fn new(spec: Spec) -> Arc<Self> {
        Arc::new(Self {
            spec,
            on: AtomicBool::new(true),
            credentials: AtomicBool::new(true),
            tokens: Mutex::default(),
            next: AtomicU64::new(boot_ns()),
        })
    }

    /// The service; needs `SocketAddr` as connect info.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().fallback(serve).with_state(self)
    }

    async fn issue(&self, headers: &HeaderMap, source: SocketAddr) -> (StatusCode, String) {
        let ttl = headers.get(TTL).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        let Some(ttl) = ttl.filter(|ttl| (1..=21_600).contains(ttl)) else {
            return (StatusCode::BAD_REQUEST, String::new());
        };
        // A PUT by way of a proxy is refused, as on EC2.
        if headers.contains_key("x-forwarded-for") {
            return (StatusCode::FORBIDDEN, String::new());
        }
        let text = format!("AQAEALab{:024x}==", self.next.fetch_add(1, Ordering::Relaxed));
        let mut tokens = self.tokens.lock().await;
        if tokens.len() >= MOST_TOKENS {
            tokens.pop_front();
        }
        let ends_ns = boot_ns().saturating_add(ttl.saturating_mul(1_000_000_000));
        tokens.push_back(Token { text: text.clone(), source: source.ip(), ends_ns });
        (StatusCode::OK, text)
    }

    async fn knows(&self, headers: &HeaderMap, source: SocketAddr) -> bool {
        let Some(token) = headers.get(TOKEN).and_then(|v| v.to_str().ok()) else { return false };
        let now_ns = boot_ns();
        self.tokens
            .lock()
            .await
            .iter()
            .any(|t| t.text == token && t.source == source.ip() && now_ns < t.ends_ns)
    }

    fn look(&self, zone: &Zone, path: &str) -> Option<String> {
        let interface = format!("network/interfaces/macs/{}/", zone.mac);
        let text = match path {
            "placement/region" => REGION.into(),
            "placement/availability-zone" => zone.zone.clone(),
            "placement/availability-zone-id" => format!("euw1-az{}", zone.letter),
            "mac" => zone.mac.clone(),
            "instance-id" => zone.instance.clone(),
            "instance-type" => "c7g.large".into(),
            "local-ipv4" => zone.ip.to_string(),
            "local-hostname" | "hostname" => {
                format!("ip-{}.{REGION}.compute.internal", zone.ip.to_string().replace('.', "-"))
            }
            "services/domain" => "amazonaws.com".into(),
            "services/partition" => "aws".into(),
            "network/interfaces/macs" | "network/interfaces/macs/" => format!("{}/", zone.mac),
            "iam/info" if self.credentials.load(Ordering::Relaxed) => {
                let arn = format!("arn:aws:iam::{ACCOUNT}:instance-profile/{ROLE}");
                serde_json::json!({"Code": "Success", "LastUpdated": now(0), "InstanceProfileArn": arn, "InstanceProfileId": "AIPALAB"}).to_string()
            }
            "iam/security-credentials" | "iam/security-credentials/"
                if self.credentials.load(Ordering::Relaxed) =>
            {
                ROLE.into()
            }
            "iam/security-credentials/vipd" if self.credentials.load(Ordering::Relaxed) => {
                serde_json::json!({
                    "Code": "Success", "LastUpdated": now(0), "Type": "AWS-HMAC",
                    "AccessKeyId": format!("ASIALAB{}", zone.letter.to_uppercase()),
                    "SecretAccessKey": "lab-secret", "Token": "lab-session-token", "Expiration": now(3_600),
                })
                .to_string()
            }
            other => return of_interface(zone, other.strip_prefix(&interface)?),
        };
        Some(text)
    }
}

fn of_interface(zone: &Zone, key: &str) -> Option<String> {
    let text = match key {
        "" => {
            "device-number\ninterface-id\nlocal-ipv4s\nmac\nowner-id\nsubnet-id\nsubnet-ipv4-cidr-block\nvpc-id\nvpc-ipv4-cidr-block\nvpc-ipv4-cidr-blocks"
        }
        "interface-id" => &zone.eni,
        "device-number" => "0",
        "mac" => &zone.mac,
        "owner-id" => ACCOUNT,
        "subnet-id" => &zone.subnet,
        "subnet-ipv4-cidr-block" => &zone.cidr,
        "vpc-id" => VPC_ID,
        "vpc-ipv4-cidr-block" | "vpc-ipv4-cidr-blocks" => VPC_CIDR,
        "local-ipv4s" => return Some(zone.ip.to_string()),
        _ => return None,
    };
    Some(text.into())
}

fn now(ahead_s: u64) -> String {
    rfc3339(unix_ms() / 1_000 + ahead_s)
}

/// A token's answer repeats its lifetime: the SDKs refuse one without.
async fn serve(imds: Shared<Arc<Imds>>, source: ConnectInfo<SocketAddr>, request: Request) -> Response {
    let ttl = request.headers().get(TTL).cloned();
    let token = request.method() == Method::PUT;
    let mut response = answer(imds, source, request).await.into_response();
    if let Some(ttl) = ttl.filter(|_| token && response.status() == StatusCode::OK) {
        response.headers_mut().insert(TTL, ttl);
    }
    response
}

async fn answer(
    Shared(imds): Shared<Arc<Imds>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> (StatusCode, String) {
    if !imds.on.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    }
    let Some(zone) = imds.spec.member_at(source.ip()) else { return (StatusCode::NOT_FOUND, String::new()) };
    let path = request.uri().path();
    if request.method() == Method::PUT && path == "/latest/api/token" {
        return imds.issue(request.headers(), source).await;
    }
    if request.method() != Method::GET {
        return (StatusCode::METHOD_NOT_ALLOWED, String::new());
    }
    if !imds.knows(request.headers(), source).await {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    if path == "/latest/dynamic/instance-identity/document" {
        let document = serde_json::json!({"region": REGION, "availabilityZone": zone.zone, "instanceId": zone.instance,
            "privateIp": zone.ip, "accountId": ACCOUNT, "version": "2017-09-30"});
        return (StatusCode::OK, document.to_string());
    }
    match path.strip_prefix("/latest/meta-data/").and_then(|path| imds.look(zone, path)) {
        Some(text) => (StatusCode::OK, text),
        None => (StatusCode::NOT_FOUND, String::new()),
    }
}
