//! HAProxy's runtime socket, held open: its end-of-file tells of a death within a millisecond.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::judge::Probe;

/// `prompt` keeps the connection open after an answer, and `set timeout cli` keeps HAProxy from
/// closing it as idle after 10 s (HAProxy's management guide, section 9.3). A day is longer than
/// any interval.
const GREETING: &[u8] = b"prompt; set timeout cli 1d\n";

/// Asked in each probe. It needs the lowest level (`user`), goes through HAProxy's own event loop,
/// and says whether the process is an old one on its way out.
const QUESTION: &[u8] = b"show info\n";

/// The waits between the attempts to connect: a reload that replaces the socket's file leaves a
/// moment in which nobody listens. Three attempts within 7 ms, since each millisecond is one of the
/// clients' outage; HAProxy binds anew before it ends the old process, so that mostly one would do.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(5)];

/// An answer is about 3 KiB (HAProxy 2.6); what is 20 times that is no answer.
const MAX_ANSWER: usize = 64 * 1024;

/// Unasked bytes between two probes: a prompt's few, not a stream.
const MAX_UNASKED: usize = 4 * 1024;

/// The check by HAProxy's runtime socket.
pub(super) struct RuntimeSocket {
    path: PathBuf,
    timeout: Duration,
    held: Option<Held>,
}

struct Held {
    stream: UnixStream,
    /// Of the answer that is awaited.
    heard: Vec<u8>,
    /// Whether a question is unanswered. Then the next probe awaits that answer instead of asking
    /// again, so that a frozen HAProxy does not wake up to a heap of questions.
    asked: bool,
}

/// How an exchange over one connection ended.
enum Exchange {
    /// Its process serves.
    Serves,
    /// Its process is an old one that ends once its connections have (a reload).
    Stopping,
    Closed,
    NotHaproxy,
}

/// What the bytes heard so far are.
#[derive(PartialEq, Eq, Debug)]
enum Answer {
    Partial,
    Serves,
    Stopping,
    NotHaproxy,
}

impl RuntimeSocket {
    pub(super) fn new(path: PathBuf, timeout: Duration) -> Self {
        Self { path, timeout, held: None }
    }

    /// Returns when the held connection closes; never where none is held. Cancel-safe.
    pub(super) async fn closed(&mut self) {
        let Some(held) = &mut self.held else {
            return pending().await;
        };
        let mut unasked = 0;
        let mut bytes = [0; 512];
        loop {
            match held.stream.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(n) if held.asked => held.keep(bytes.get(..n).unwrap_or_default()),
                Ok(n) => unasked += n,
            }
            if unasked > MAX_UNASKED || held.heard.len() > MAX_ANSWER {
                // Not HAProxy: the next probe looks afresh.
                self.held = None;
                return pending().await;
            }
        }
    }

    /// One probe, within the timeout.
    pub(super) async fn probe(&mut self) -> Probe {
        match timeout(self.timeout, self.look()).await {
            Ok(probe) => probe,
            Err(_elapsed) => self.no_answer(),
        }
    }

    async fn look(&mut self) -> Probe {
        let was_held = self.held.is_some();
        if let Some(held) = &mut self.held {
            match held.exchange().await {
                Exchange::Serves => return Probe::Passed,
                Exchange::NotHaproxy => return self.not_haproxy(),
                // Letting go matters: this very connection would keep an old process from ending.
                Exchange::Stopping | Exchange::Closed => self.held = None,
            }
        }
        // What closed may be a reload or a death: whether someone answers now tells them apart.
        let mut probe = self.open(was_held).await;
        for pause in AGAIN_AFTER {
            if matches!(probe, Probe::Passed | Probe::Mute(_)) {
                break;
            }
            sleep(pause).await;
            probe = self.open(was_held).await;
        }
        probe
    }

    /// A new connection and its first answer.
    async fn open(&mut self, was_held: bool) -> Probe {
        let mut stream = match UnixStream::connect(&self.path).await {
            Ok(stream) => stream,
            Err(error) => return self.unreachable(&error, was_held),
        };
        if stream.write_all(GREETING).await.is_err() {
            return Probe::Failed(self.says("closes each connection at once"));
        }
        let held = self.held.insert(Held { stream, heard: Vec::new(), asked: false });
        match held.exchange().await {
            Exchange::Serves => Probe::Passed,
            // It took this connection just before it stopped listening. Someone answers; who, the
            // next probe will see.
            Exchange::Stopping => {
                self.held = None;
                Probe::Passed
            }
            Exchange::Closed => {
                self.held = None;
                Probe::Failed(self.says("closes each connection without an answer"))
            }
            Exchange::NotHaproxy => self.not_haproxy(),
        }
    }

    fn unreachable(&self, error: &io::Error, was_held: bool) -> Probe {
        let what = if was_held { "closed, and connecting again failed" } else { "connecting failed" };
        let why = self.says(&format!("{what}: {error}"));
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Probe::Absent(why),
            // connect(2) on a Unix socket: EAGAIN while the backlog is full. It listens, but takes
            // nothing.
            ErrorKind::WouldBlock => Probe::Failed(self.says("listens, but takes no connection")),
            _ => Probe::Mute(why),
        }
    }

    fn no_answer(&self) -> Probe {
        Probe::Failed(self.says(&format!("no answer within {} ms", self.timeout.as_millis())))
    }

    fn not_haproxy(&mut self) -> Probe {
        self.held = None;
        Probe::Mute(self.says("what answers is not HAProxy's runtime socket"))
    }

    fn says(&self, what: &str) -> String {
        format!("runtime socket {}: {what}", self.path.display())
    }
}

