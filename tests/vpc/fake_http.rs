//! A small HTTP/1.1 server on loopback whose answers a test writes by hand. It counts connections
//! and bytes, and keeps what was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify};

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The form in the body.
    pub form: BTreeMap<String, String>,
}

impl Asked {
    pub fn field(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

pub enum Reply {
    /// Status, further header lines, body.
    Full(u16, Vec<(String, String)>, String),
    /// As `Full`, with a body that need be no text.
    Bytes(u16, Vec<(String, String)>, Vec<u8>),
    /// A body that never ends.
    Endless,
    /// The connection is closed instead of an answer.
    Close,
    /// No answer.
    Hang,
    /// The answer, once as many requests as the barrier says are waiting.
    Together(Arc<Barrier>, Box<Reply>),
}

pub fn xml(body: impl Into<String>) -> Reply {
    let id = ("x-amzn-requestid".to_owned(), "req-1".to_owned());
    Reply::Full(200, vec![id], body.into())
}

pub fn status(status: u16, body: impl Into<String>) -> Reply {
    Reply::Full(status, vec![], body.into())
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

pub struct Fake {
    pub addr: SocketAddr,
    state: Arc<State>,
}

struct State {
    answer: Mutex<Arc<Answer>>,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicU64,
    bytes: AtomicU64,
    changed: Notify,
}

impl Fake {
    pub async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            answer: Mutex::new(Arc::new(answer)),
            asked: Mutex::default(),
            connections: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            changed: Notify::new(),
        });
        let served = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.connections.fetch_add(1, Ordering::SeqCst);
                served.changed.notify_waiters();
                tokio::spawn(serve(stream, Arc::clone(&served)));
            }
        });
        Fake { addr, state }
    }

    pub fn answer(&self, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        *self.state.answer.lock().unwrap() = Arc::new(answer);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::SeqCst)
    }

    /// Waits, at most 10 s, until `condition` holds.
    pub async fn wait(&self, condition: impl Fn(&Fake) -> bool) {
        let wait = async {
            loop {
                let changed = self.state.changed.notified();
                if condition(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("condition within 10 s");
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let mut buffer = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let n = stream.read(&mut chunk).await.unwrap_or(0);
        if n == 0 {
            return;
        }
        state.bytes.fetch_add(n as u64, Ordering::SeqCst);
        buffer.extend_from_slice(&chunk[..n]);
        if let Some((asked, length)) = parse(&buffer) {
            buffer.drain(..length);
            state.asked.lock().unwrap().push(asked.clone());
            state.changed.notify_waiters();
            let answer = Arc::clone(&state.answer.lock().unwrap());
            let mut reply = answer(&asked);
            while let Reply::Together(barrier, then) = reply {
                barrier.wait().await;
                reply = *then;
            }
            if send(&mut stream, reply).await.is_none() {
                return;
            }
        }
    }
}

/// `None`: the connection is to be closed.
async fn send(stream: &mut TcpStream, reply: Reply) -> Option<()> {
    match reply {
        Reply::Full(status, headers, body) => {
            Box::pin(send(stream, Reply::Bytes(status, headers, body.into_bytes()))).await
        }
        Reply::Bytes(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all(&[format!("{head}\r\n").as_bytes(), body.as_slice()].concat()).await.ok()
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await.ok()?;
            // 64 MiB stand for "without end".
            let filler = vec![b' '; 1024 * 1024];
            for _ in 0..64 {
                stream.write_all(&filler).await.ok()?;
            }
            None
        }
        Reply::Hang => std::future::pending().await,
        Reply::Close => None,
        Reply::Together(..) => unreachable!("unpacked before"),
    }
}

/// A whole request and its length in bytes.
fn parse(buffer: &[u8]) -> Option<(Asked, usize)> {
    let head_end = buffer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let mut asked =
        Asked { method: first.next()?.to_owned(), path: first.next()?.to_owned(), ..Asked::default() };
    for line in lines {
        let (name, value) = line.split_once(':')?;
        asked.headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = asked.header("content-length").parse().unwrap_or(0);
    let body = buffer.get(head_end + 4..head_end + 4 + length)?;
    for pair in body.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
        let pair = String::from_utf8_lossy(pair).into_owned();
        let (name, value) = pair.split_once('=')?;
        asked.form.insert(decode(name), decode(value));
    }
    Some((asked, head_end + 4 + length))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        if b == b'%' {
            let hex: Vec<u8> = rest.by_ref().take(2).collect();
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            bytes.push(b);
        }
    }
    String::from_utf8(bytes).unwrap()
}
