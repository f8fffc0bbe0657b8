//! What a stranger does to a port. Each is bounded in time and number, and says how often it did it.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2, NO_WINDOW, RST_STREAM, frame, headers,
};
use super::wire::{Target, Way, Wire, short_on_time};
use crate::lab::BOUND;

/// A path that each port serves.
pub const APPEND: &str = "/vipd.v1.Peer/Append";
pub const STATUS: &str = "/vipd.v1.Admin/GetStatus";

/// Paths where a message without a field is refused: it is of nobody, and a viewer gives no orders.
pub const JOIN: &str = "/vipd.v1.Peer/Join";
pub const ORDER: &str = "/vipd.v1.Admin/Order";
pub const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// One where names are told.
pub const HELLO: &str = "/vipd.v1.Peer/Hello";

fn ends(bound: Duration) -> impl Fn() -> bool {
    let end = Instant::now() + bound;
    move || Instant::now() >= end
}

/// Messages that are announced with 4 GiB, all that gRPC's prefix holds, in a body of 5 GB; then bytes,
/// as long as the server takes them. How many bytes were sent, and how many of the messages the server has refused.
pub fn huge(Target { way, path, .. }: &Target, bound: Duration) -> (u64, u64) {
    let (over, mut sent, mut refused) = (ends(bound), 0, 0);
    while !over() {
        let Some(mut connection) = Http2::open(way) else { continue };
        let head = headers(path, Some(5_000_000_000));
        connection.send(&frame(HEADERS, END_HEADERS, 1, &head));
        connection.send(&frame(DATA, 0, 1, &[0, 0xff, 0xff, 0xff, 0xff]));
        let filler = frame(DATA, 0, 1, &[7; 16_000]);
        while !over() && !connection.gone && connection.ended.is_empty() {
            if connection.window.min(connection.first) >= 16_000 {
                connection.window -= 16_000;
                connection.first -= 16_000;
                connection.send(&filler);
                sent += 16_000;
            }
            connection.look(Duration::ZERO);
            let granted: i64 = connection.granted.drain(..).map(|(_, more)| more).sum();
            connection.first += granted;
        }
        refused += connection.met(2);
    }
    (sent, refused)
}

/// Messages of nearly the size that is allowed, on as many streams as there may be, none of them ever
/// whole. How many bytes were sent.
pub fn hoard(Target { way, path, .. }: &Target, size: u32, connections: usize, bound: Duration) -> u64 {
    let (over, mut sent) = (ends(bound), 0);
    let mut all: Vec<(Http2, BTreeMap<u32, (i64, i64)>, u32)> = Vec::new();
    let prefix = [&[0][..], &size.to_be_bytes()].concat();
    while !over() {
        all.retain(|(connection, ..)| !connection.gone);
        if all.len() < connections
            && let Some(connection) = Http2::open(way)
        {
            all.push((connection, BTreeMap::new(), 1));
        }
        for (connection, streams, next) in &mut all {
            for _ in 0..8 {
                if streams.len() < 64 && connection.window >= 5 {
                    connection.send(&frame(HEADERS, END_HEADERS, *next, &headers(path, None)));
                    connection.send(&frame(DATA, 0, *next, &prefix));
                    connection.window -= 5;
                    streams.insert(*next, (connection.first - 5, i64::from(size) - 1));
                    *next += 2;
                }
            }
            for (id, (window, left)) in streams.iter_mut() {
                let some = connection.window.min(*window).min(*left).min(16_000);
                if some > 0 {
                    connection.send(&frame(DATA, 0, *id, &vec![7; usize::try_from(some).unwrap()]));
                    connection.window -= some;
                    *window -= some;
                    *left -= some;
                    sent += some.unsigned_abs();
                }
            }
            connection.look(Duration::ZERO);
            for (id, more) in std::mem::take(&mut connection.granted) {
                streams.entry(id).and_modify(|(window, _)| *window += more);
            }
            for id in std::mem::take(&mut connection.ended) {
                streams.remove(&id);
            }
        }
    }
    sent
}

/// Streams that the server carries out to their end, as many at once as it allows on each of a few
/// connections. How many it has ended.
pub fn whole_streams(target: &Target, body: Body, most: u64, bound: Duration) -> u64 {
    const CONNECTIONS: usize = 8;
    let (over, mut ended) = (ends(bound), 0);
    let head = headers(target.path, None);
    // Each with how many streams are open, and the next one's number.
    let mut all: Vec<(Http2, usize, u32)> = Vec::new();
    while !over() && ended < most {
        all.retain(|(connection, _, next)| !connection.gone && *next < 0x7fff_0000);
        if all.len() < CONNECTIONS
            && let Some(connection) = Http2::open(&target.way)
        {
            all.push((connection, 0, 1));
        }
        for (connection, open, next) in &mut all {
            let mut batch = Vec::new();
            while *open < target.at_once {
                batch.extend(body.stream(*next, &head));
                *next += 2;
                *open += 1;
            }
            connection.send(&batch);
            connection.look(Duration::ZERO);
            let done = connection.ended.len();
            connection.ended.clear();
            *open -= done.min(*open);
            ended += u64::try_from(done).unwrap();
        }
    }
    ended
}

