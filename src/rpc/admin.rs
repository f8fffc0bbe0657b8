//! The operators' gRPC service.

use tonic::{Request, Response, Status};

use super::desk::Desk;
use crate::proto;
use crate::proto::admin_server::{Admin, AdminServer};
use crate::tls::Speaker;

/// The largest request that an operator may send: names and numbers.
const REQUEST_MAX: usize = 64 * 1024;

/// Serves `vipd.v1.Admin`.
pub struct AdminService(Desk);

/// The service, with its bounds.
pub fn service(desk: Desk) -> AdminServer<AdminService> {
    AdminServer::new(AdminService(desk)).max_decoding_message_size(REQUEST_MAX)
}

impl AdminService {
    /// For whom the port's guard found out that it is.
    fn desk<T>(&self, request: &Request<T>) -> Desk {
        self.0.asked_by(request.extensions().get::<Speaker>())
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn get_status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::Status>, Status> {
        Ok(Response::new(self.0.status(request.into_inner().local).await?))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferLeaderRequest>,
    ) -> Result<Response<proto::TransferLeaderResponse>, Status> {
        Ok(Response::new(self.desk(&request).transfer(request.into_inner()).await?))
    }

    async fn order(
        &self,
        request: Request<proto::OrderRequest>,
    ) -> Result<Response<proto::StandingOrders>, Status> {
        Ok(Response::new(self.desk(&request).order(request.into_inner()).await?))
    }

    async fn change_members(
        &self,
        request: Request<proto::MembersRequest>,
    ) -> Result<Response<proto::Members>, Status> {
        Ok(Response::new(self.desk(&request).members(request.into_inner()).await?))
    }

    async fn get_history(
        &self,
        request: Request<proto::HistoryRequest>,
    ) -> Result<Response<proto::History>, Status> {
        Ok(Response::new(self.0.history(request.into_inner().limit).await?))
    }

    async fn diagnose(
        &self,
        request: Request<proto::DiagnoseRequest>,
    ) -> Result<Response<proto::Diagnosis>, Status> {
        Ok(Response::new(self.desk(&request).doctor().await?))
    }

    async fn get_iam_policies(
        &self,
        _: Request<proto::IamPoliciesRequest>,
    ) -> Result<Response<proto::IamPolicies>, Status> {
        Ok(Response::new(self.0.iam_policies().await?))
    }
}
