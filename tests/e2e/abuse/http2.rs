//! As much of HTTP/2 as an attacker needs (RFC 9113): frames by hand, so that they can be wrong.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::wire::{Way, Wire, short_on_time};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
/// SETTINGS_INITIAL_WINDOW_SIZE, 0: no answer's body is taken.
pub const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What a server lets a client send before it has said anything (section 6.9.2).
const FIRST_WINDOW: i64 = 65_535;

/// After so many bytes of answers the server may send as many more.
const THANKS: u32 = 16 * 1024;

/// One connection.
pub struct Http2 {
    stream: Wire,
    heard: Vec<u8>,
    /// Bytes of answers that the server has not been thanked for.
    taken: u32,
    /// What may still be sent on the connection, and on a stream that is opened now.
    pub window: i64,
    pub first: i64,
    /// Since a look: by stream, what it may send more.
    pub granted: Vec<(u32, i64)>,
    /// Streams that the server has ended.
    pub ended: Vec<u32>,
    /// The last stream that it says it has taken in, once it closes the connection (section 6.8).
    last: Option<u32>,
    pub gone: bool,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a gRPC request in HPACK, without its tables (RFC 7541).
pub fn headers(path: &str, content_length: Option<u64>) -> Vec<u8> {
    let literal =
        |name: &[u8], value: &str| [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    // :method POST, :scheme http, :path, :authority, content-type, te
    let mut block = vec![0x83, 0x86];
    block.extend(literal(&[0x04], path));
    block.extend(literal(&[0x01], "vipd"));
    block.extend(literal(&[0x0f, 0x10], "application/grpc"));
    block.extend(literal(&[0x00, 2, b't', b'e'], "trailers"));
    if let Some(length) = content_length {
        block.extend(literal(&[0x0f, 0x0d], &length.to_string()));
    }
    block
}

impl Http2 {
    /// Once the server has said what it allows. `None` where the connection is refused or closed.
    pub fn open(way: &Way) -> Option<Self> {
        let mut this = Self::knock(way, &[])?;
        this.look(Duration::from_millis(50));
        (!this.gone).then_some(this)
    }

    /// Without waiting for a word of the server's, with settings of ours.
    pub fn knock(way: &Way, settings: &[u8]) -> Option<Self> {
        let stream = way.open()?;
        let (heard, granted, ended) = Default::default();
        let (window, first) = (FIRST_WINDOW, FIRST_WINDOW);
        let (last, gone) = (None, false);
        let mut this = Self { stream, heard, taken: 0, window, first, granted, ended, last, gone };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
        this.send(&[preface, &frame(SETTINGS, 0, 0, settings)].concat());
        (!this.gone).then_some(this)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.gone |= self.stream.write_all(bytes).is_err();
    }

    /// How many of the streams below `next` the server has met, by its own word: those it has ended, or all up to the
    /// last that it took in. For one whose `ended` was left as it is.
    pub fn met(&self, next: u32) -> u64 {
        let taken_in = self.last.filter(|last| *last < next).map_or(0, |last| last.div_ceil(2));
        u64::from(taken_in).max(u64::try_from(self.ended.len()).unwrap())
    }

    /// Takes in what the server says, for so long at most; zero: what is there.
    pub fn look(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        let mut chunk = [0; 16 * 1024];
        loop {
            self.stream.set_patience(end.saturating_duration_since(Instant::now()));
            match self.stream.read(&mut chunk) {
                Ok(0) => self.gone = true,
                Ok(n) => self.heard.extend_from_slice(&chunk[..n]),
                Err(error) if short_on_time(&error) => {}
                Err(_) => self.gone = true,
            }
            while self.take_frame() {}
            if self.gone || Instant::now() >= end {
                return;
            }
        }
    }

    fn take_frame(&mut self) -> bool {
        let Some(head) = self.heard.first_chunk::<9>().copied() else { return false };
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        if self.heard.len() < 9 + length {
            return false;
        }
        let payload: Vec<u8> = self.heard.drain(..9 + length).skip(9).collect();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let number = |at: usize| {
            let four = payload.get(at..at + 4).unwrap_or(&[0; 4]);
            i64::from(u32::from_be_bytes(four.try_into().unwrap()) & 0x7fff_ffff)
        };
        match head[3] {
            DATA => {
                self.taken += u32::try_from(length).unwrap();
                if self.taken >= THANKS {
                    let thanks = frame(WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
                    self.taken = 0;
                    self.send(&thanks);
                }
                if head[4] & END_STREAM != 0 {
                    self.ended.push(stream);
                }
            }
            SETTINGS if head[4] & 1 == 0 => {
                for at in (0..payload.len()).step_by(6) {
                    // SETTINGS_INITIAL_WINDOW_SIZE
                    if payload[at..at + 2] == [0, 4] {
                        self.first = number(at + 2);
                    }
                }
                self.send(&frame(SETTINGS, 1, 0, &[]));
            }
            PING if head[4] & 1 == 0 => self.send(&frame(PING, 1, 0, &payload)),
            WINDOW_UPDATE if stream == 0 => self.window += number(0),
            WINDOW_UPDATE => self.granted.push((stream, number(0))),
            RST_STREAM => self.ended.push(stream),
            HEADERS if head[4] & 1 == 1 => self.ended.push(stream),
            GOAWAY => {
                self.last = u32::try_from(number(0)).ok();
                self.gone = true;
            }
            _ => {}
        }
        true
    }
}