/// The same message, whole, on two streams of a connection at once, which is all that is received at a time; then nothing
/// is read any more, on as many connections as there are places. How many streams the server says that it has ended, when
/// it is read again.
pub fn unheard(Target { way, path, .. }: &Target, message: &[u8], bound: Duration) -> u64 {
    const PLACES: usize = 16;
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let whole = [&[0][..], &length, message].concat();
    let (head, last) = (headers(path, None), whole.len() - 1);
    let (over, mut ended) = (ends(bound), 0);
    let mut held: VecDeque<Http2> = VecDeque::new();
    while !over() {
        if held.len() == PLACES {
            ended += held.pop_front().map_or(0, read_again);
        }
        let Some(mut connection) = Http2::open(way) else { continue };
        // Each with what may be sent on it, and what was.
        let mut streams = BTreeMap::from([1, 3].map(|id| (id, (connection.first, 0))));
        streams.keys().for_each(|id| connection.send(&frame(HEADERS, END_HEADERS, *id, &head)));
        let unsent = |streams: &BTreeMap<u32, (i64, usize)>| streams.values().any(|(_, at)| *at < last);
        while !over() && !connection.gone && connection.ended.is_empty() && unsent(&streams) {
            for (id, (window, at)) in &mut streams {
                // One byte of each is for the end.
                let room = (connection.window - 2).min(*window - 1).clamp(0, 16_000);
                let some = usize::try_from(room).unwrap().min(last - *at);
                if some > 0 {
                    connection.send(&frame(DATA, 0, *id, &whole[*at..*at + some]));
                    connection.window -= i64::try_from(some).unwrap();
                    *window -= i64::try_from(some).unwrap();
                    *at += some;
                }
            }
            connection.look(Duration::ZERO);
            for (id, more) in std::mem::take(&mut connection.granted) {
                streams.entry(id).and_modify(|(window, _)| *window += more);
            }
        }
        if !unsent(&streams) {
            let ends = streams.keys().map(|id| frame(DATA, END_STREAM, *id, &whole[last..]));
            connection.send(&ends.collect::<Vec<_>>().concat());
        }
        held.push_back(connection);
    }
    ended + held.into_iter().map(read_again).sum::<u64>()
}

fn read_again(mut connection: Http2) -> u64 {
    let waited = ends(BOUND);
    while connection.ended.len() < 2 && !connection.gone && !waited() {
        connection.look(Duration::from_millis(20));
    }
    u64::try_from(connection.ended.len()).unwrap()
}

/// So many connections that say the same and close, for as long as it takes up to the bound. How many.
pub fn closed(way: &Way, first: &[u8], count: u64, bound: Duration) -> u64 {
    let (over, mut opened) = (ends(bound), 0);
    while opened < count && !over() {
        let said = way.open().is_some_and(|mut wire| wire.write_all(first).is_ok());
        opened += u64::from(said);
    }
    opened
}

/// Whole requests whose answers nobody takes, as many as the port allows. How many.
pub fn untaken(target: &Target, connections: usize, bound: Duration) -> u64 {
    let (over, mut asked) = (ends(bound), 0);
    let head = headers(target.path, None);
    let mut all: Vec<Http2> = Vec::new();
    while !over() {
        all.retain(|connection| !connection.gone);
        if all.len() < connections
            && let Some(mut connection) = Http2::knock(&target.way, &NO_WINDOW)
        {
            for next in (1..).step_by(2).take(target.at_once) {
                connection.send(&Body::Empty.stream(next, &head));
                asked += 1;
            }
            all.push(connection);
        }
        all.iter_mut().for_each(|connection| connection.look(Duration::ZERO));
    }
    asked
}

/// What follows a request's headers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing: it is refused for that.
    None,
    /// A message without a field, which is one of each kind.
    Empty,
}

impl Body {
    fn stream(self, id: u32, head: &[u8]) -> Vec<u8> {
        match self {
            Body::None => frame(HEADERS, END_HEADERS | END_STREAM, id, head),
            Body::Empty => {
                [frame(HEADERS, END_HEADERS, id, head), frame(DATA, END_STREAM, id, &[0; 5])].concat()
            }
        }
    }
}

