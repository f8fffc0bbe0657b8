//! The HTTP check: one GET over a new connection.

use std::error::Error;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::judge::Probe;

/// The head of an answer to a health check; hyper's own bound is 400 KiB.
const MAX_HEAD: usize = 16 * 1024;

/// Where an HTTP check asks. Made only from an absolute `http://` URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    host: String,
    port: u16,
    /// As the Host header shows it.
    authority: HeaderValue,
    path: Uri,
}

/// Why a text is no URL for an HTTP check.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    #[error("\"{0}\" is not a URL: it looks like http://127.0.0.1:8404/healthz")]
    Malformed(String),
    #[error("\"{0}\" does not begin with http://: the check runs on this host and speaks plain HTTP")]
    NotHttp(String),
    #[error("\"{0}\" has a user or password: the check sends none")]
    UserInfo(String),
}

impl FromStr for Target {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed(text.to_owned());
        let url: Uri = text.parse().map_err(|_| malformed())?;
        if url.scheme_str() != Some("http") {
            return Err(UrlError::NotHttp(text.to_owned()));
        }
        let authority = url.authority().ok_or_else(malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInfo(text.to_owned()));
        }
        let host = authority.host();
        // A port that is no number, or a bare colon, is none to hyper's Uri.
        if host.is_empty() || (authority.port_u16().is_none() && authority.as_str() != host) {
            return Err(malformed());
        }
        // Resolving takes an IPv6 address without its brackets.
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            host: bare.to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| malformed())?,
            path: path.parse().map_err(|_| malformed())?,
        })
    }
}

/// The check by HTTP.
pub(super) struct HttpCheck {
    url: String,
    timeout: Duration,
    target: Result<Target, UrlError>,
}

#[derive(Debug, thiserror::Error)]
enum GetError {
    #[error("connecting failed: {0}")]
    Connect(#[source] std::io::Error),
    #[error("no HTTP answer: {}", with_sources(.0))]
    Exchange(#[source] hyper::Error),
    #[error("the request could not be made: {0}")]
    Request(#[source] hyper::http::Error),
}

/// hyper's errors say what failed; why, only their sources.
fn with_sources(error: &hyper::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

impl HttpCheck {
    pub(super) fn new(url: &str, timeout: Duration) -> Self {
        Self { url: url.to_owned(), timeout, target: url.parse() }
    }

    /// One GET, within the timeout from the first packet to the head of the answer. 200 to 399
    /// passes, as in HAProxy's own `option httpchk`.
    pub(super) async fn probe(&self) -> Probe {
        let target = match &self.target {
            Ok(target) => target,
            Err(error) => return Probe::Mute(self.says(&error.to_string())),
        };
        match tokio::time::timeout(self.timeout, get(target)).await {
            Ok(Ok(status)) if (200..400).contains(&status.as_u16()) => Probe::Passed,
            Ok(Ok(status)) => Probe::Failed(self.says(&format!("answers {}", status.as_u16()))),
            Ok(Err(error)) => Probe::Failed(self.says(&error.to_string())),
            Err(_elapsed) => {
                Probe::Failed(self.says(&format!("no answer within {} ms", self.timeout.as_millis())))
            }
        }
    }

    fn says(&self, what: &str) -> String {
        format!("http check {}: {what}", self.url)
    }
}

/// The status of the answer. Its body is not read: the connection is dropped with it.
async fn get(target: &Target) -> Result<StatusCode, GetError> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(GetError::Connect)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(GetError::Exchange)?;
    let request = Request::get(target.path.clone())
        .header(HOST, target.authority.clone())
        .header(USER_AGENT, concat!("vipd/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(GetError::Request)?;
    let answer = match select(pin!(sender.send_request(request)), pin!(connection)).await {
        Either::Left((answer, _connection)) => answer,
        // The connection may end with the answer already delivered.
        Either::Right((_ended, answer)) => answer.await,
    };
    Ok(answer.map_err(GetError::Exchange)?.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_plain_http_url() {
        for (url, host, port, authority, path) in [
            ("http://127.0.0.1:8404/healthz", "127.0.0.1", 8404, "127.0.0.1:8404", "/healthz"),
            ("http://localhost", "localhost", 80, "localhost", "/"),
            ("http://[::1]:8404/a?b=c", "::1", 8404, "[::1]:8404", "/a?b=c"),
        ] {
            let target: Target = url.parse().unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{url}");
            assert_eq!(
                (target.authority.to_str().unwrap(), target.path.to_string().as_str()),
                (authority, path)
            );
        }
        for bad in [
            "",
            "/healthz",
            "127.0.0.1:8404",
            "https://127.0.0.1/",
            "http://",
            "http:///x",
            "http://a b/",
            "http://a:99999/",
            "http://a:/",
            "http://u:p@a/",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