impl Held {
    /// Asks, unless a question is open, and reads until the answer is whole. Cancel-safe: what was
    /// heard is kept, and a question is marked as asked before its first byte leaves.
    async fn exchange(&mut self) -> Exchange {
        if !self.asked {
            self.asked = true;
            self.heard.clear();
            if self.stream.write_all(QUESTION).await.is_err() {
                return Exchange::Closed;
            }
        }
        let mut bytes = [0; 4096];
        loop {
            match understand(&self.heard) {
                Answer::Partial if self.heard.len() <= MAX_ANSWER => {}
                Answer::Partial | Answer::NotHaproxy => return Exchange::NotHaproxy,
                Answer::Serves => return self.answered(Exchange::Serves),
                Answer::Stopping => return self.answered(Exchange::Stopping),
            }
            match self.stream.read(&mut bytes).await {
                Ok(0) | Err(_) => return Exchange::Closed,
                Ok(n) => self.keep(bytes.get(..n).unwrap_or_default()),
            }
        }
    }

    fn answered(&mut self, exchange: Exchange) -> Exchange {
        self.asked = false;
        self.heard.clear();
        exchange
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
    }
}

/// How the answer to `show info` begins, and what may stand before it.
const NAME: &str = "Name: ";
const PROMPT: [char; 4] = ['\r', '\n', '>', ' '];

/// An answer to `show info` begins with `Name: ` and ends with an empty line (management guide,
/// section 9.3); prompts may stand before and after.
fn understand(heard: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(heard);
    let text = text.trim_start_matches(PROMPT);
    if !text.starts_with(NAME) {
        return if NAME.starts_with(text) { Answer::Partial } else { Answer::NotHaproxy };
    }
    match text.split_once("\n\n") {
        None => Answer::Partial,
        Some((info, _)) if info.lines().any(|line| line == "Stopping: 1") => Answer::Stopping,
        Some(_) => Answer::Serves,
    }
}

#[cfg(any(test, fuzzing))]
pub mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_understood_at_every_cut() {
        let serves = "\n> \n> Name: HAProxy\nPid: 7\nStopping: 0\nnode: a\n\n> ";
        let whole = serves.find("\n\n> ").unwrap() + 2;
        for cut in 0..=serves.len() {
            let expected = if cut < whole { Answer::Partial } else { Answer::Serves };
            assert_eq!(understand(&serves.as_bytes()[..cut]), expected, "{cut}");
        }
        for (heard, expected) in [
            ("Name: HAProxy\nStopping: 1\n\n> ", Answer::Stopping),
            ("Name: HAProxy\nStopping: 10\n\n", Answer::Serves),
            ("Unknown command.\n\n> ", Answer::NotHaproxy),
            ("HTTP/1.1 400 Bad Request\r\n\r\n", Answer::NotHaproxy),
            ("Na\n", Answer::NotHaproxy),
            ("\u{0}", Answer::NotHaproxy),
        ] {
            assert_eq!(understand(heard.as_bytes()), expected, "{heard}");
        }
        assert_eq!(understand(&[0xff, 0xfe]), Answer::NotHaproxy);
    }
}
