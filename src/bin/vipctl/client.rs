//! Which member answers.
//!
//! The endpoints are tried in order. One counts as reached when it has *answered*, not when it has
//! accepted: the kernel accepts for a frozen process too. So each is first asked for its own view
//! (`StatusRequest.local`), which costs a member nothing and is also what `status` falls back on.
//! What changes something is then sent once, to that one member.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response};
use vipd::proto::admin_client::AdminClient;
use vipd::proto::{
    DiagnoseRequest, Diagnosis, History, HistoryRequest, IamPolicies, IamPoliciesRequest, Members,
    MembersRequest, OrderRequest, StandingOrders, Status, StatusRequest, TransferLeaderRequest,
    TransferLeaderResponse,
};
use vipd::tls::{Credentials, Files, Whom};

use crate::Global;
use crate::error::{Error, Kind};

// A member on another continent answers its own view in a second, TLS included; whoever needs
// longer is better passed over for the next.
const LONGEST_TRY: Duration = Duration::from_secs(2);

// More than a group has members; without a bound each one's share of the timeout would vanish.
const MOST_ENDPOINTS: usize = 64;

/// The endpoints, checked but not yet connected to.
pub struct Client {
    targets: Vec<Target>,
    timeout: Duration,
}

struct Target {
    name: String,
    endpoint: Endpoint,
    /// With TLS: what is shown, and `host:port`.
    secure: Option<(Arc<Credentials>, String)>,
}

/// A member that has answered.
pub struct Session {
    admin: AdminClient<Channel>,
    /// The endpoint as the operator wrote it.
    pub endpoint: String,
    /// Its own view when it was reached; `None` where it would not tell.
    pub local: Option<Status>,
}

impl Client {
    /// Checks the endpoints and reads the certificates; every error is wrong usage.
    pub fn new(global: &Global) -> Result<Self, Error> {
        let names: Vec<&str> = global.endpoints.iter().map(|e| e.trim()).filter(|e| !e.is_empty()).collect();
        if names.is_empty() {
            let next = "name a member: --endpoint https://HOST:7401";
            return Err(Error::new(Kind::Usage, "no endpoint is given", next));
        }
        if names.len() > MOST_ENDPOINTS {
            let cause = format!("{} endpoints are given", names.len());
            return Err(Error::new(Kind::Usage, cause, format!("give at most {MOST_ENDPOINTS}")));
        }
        let mut credentials = None;
        let targets = names.into_iter().map(|name| target(name, global, &mut credentials));
        Ok(Self { targets: targets.collect::<Result<_, _>>()?, timeout: global.timeout })
    }

    /// The end of `--timeout`, counted from now.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// How long a member may take over what it answers within `--timeout`: it is to say itself that
    /// time ran out.
    pub fn patience(&self) -> Duration {
        self.timeout / 2
    }

    /// Until when a member that answered before is waited for, before the others are tried.
    pub fn short_deadline(&self) -> Instant {
        Instant::now() + (self.timeout / 2).min(LONGEST_TRY)
    }

    /// The first member that answers before its share of the timeout is over; else what became of
    /// each.
    pub async fn connect(&self, deadline: Instant) -> Result<Session, Error> {
        // One share more than there are endpoints, so that the last one reached has time left for
        // the question proper.
        let shares = u32::try_from(self.targets.len()).unwrap_or(u32::MAX).saturating_add(1);
        let share = (self.timeout / shares).min(LONGEST_TRY);
        let mut tried = Vec::new();
        for target in &self.targets {
            let name = &target.name;
            let limit = deadline.min(Instant::now() + share);
            match timeout_at(limit, reach(target)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(cause)) => tried.push(format!("{name}: {cause}")),
                Err(_) => tried.push(format!("{name}: no answer within {} ms", share.as_millis())),
            }
        }
        let cause = format!("no endpoint reached ({})", tried.join("; "));
        Err(Error::new(Kind::Unreachable, cause, self.next_step()))
    }

    fn next_step(&self) -> &'static str {
        let all = |scheme| self.targets.iter().all(|target| target.name.starts_with(scheme));
        if all("unix:") {
            "on a member's host see systemctl status vipd, and run as a user who may open the \
             socket; elsewhere name a member: --endpoint https://HOST:7401"
        } else if all("https:") {
            "check that vipd runs there, that its [admin] listen is this address and port, and \
             that --ca, --cert and --key are the ones for operators"
        } else {
            "check that vipd runs there and that its [admin] listen is this address and port; one \
             with [tls] is reached by https:// and --ca, --cert, --key"
        }
    }
}