/// Streams that are opened and left open, or reset at once: how many, of how many the server itself says that it has met
/// them, on how many connections.
pub fn streams(target: &Target, reset: Reset, most: u64, bound: Duration) -> (u64, u64, u64) {
    let (over, mut opened, mut met, mut connections) = (ends(bound), 0, 0, 0);
    let head = headers(target.path, None);
    while !over() && met < most {
        let Some(mut connection) = Http2::knock(&target.way, &[]) else { continue };
        connections += 1;
        let mut next = 1;
        while !over() && !connection.gone && met + connection.met(next) < most && next < 0x7fff_0000 {
            let mut batch = Vec::new();
            for _ in 0..100 {
                batch.extend(frame(HEADERS, END_HEADERS, next, &head));
                if reset == Reset::AtOnce {
                    batch.extend(frame(RST_STREAM, 0, next, &8_u32.to_be_bytes()));
                }
                next += 2;
            }
            opened += 100;
            connection.send(&batch);
            connection.look(Duration::ZERO);
        }
        met += connection.met(next);
    }
    (opened, met, connections)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    AtOnce,
    Never,
}

/// Headers that never end, a few bytes at a time, on many connections. How many frames.
pub fn slow_headers(Target { way, .. }: &Target, connections: usize, bound: Duration) -> u64 {
    let (over, mut frames) = (ends(bound), 0);
    let mut all: Vec<Http2> = Vec::new();
    while !over() {
        all.retain(|connection| !connection.gone);
        if all.len() < connections
            && let Some(mut connection) = Http2::open(way)
        {
            connection.send(&frame(HEADERS, 0, 1, &[0x83, 0x86]));
            all.push(connection);
        }
        for connection in &mut all {
            // A header that no table knows: x: xxxxxxxx
            let more = [&[0x00, 1, b'x', 8][..], b"xxxxxxxx"].concat();
            connection.send(&frame(CONTINUATION, 0, 1, &more));
            frames += 1;
        }
        if let Some(first) = all.first_mut() {
            first.look(Duration::from_millis(5));
        }
    }
    frames
}

/// Connections that say the beginning of something and then nothing, kept open until the end. How many
/// were opened, and how many of them the server has not closed a moment later, where it should bear `bear`.
pub fn half_handshakes(way: &Way, first: &[u8], most: usize, bear: usize, bound: Duration) -> (usize, usize) {
    let over = ends(bound);
    let (mut held, mut opened) = (Vec::new(), 0);
    while !over() && opened < most {
        let Some(mut wire) = way.open() else { continue };
        if wire.write_all(first).is_err() {
            continue;
        }
        wire.do_not_wait();
        held.push(wire);
        opened += 1;
        // A process has only so many descriptors: what the server has closed is let go of.
        if held.len() >= 4_000 {
            held.retain_mut(Wire::is_open);
        }
    }
    // The last of them wait to be accepted. That it is their number which closes them, and not a deadline, is told by the
    // member's descriptors meanwhile (`ward.rs`).
    let waited = ends(BOUND);
    held.retain_mut(Wire::is_open);
    while held.len() > bear && !waited() {
        std::thread::sleep(Duration::from_millis(20));
        held.retain_mut(Wire::is_open);
    }
    (opened, held.len())
}

/// Requests of HTTP/1 whose head never ends, on many connections: a line at a time, or as fast as the server takes
/// them. How many bytes were sent.
pub fn heads(way: &Way, pace: Pace, connections: usize, bound: Duration) -> u64 {
    let line = match pace {
        Pace::Slow => "x: y\r\n".to_owned(),
        Pace::Fast => "x".repeat(4096),
    };
    pour(way, b"GET /metrics HTTP/1.1\r\nhost: vipd\r\n", line.as_bytes(), pace, connections, bound)
}

/// Whole requests of HTTP/1, one after the other, whose answers nobody reads. How many bytes were sent.
pub fn unread(way: &Way, connections: usize, bound: Duration) -> u64 {
    let request = b"GET /metrics HTTP/1.1\r\nhost: vipd\r\n\r\n";
    pour(way, request, request, Pace::Fast, connections, bound)
}

fn pour(way: &Way, first: &[u8], more: &[u8], pace: Pace, connections: usize, bound: Duration) -> u64 {
    let (over, mut sent) = (ends(bound), 0);
    let mut all: Vec<Wire> = Vec::new();
    while !over() {
        // A reset is what tells: what the server has said is not read.
        all.retain_mut(|wire| match wire.write(more) {
            Ok(n) => {
                sent += u64::try_from(n).unwrap();
                true
            }
            Err(error) => short_on_time(&error),
        });
        if all.len() < connections
            && let Some(mut wire) = way.open()
            && wire.write_all(first).is_ok()
        {
            wire.do_not_wait();
            all.push(wire);
        }
        if pace == Pace::Slow && all.len() >= connections {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    sent
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Slow,
    Fast,
}
