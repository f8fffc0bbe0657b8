//! The client: a new connection to the VIP every few milliseconds, and what became of each.

mod report;
mod spread;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

pub use report::{Outage, Report};
pub use spread::Spread;

use crate::clock::boot_ns;
use crate::ns;
use crate::spec::{Spec, VIP_PORT};

/// A SYN that is lost is sent again after a second; this client does not wait for that.
const CONNECT: Duration = Duration::from_millis(500);
/// HAProxy answers by itself, within a millisecond.
const ANSWER: Duration = Duration::from_secs(1);
/// More than the 300 that hang at once when all connects time out at 5 ms and are tried again.
const MOST_IN_FLIGHT: usize = 512;
/// A request whose end is longer in coming has been counted by its own timeouts.
const LAST_ANSWERS: Duration = Duration::from_secs(4);
/// The answer is some hundred bytes.
const LONGEST_ANSWER: u64 = 4096;

/// What to ask, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    target: SocketAddr,
    every: Duration,
    lasting: Duration,
}

impl Plan {
    /// Requests to the lab's first VIP.
    pub fn new(spec: &Spec, every: Duration, lasting: Duration) -> anyhow::Result<Self> {
        let ip = spec.vip_ip().parse().context("the lab's VIP is no address")?;
        Ok(Self { target: SocketAddr::new(ip, VIP_PORT), every, lasting })
    }
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// Nobody listens.
    Refused,
    /// The network says that there is no way.
    Unreachable,
    /// No SYN-ACK within 500 ms.
    ConnectTimeout,
    /// The connection stood and was reset or closed before the answer.
    Reset,
    /// The connection stood; no answer within a second.
    AnswerTimeout,
    /// Something else than a member's name came back.
    BadAnswer,
    /// Not sent: too many were in flight, or the client had no socket.
    NotSent,
}

impl Failure {
    /// Such a connection was open when the fault came; it is tried again at once.
    fn was_open(self) -> bool {
        matches!(self, Self::Reset | Self::AnswerTimeout | Self::BadAnswer)
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// CLOCK_BOOTTIME before the connect.
    pub start_ns: u64,
    /// When its outcome was known.
    pub end_ns: u64,
    /// The member that answered.
    pub result: Result<String, Failure>,
    /// For a connection that stood and broke: who answered the immediate second try.
    pub retry: Option<Result<String, Failure>>,
    /// When the outcome of that was known; without one, `end_ns`.
    pub over_ns: u64,
}

/// Some ten times what a request takes on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(50);

impl Sample {
    /// Its connection stood when the VIP moved and was reset at once, and an immediate second try was answered as soon:
    /// a client that tries again notices nothing. One that hung until the move reset it is not of these.
    pub fn broke_and_recovered(&self) -> bool {
        let at_once = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from)) < AT_ONCE;
        self.result == Err(Failure::Reset)
            && self.retry.as_ref().is_some_and(Result::is_ok)
            && at_once(self.start_ns, self.end_ns)
            && at_once(self.end_ns, self.over_ns)
    }
}

/// The requests so far; shared with whoever watches.
#[derive(Clone, Debug, Default)]
pub struct Samples(Arc<Mutex<Vec<Sample>>>);

impl Samples {
    /// Those that have ended, in the order in which they started.
    pub fn all(&self) -> Vec<Sample> {
        let mut all = self.lock().clone();
        all.sort_by_key(|sample| sample.start_ns);
        all
    }