impl Session {
    /// The group's view.
    pub async fn status(&mut self, deadline: Instant) -> Result<Status, Error> {
        let call = self.admin.get_status(StatusRequest { local: false });
        answer(deadline, call).await.map_err(|none| none.of_a_question(&self.endpoint))
    }

    /// Past moves.
    pub async fn history(&mut self, request: HistoryRequest, deadline: Instant) -> Result<History, Error> {
        let call = self.admin.get_history(request);
        answer(deadline, call).await.map_err(|none| none.of_a_question(&self.endpoint))
    }

    /// What every member finds wrong with itself.
    pub async fn diagnose(&mut self, deadline: Instant) -> Result<Diagnosis, Error> {
        let call = self.admin.diagnose(DiagnoseRequest {});
        answer(deadline, call).await.map_err(|none| none.of_a_question(&self.endpoint))
    }

    /// The least AWS policies for its configuration.
    pub async fn iam_policies(&mut self, deadline: Instant) -> Result<IamPolicies, Error> {
        let call = self.admin.get_iam_policies(IamPoliciesRequest {});
        answer(deadline, call).await.map_err(|none| none.of_a_question(&self.endpoint))
    }

    /// A switchover, asked for once: never again, nor of another member.
    pub async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest,
        deadline: Instant,
    ) -> Result<TransferLeaderResponse, Error> {
        let dry_run = request.dry_run;
        let call = self.admin.transfer_leader(request);
        answer(deadline, call).await.map_err(|none| {
            if dry_run { none.of_a_question(&self.endpoint) } else { none.of_a_change(&self.endpoint) }
        })
    }

    /// What is to stand, told once: never again, nor to another member.
    pub async fn order(&mut self, request: OrderRequest, deadline: Instant) -> Result<StandingOrders, Error> {
        let call = self.admin.order(request);
        answer(deadline, call).await.map_err(|none| none.of_a_change(&self.endpoint))
    }
}

impl Session {
    /// Who is in the group.
    pub async fn members(&mut self, request: MembersRequest, deadline: Instant) -> Result<Members, Error> {
        let call = self.admin.change_members(request);
        answer(deadline, call).await.map_err(|none| none.of_a_question(&self.endpoint))
    }

    /// A change of them, told once: never again, nor to another member.
    pub async fn change_members(
        &mut self,
        request: MembersRequest,
        deadline: Instant,
    ) -> Result<Members, Error> {
        let call = self.admin.change_members(request);
        answer(deadline, call).await.map_err(|none| none.of_a_change(&self.endpoint))
    }
}

/// Why there is no result.
enum NoResult {
    /// The member said so.
    Answered(tonic::Status),
    TimedOut,
    Broken(String),
}

impl NoResult {
    fn of_a_question(self, endpoint: &str) -> Error {
        match self {
            NoResult::Answered(status) => Error::from_status(endpoint, &status),
            // It answered a moment ago for itself: what it waits for is the leader.
            NoResult::TimedOut => Error::new(
                Kind::NoQuorum,
                format!("{endpoint}: no answer in time"),
                "see vipctl status, or allow more --timeout",
            ),
            NoResult::Broken(cause) => Error::new(
                Kind::Unreachable,
                format!("{endpoint}: the connection broke: {cause}"),
                "ask again, or another member: --endpoint URL",
            ),
        }
    }

    /// Without an answer the outcome is unknown: the member may have done it all the same.
    fn of_a_change(self, endpoint: &str) -> Error {
        let next = "see vipctl history -n 1 and vipctl status before you ask again";
        match self {
            NoResult::Answered(status) => Error::from_status(endpoint, &status),
            NoResult::TimedOut => Error::new(
                Kind::NoQuorum,
                format!("{endpoint}: no answer in time, so the outcome is unknown"),
                next,
            ),
            NoResult::Broken(cause) => Error::new(
                Kind::Failed,
                format!("{endpoint}: the connection broke, so the outcome is unknown: {cause}"),
                next,
            ),
        }
    }
}

async fn answer<T>(
    deadline: Instant,
    call: impl Future<Output = Result<Response<T>, tonic::Status>>,
) -> Result<T, NoResult> {
    match timeout_at(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        // Only a status that tonic made on this side has a source; one from the wire has none.
        Ok(Err(status)) if status.source().is_some() => Err(NoResult::Broken(why_broken(&status))),
        Ok(Err(status)) => Err(NoResult::Answered(status)),
        Err(_) => Err(NoResult::TimedOut),
    }
}

