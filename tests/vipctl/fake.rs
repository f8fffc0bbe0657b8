//! A member that answers what a test tells it to, over loopback or a unix socket.

use std::path::Path;
use std::sync::{Arc, Mutex};

use prost::Message as _;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::{Code, Request, Response};
use vipd::proto::admin_server::{Admin, AdminServer};
use vipd::proto::{
    DiagnoseRequest, Diagnosis, Failure, History, HistoryRequest, IamPolicies, IamPoliciesRequest, Member,
    Members, MembersRequest, Move, OrderRequest, Phases, Route, StandingOrders, Status, StatusRequest,
    TransferLeaderRequest, TransferLeaderResponse, VipRoutes,
};

#[derive(Clone)]
pub struct Fake(Arc<Mutex<Script>>);

/// What the fake member answers, and what it was asked.
pub struct Script {
    pub local: Status,
    pub group: Answer<Status>,
    pub transfer: Answer<TransferLeaderResponse>,
    pub order: Answer<StandingOrders>,
    pub history: Answer<History>,
    pub policies: IamPolicies,
    pub diagnosis: Diagnosis,
    pub members: Answer<Members>,
    pub changes: Vec<MembersRequest>,
    pub orders: Vec<OrderRequest>,
    pub transfers: Vec<TransferLeaderRequest>,
    pub history_limit: Option<u32>,
}

#[derive(Clone)]
pub enum Answer<T> {
    Is(T),
    Fails(tonic::Status),
    Never,
}

impl<T: Clone> Answer<T> {
    async fn give(self) -> Result<Response<T>, tonic::Status> {
        match self {
            Answer::Is(value) => Ok(Response::new(value)),
            Answer::Fails(status) => Err(status),
            Answer::Never => std::future::pending().await,
        }
    }
}

impl Fake {
    pub fn new() -> Self {
        let switchover = Move {
            kind: "switchover".into(),
            from: Some("az-b".into()),
            to: "az-a".into(),
            term: 8,
            reason: "asked for".into(),
            total_ms: Some(63.0),
            request_ids: Vec::new(),
            request_ids_left_out: 3,
            phases_ms: Some(Phases { claim: Some(3.0), route: Some(60.0), ..Phases::default() }),
            ..failover()
        };
        Self(Arc::new(Mutex::new(Script {
            local: steady(),
            group: Answer::Is(steady()),
            transfer: Answer::Is(TransferLeaderResponse {
                last_move: Some(switchover.clone()),
                ..TransferLeaderResponse::default()
            }),
            order: Answer::Is(StandingOrders::default()),
            members: Answer::Is(Members { members: steady().members, ..Members::default() }),
            changes: vec![],
            orders: vec![],
            history: Answer::Is(History { moves: vec![switchover, failover()] }),
            diagnosis: Diagnosis { cluster: "edge".into(), findings: vec![] },
            policies: IamPolicies { instance: "{}".into(), routes: None },
            transfers: vec![],
            history_limit: None,
        })))
    }