    /// How many have ended.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn push(&self, sample: Sample) {
        self.lock().push(sample);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs on the calling thread, which moves into the namespace for good. Ends after the plan's time, or when `stop`
/// becomes true or its sender goes. `on` is made with the first answer.
pub fn run(
    ns: &str,
    plan: &Plan,
    samples: &Samples,
    on: Option<&Path>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    ns::enter(ns)?;
    runtime()?.block_on(drive(plan, samples, on, stop));
    Ok(())
}

/// As `run`; SIGINT and SIGTERM end it early.
pub fn run_until_signal(ns: &str, plan: &Plan, samples: &Samples, on: Option<&Path>) -> anyhow::Result<()> {
    ns::enter(ns)?;
    runtime()?.block_on(async {
        let (mut interrupt, mut end) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! { _ = interrupt.recv() => {}, _ = end.recv() => {} }
            stop.send_replace(true);
            stop.closed().await;
        });
        drive(plan, samples, on, stopped).await;
        Ok(())
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn drive(plan: &Plan, samples: &Samples, on: Option<&Path>, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(MOST_IN_FLIGHT));
    let mut ticks = interval(plan.every);
    // A client that was held up does not make up for it in a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut announce = on;
    let deadline = tokio::time::sleep(plan.lasting);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            () = &mut deadline => break,
            _ = ticks.tick() => {}
        }
        if let Some(path) = announce
            && samples.lock().iter().any(|sample| sample.result.is_ok())
        {
            announce = None;
            let _ = std::fs::write(path, "");
        }
        let start_ns = boot_ns();
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            let (result, retry) = (Err(Failure::NotSent), None);
            samples.push(Sample { start_ns, end_ns: start_ns, result, retry, over_ns: start_ns });
            continue;
        };
        let (target, samples) = (plan.target, samples.clone());
        tokio::spawn(async move {
            let result = request(target).await;
            let end_ns = boot_ns();
            let retry = match &result {
                Err(failure) if failure.was_open() => Some(request(target).await),
                Ok(_) | Err(_) => None,
            };
            let over_ns = if retry.is_some() { boot_ns() } else { end_ns };
            samples.push(Sample { start_ns, end_ns, result, retry, over_ns });
            drop(slot);
        });
    }
    let all = u32::try_from(MOST_IN_FLIGHT).unwrap_or(u32::MAX);
    let _ = timeout(LAST_ANSWERS, slots.acquire_many(all)).map(drop).await;
}

/// One connection, one GET. HTTP/1.0, so that HAProxy closes and the client keeps no port in TIME-WAIT.
async fn request(target: SocketAddr) -> Result<String, Failure> {
    let mut stream = match timeout(CONNECT, TcpStream::connect(target)).await {
        Err(_) => return Err(Failure::ConnectTimeout),
        Ok(Err(error)) => return Err(refused(&error)),
        Ok(Ok(stream)) => stream,
    };
    let talk = async {
        stream.write_all(format!("GET / HTTP/1.0\r\nHost: {target}\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        (&mut stream).take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match timeout(ANSWER, talk).await {
        Err(_) => Err(Failure::AnswerTimeout),
        Ok(Err(_)) => Err(Failure::Reset),
        Ok(Ok(answer)) if answer.is_empty() => Err(Failure::Reset),
        Ok(Ok(answer)) => member(&answer).ok_or(Failure::BadAnswer),
    }
}

fn refused(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Refused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Failure::Reset,
        ErrorKind::TimedOut => Failure::ConnectTimeout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Failure::Unreachable,
        _ => Failure::NotSent,
    }
}

/// The body of a 200.
fn member(answer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    let name = body.trim();
    (status == "200" && name.starts_with("az-")).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_counts_apart_if_it_came_at_once_and_the_second_try_was_answered() {
        let reset = |ms: u64, retry| {
            let end_ns = 1_000_000_000 + ms * 1_000_000;
            Sample { start_ns: 1_000_000_000, end_ns, result: Err(Failure::Reset), retry, over_ns: end_ns }
        };
        assert!(reset(2, Some(Ok("az-b".into()))).broke_and_recovered());
        assert!(!reset(600, Some(Ok("az-b".into()))).broke_and_recovered());
        assert!(!reset(2, Some(Err(Failure::Refused))).broke_and_recovered());
        let hung = Sample { result: Err(Failure::AnswerTimeout), ..reset(2, Some(Ok("az-b".into()))) };
        assert!(!hung.broke_and_recovered());
        let again = reset(2, Some(Ok("az-b".into())));
        let late = Sample { over_ns: again.end_ns + 600_000_000, ..again };
        assert!(!late.broke_and_recovered());
    }

    #[tokio::test]
    async fn tells_how_it_failed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let answers: [&[u8]; 3] = [b"HTTP/1.1 200 OK\r\n\r\naz-b\n", b"", b"HTTP/1.1 503 No\r\n\r\naz-b\n"];
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 512];
                let _ = stream.read(&mut head).await;
                stream.write_all(answer).await.unwrap();
            }
        });
        assert_eq!(request(target).await, Ok("az-b".into()));
        assert_eq!(request(target).await, Err(Failure::Reset));
        assert_eq!(request(target).await, Err(Failure::BadAnswer));
        assert!(matches!(request(target).await, Err(Failure::Refused | Failure::Reset)));
    }
}