/// Connects and asks for the member's own view. Any answer will do, a refusal too: it is alive.
async fn reach(target: &Target) -> Result<Session, String> {
    let mut admin = AdminClient::new(channel(target).await?);
    let local = match admin.get_status(StatusRequest { local: true }).await {
        Ok(response) => Some(response.into_inner()),
        Err(status) if status.source().is_some() => return Err(why_broken(&status)),
        Err(status) if status.code() == Code::Unavailable && status.details().is_empty() => {
            return Err(status.message().to_owned());
        }
        Err(_) => None,
    };
    Ok(Session { admin, endpoint: target.name.clone(), local })
}

/// What is shown to members, and by what they are known.
fn tls(global: &Global) -> Result<Arc<Credentials>, Error> {
    let lacks = |what: &str| {
        let cause = format!("https needs {what}");
        Error::new(
            Kind::Usage,
            cause,
            "add --ca FILE --cert FILE --key FILE; vipctl certs issue operator NAME makes a pair",
        )
    };
    let ca = global.ca.clone().ok_or_else(|| lacks("a CA"))?;
    let (Some(cert), Some(key)) = (global.cert.clone(), global.key.clone()) else {
        return Err(lacks("your certificate and its key"));
    };
    Credentials::of_person(Files { ca, cert, key, crl: None }).map(Arc::new).map_err(|error| {
        // As the file's keys are called in vipd.toml, so the options here.
        let cause = error.to_string().replacen("tls.", "--", 1);
        Error::new(
            Kind::Usage,
            cause,
            "name files in PEM that belong together; vipctl certs show tells what they are",
        )
    })
}

fn target(name: &str, global: &Global, shared: &mut Option<Arc<Credentials>>) -> Result<Target, Error> {
    let wrong = |why: &str| {
        let next = "write http://HOST:PORT, https://HOST:PORT or unix:PATH";
        Error::new(Kind::Usage, format!("endpoint {name}: {why}"), next)
    };
    let encrypted = name.strip_prefix("https://");
    if encrypted.is_none() && !name.starts_with("http://") && !name.starts_with("unix:") {
        return Err(wrong("not a URL"));
    }
    // tonic's own TLS would ask for a DNS name in the certificate: members have names of another kind.
    let plain = encrypted.map_or_else(|| name.to_owned(), |rest| format!("http://{rest}"));
    let endpoint = Endpoint::from_shared(plain).map_err(|error| wrong(&in_full(&error)))?;
    let mut secure = None;
    if encrypted.is_some() {
        let authority = endpoint.uri().authority().filter(|a| a.port_u16().is_some());
        let address = authority.ok_or_else(|| wrong("it has no port"))?.to_string();
        let credentials = match shared {
            Some(credentials) => Arc::clone(credentials),
            None => Arc::clone(shared.insert(tls(global)?)),
        };
        secure = Some((credentials, address));
    }
    Ok(Target { name: name.to_owned(), endpoint, secure })
}

async fn channel(target: &Target) -> Result<Channel, String> {
    let connected = match &target.secure {
        None => target.endpoint.connect().await,
        Some((credentials, address)) => {
            let (credentials, address) = (Arc::clone(credentials), address.clone());
            let connect = tower::service_fn(move |_| {
                let (credentials, address) = (Arc::clone(&credentials), address.clone());
                async move { credentials.connect(Whom::AnyMember, &address).await.map(TokioIo::new) }
            });
            target.endpoint.connect_with_connector(connect).await
        }
    };
    connected.map_err(|error| in_full(&error))
}

// A status prints its sources in Rust's syntax; they read better one by one.
fn why_broken(status: &tonic::Status) -> String {
    status.source().map_or_else(|| status.message().to_owned(), in_full)
}

/// An error and its sources in one line. tonic and hyper say little at the outermost.
fn in_full<'a>(error: &'a (dyn std::error::Error + 'static)) -> String {
    // Eight: deeper than any chain that tonic builds, and an end if one loops.
    let source = |error: &&'a (dyn std::error::Error + 'static)| (**error).source();
    let chain = std::iter::successors(Some(error), source).take(8);
    let mut said: Vec<String> = Vec::new();
    for error in chain {
        let text = error.to_string();
        if !said.iter().any(|earlier| earlier.contains(&text)) {
            said.push(text);
        }
    }
    if said.len() > 1 {
        said.retain(|text| text != "transport error");
    }
    said.join(": ")
}
