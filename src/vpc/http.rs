//! The one HTTP client for EC2, STS and IMDS: rustls with ring, warm connections, bounded answers.

use std::mem;
use std::time::Duration;

use aws_sdk_ec2::config::SharedHttpClient;
use aws_sdk_ec2::config::{ConfigBag, HttpClient, RuntimeComponents, RuntimeComponentsBuilder};
use aws_sdk_ec2::error::BoxError;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt as _, Limited};

/// The longest answer that is read. 25 route tables (a page) of 1000 routes (EC2's quota for one
/// table) are about 300 bytes of XML a route.
pub const ANSWER_MAX_BYTES: usize = 8 * 1024 * 1024;

/// IMDS' tokens have 56 bytes, IAM's names 64.
const NARROW_MAX_BYTES: usize = 1024;

/// How many idle connections are kept to one endpoint: EC2's burst of mutating calls is 50.
pub(super) const IDLE_MAX: usize = 64;

/// How long an idle connection is kept, unless EC2 closes it earlier: hyper-util's own default, said
/// here since warm connections hang on it. The reads that keep them warm come every 10 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// A new client with its own pool. It keeps one pool for each pair of connect and read timeouts
/// (aws-smithy-http-client's `CacheKey`), so whoever shall share connections must share timeouts.
pub fn http_client() -> SharedHttpClient {
    bounded(
        aws_smithy_http_client::Builder::new()
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_MAX)
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https(),
    )
}

/// Nothing reaches the SDK but through this.
pub(super) fn bounded(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Bounded(client))
}

/// Cuts every answer at [`ANSWER_MAX_BYTES`]: the SDK collects an answer without a bound.
#[derive(Debug)]
struct Bounded(SharedHttpClient);

impl HttpClient for Bounded {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedConnector(self.0.http_connector(settings, components)))
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        cfg: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.validate_base_client_config(components, cfg)
    }

    fn validate_final_config(&self, components: &RuntimeComponents, cfg: &ConfigBag) -> Result<(), BoxError> {
        self.0.validate_final_config(components, cfg)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

#[derive(Debug)]
struct BoundedConnector(SharedHttpConnector);

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let narrow = Narrow::of(&request);
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            fault!(wait "vpc.connect");
            let mut answer = answer.await?;
            fault!(wait "vpc.head");
            let body = mem::replace(answer.body_mut(), SdkBody::taken());
            *answer.body_mut() = match narrow {
                Some(narrow) => narrow.read(body).await?,
                None => SdkBody::from_body_1_x(Limited::new(body, ANSWER_MAX_BYTES)),
            };
            Ok(answer)
        })
    }
}

/// Answers of IMDS of which the SDK makes its next request, and panics where they fit into none.
#[derive(Clone, Copy, Debug)]
enum Narrow {
    /// Becomes a header.
    Token,
    /// Becomes a part of a path.
    RoleName,
}

impl Narrow {
    fn of(request: &HttpRequest) -> Option<Self> {
        let path = request.uri().split('?').next().unwrap_or_default();
        // EC2 and STS are asked by POST.
        match request.method() {
            "PUT" => Some(Narrow::Token),
            "GET" if path.contains("/security-credentials") && path.ends_with('/') => Some(Narrow::RoleName),
            _ => None,
        }
    }

    async fn read(self, body: SdkBody) -> Result<SdkBody, ConnectorError> {
        let unusable = |why: BoxError| ConnectorError::other(why, None);
        let bytes = Limited::new(body, NARROW_MAX_BYTES).collect().await.map_err(unusable)?.to_bytes();
        let bytes = bytes.trim_ascii();
        let fits = match self {
            Narrow::Token => bytes.iter().all(u8::is_ascii_graphic),
            // IAM's names (CreateRole, RoleName).
            Narrow::RoleName => bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(b)),
        };
        if !fits {
            return Err(unusable(format!("IMDS' answer is no {self:?}").into()));
        }
        Ok(SdkBody::from(bytes))
    }
}