    pub fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    pub async fn on_tcp(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(AdminServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        format!("http://{address}")
    }

    pub async fn on_unix(&self, path: &Path) -> String {
        let listener = UnixListener::bind(path).unwrap();
        let server = Server::builder().add_service(AdminServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        format!("unix:{}", path.display())
    }
}

#[tonic::async_trait]
impl Admin for Fake {
    async fn get_status(&self, request: Request<StatusRequest>) -> Result<Response<Status>, tonic::Status> {
        if request.into_inner().local {
            return Ok(Response::new(self.script(|s| s.local.clone())));
        }
        self.script(|s| s.group.clone()).give().await
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, tonic::Status> {
        self.script(|s| {
            s.transfers.push(request.into_inner());
            s.transfer.clone()
        })
        .give()
        .await
    }

    async fn order(&self, request: Request<OrderRequest>) -> Result<Response<StandingOrders>, tonic::Status> {
        self.script(|s| {
            s.orders.push(request.into_inner());
            s.order.clone()
        })
        .give()
        .await
    }

    async fn change_members(
        &self,
        request: Request<MembersRequest>,
    ) -> Result<Response<Members>, tonic::Status> {
        self.script(|s| {
            s.changes.push(request.into_inner());
            s.members.clone()
        })
        .give()
        .await
    }

    async fn get_history(
        &self,
        request: Request<HistoryRequest>,
    ) -> Result<Response<History>, tonic::Status> {
        self.script(|s| {
            s.history_limit = Some(request.into_inner().limit);
            s.history.clone()
        })
        .give()
        .await
    }

    async fn diagnose(&self, _: Request<DiagnoseRequest>) -> Result<Response<Diagnosis>, tonic::Status> {
        Ok(Response::new(self.script(|s| s.diagnosis.clone())))
    }

    async fn get_iam_policies(
        &self,
        _: Request<IamPoliciesRequest>,
    ) -> Result<Response<IamPolicies>, tonic::Status> {
        Ok(Response::new(self.script(|s| s.policies.clone())))
    }
}

pub fn failover() -> Move {
    Move {
        kind: "failover".into(),
        from: Some("az-a".into()),
        to: "az-b".into(),
        term: 7,
        epoch: 93,
        reason: "leader lost".into(),
        at: "2026-11-22T10:00:00Z".into(),
        total_ms: Some(212.0),
        phases_ms: Some(Phases {
            detect: Some(170.0),
            elect: Some(4.0),
            claim: Some(3.0),
            address: Some(1.0),
            route: Some(30.0),
            verify: Some(4.0),
        }),
        request_ids: vec!["req-1".into(), "req-2".into()],
        request_ids_left_out: 0,
    }
}

pub fn member(letter: char, role: &str) -> Member {
    Member {
        name: format!("az-{letter}"),
        zone: format!("eu-west-1{letter}"),
        role: role.into(),
        voter: true,
        reachable: true,
        health: "healthy".into(),
        eni: format!("eni-0{letter}"),
        peer: "10.0.1.10:7400".into(),
        admin: "10.0.1.10:7401".into(),
        applied: 93,
        vip_local: role == "leader",
        version: "0.1.0".into(),
        priority: 100,
        lease_ms: 200,
        failback: Some(false),
        min_hold_s: Some(10),
        on_quorum_loss: "hold".into(),
        ..Member::default()
    }
}

pub fn steady() -> Status {
    let route = |table: &str| Route {
        route_table: table.into(),
        target: Some("eni-0b".into()),
        state: "active".into(),
        in_sync: true,
        error: String::new(),
    };
    Status {
        cluster: "edge".into(),
        term: 7,
        leader: Some("az-b".into()),
        owner: Some("az-b".into()),
        state: "steady".into(),
        problems: vec![],
        warnings: vec![],
        changing: false,
        members: vec![member('a', "follower"), member('b', "leader"), member('c', "follower")],
        vips: vec![VipRoutes {
            address: "192.168.77.10/32".into(),
            owner: Some("az-b".into()),
            routes: vec![route("rtb-0a"), route("rtb-0b")],
        }],
        last_move: Some(failover()),
        seen_by: "az-b".into(),
        epoch: 93,
        route_repairs: 0,
        lease_remaining_ms: Some(180),
        paused: false,
        paused_since: None,
        waiting: None,
    }
}

pub fn no_quorum() -> Status {
    let mut status = Status {
        leader: None,
        state: "no-quorum".into(),
        problems: vec!["no leader since 12 s".into()],
        lease_remaining_ms: None,
        ..steady()
    };
    status.members[0].reachable = false;
    status
}

pub fn failure(kind: &str) -> tonic::Status {
    let failure = Failure {
        kind: kind.into(),
        cause: format!("the {kind} cause"),
        next: format!("the {kind} next step"),
    };
    tonic::Status::with_details(Code::Internal, "as in the details", failure.encode_to_vec().into())
}
