//! Frames of HTTP/2, written and read one by one, and a peer that sends what it likes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

use super::flow::Windows;
use super::hpack::{Head, decode};
use crate::support::soon;

/// The bytes that every client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// No more frames of this stream; of SETTINGS and PING: an answer to one.
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

const HEADER_TABLE_SIZE: u16 = 1;
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's length").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A whole head in one frame; the body follows, unless `flags` say that there is none.
pub fn headers(stream: u32, flags: u8, head: &Head) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &head.encode())
}

/// The reset of a stream.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// Room for so many bytes more; stream 0 is the connection.
pub fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// A body in as many frames as it takes, the last of which ends the stream.
pub fn body(stream: u32, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(bytes.len() + bytes.len() / 1000 + 9);
    let mut pieces = bytes.chunks(16 << 10).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_STREAM } else { 0 };
        all.extend(frame(DATA, flags, stream, piece));
    }
    all
}

/// A message of gRPC: flag, length, content.
pub fn message(flag: u8, length: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flag];
    bytes.extend(length.to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

fn settings(window_bytes: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in [(HEADER_TABLE_SIZE, 0), (INITIAL_WINDOW_SIZE, window_bytes)] {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// A frame of the server.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Bytes,
}

impl Frame {
    /// The number at this place of the payload.
    fn number(&self, at: usize) -> u32 {
        self.payload.get(at..).expect("a number in the frame").get_u32()
    }
}

/// The end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By the frame that ends it.
    Whole,
    /// By a reset with this code.
    Reset(u32),
}

/// The answer on a stream.
#[derive(Debug, Default)]
pub struct Answer {
    pub fields: Vec<(String, String)>,
    pub data: Vec<u8>,
    pub end: Option<End>,
}

impl Answer {
    /// The value of a field, the last one if there are more.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().rev().filter(|(found, _)| found == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// The number of the status of gRPC.
    pub fn status(&self) -> Option<i32> {
        self.field("grpc-status").and_then(|text| text.parse().ok())
    }
}

/// The fate of a connection.
#[derive(Debug, Default)]
pub struct Fate {
    /// The code of a GOAWAY.
    pub goaway: Option<u32>,
    /// The server has closed it.
    pub is_closed: bool,
    /// The number of frames that came.
    pub frames: usize,
    /// The number of streams that the server reset.
    pub resets: usize,
}

impl Fate {
    /// The server wants no more of it.
    pub fn is_refused(&self) -> bool {
        self.goaway.is_some() || self.is_closed
    }
}

struct Reader {
    half: OwnedReadHalf,
    buffer: BytesMut,
}

impl Reader {
    /// The next frame; none once the connection is closed.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.whole() {
                return Some(frame);
            }
            if !matches!(self.half.read_buf(&mut self.buffer).await, Ok(1..)) {
                return None;
            }
        }
    }

    fn whole(&mut self) -> Option<Frame> {
        let mut head = self.buffer.get(..9)?;
        let length_and_kind = head.get_u32();
        let length = length_and_kind as usize >> 8;
        let (flags, stream) = (head.get_u8(), head.get_u32());
        self.buffer.get(..9 + length)?;
        self.buffer.advance(9);
        let payload = self.buffer.split_to(length).freeze();
        Some(Frame { kind: length_and_kind.to_be_bytes()[3], flags, stream, payload })
    }
}

/// One end of a connection, in the hand of a test.
pub struct Peer {
    writer: OwnedWriteHalf,
    reader: Reader,
    answers: BTreeMap<u32, Answer>,
    windows: Windows,
    pub fate: Fate,
}

impl Peer {
    /// A connection to `http://ADDRESS` that has said nothing.
    pub async fn silent(endpoint: &str) -> Self {
        Self::silent_from(Ipv4Addr::LOCALHOST, endpoint).await
    }

    /// The same from this address.
    pub async fn silent_from(source: Ipv4Addr, endpoint: &str) -> Self {
        let address = endpoint.strip_prefix("http://").expect("an endpoint");
        let address: SocketAddr = address.parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((source, 0).into()).expect("bound");
        let stream: TcpStream = soon("a connection", socket.connect(address)).await.expect("one");
        let (half, writer) = stream.into_split();
        let reader = Reader { half, buffer: BytesMut::new() };
        let (answers, windows) = (BTreeMap::new(), Windows::default());
        Self { writer, reader, answers, windows, fate: Fate::default() }
    }

    /// A connection that is ready for requests.
    pub async fn connect(endpoint: &str) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST, endpoint, 65_535).await
    }

    /// The same from this address, with so large a window for each stream.
    pub async fn connect_from(source: Ipv4Addr, endpoint: &str, window_bytes: u32) -> Self {
        let mut peer = Self::silent_from(source, endpoint).await;
        peer.send(&[PREFACE, &settings(window_bytes)].concat()).await;
        peer
    }

    /// Sends bytes. That the server has closed the connection is no error, and is seen later.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _closed = soon("a write", self.writer.write_all(bytes)).await;
    }

    /// Sends bytes and takes nothing, until the server has taken none of them for this long, or
    /// has closed the connection.
    pub async fn push(&mut self, bytes: &[u8], timeout: Duration) {
        let mut sent = 0;
        while sent < bytes.len() {
            match tokio::time::timeout(timeout, self.writer.write(&bytes[sent..])).await {
                Ok(Ok(count @ 1..)) => sent += count,
                _ => return,
            }
        }
    }

    /// Sends a request without a body, or with all of it.
    pub async fn request(&mut self, stream: u32, head: &Head, content: &[u8]) {
        let flags = if content.is_empty() { END_STREAM } else { 0 };
        self.send(&[headers(stream, flags, head), body(stream, content)].concat()).await;
    }

    /// Sends bytes and takes what comes meanwhile, until the server has seen them all, or has
    /// closed the connection.
    pub async fn flood(&mut self, bytes: &[u8]) -> &Fate {
        let Self { writer, reader, answers, fate, .. } = self;
        let mark = *b"all seen";
        let writing = async {
            let _closed = writer.write_all(bytes).await;
            let _closed = writer.write_all(&frame(PING, 0, 0, &mark)).await;
        };
        let reading = async {
            while let Some(frame) = reader.next().await {
                note(&frame, answers, fate);
                if frame.kind == PING && frame.flags & ACK != 0 && *frame.payload == mark {
                    return;
                }
            }
            fate.is_closed = true;
        };
        // A server that closes the connection reads no more: then the writing is given up.
        let both = async {
            tokio::pin!(reading);
            tokio::select! {
                () = &mut reading => return,
                () = writing => {}
            }
            reading.await;
        };
        soon("the end of the flood", both).await;
        &self.fate
    }

    /// Takes one frame; none once the connection is closed. Settings and pings are answered.
    pub async fn next(&mut self) -> Option<Frame> {
        let Some(frame) = soon("a frame", self.reader.next()).await else {
            self.fate.is_closed = true;
            return None;
        };
        note(&frame, &mut self.answers, &mut self.fate);
        self.windows.note(&frame);
        if [SETTINGS, PING].contains(&frame.kind) && frame.flags & ACK == 0 {
            let payload = if frame.kind == PING { &*frame.payload } else { &[] };
            self.send(&self::frame(frame.kind, ACK, 0, payload)).await;
        }
        Some(frame)
    }

    /// Waits for the end of a stream; what came of it is in there also when the connection ended
    /// before.
    pub async fn answer(&mut self, stream: u32) -> Answer {
        self.ended(stream).await;
        self.answers.remove(&stream).unwrap_or_default()
    }

    /// Waits until so many answers have begun.
    pub async fn heads(&mut self, count: usize) {
        let has_begun = |answer: &&Answer| !answer.fields.is_empty();
        while self.answers.values().filter(has_begun).count() < count {
            assert!(self.next().await.is_some(), "closed before: {:?}", self.fate);
        }
    }

    /// Waits until a stream has ended, or the connection.
    pub async fn ended(&mut self, stream: u32) {
        let end = async { while !self.has_ended(stream) && self.next().await.is_some() {} };
        soon("the end of a stream", end).await;
    }

    fn has_ended(&self, stream: u32) -> bool {
        self.answers.get(&stream).is_some_and(|answer| answer.end.is_some())
    }

    /// Sends a body without its end, as fast as the windows of the server open, until all of it is
    /// sent or the stream has ended.
    pub async fn upload(&mut self, stream: u32, bytes: &[u8]) {
        for piece in bytes.chunks(16 << 10) {
            let bytes = i64::try_from(piece.len()).expect("a length");
            while !self.has_ended(stream) && self.windows.room(stream) < bytes {
                if self.next().await.is_none() {
                    return;
                }
            }
            if self.has_ended(stream) {
                return;
            }
            self.windows.take(stream, bytes);
            self.send(&frame(DATA, 0, stream, piece)).await;
        }
    }

    /// Waits until the server has closed the connection, and answers nothing meanwhile.
    pub async fn ignore_until_closed(&mut self) {
        let end = async { while self.reader.next().await.is_some() {} };
        soon("the end of the connection", end).await;
    }

    /// Waits until the server has closed the connection.
    pub async fn closed(&mut self) -> &Fate {
        let end = async { while self.next().await.is_some() {} };
        soon("the end of the connection", end).await;
        &self.fate
    }
}

/// Adds a frame to what is known.
fn note(frame: &Frame, answers: &mut BTreeMap<u32, Answer>, fate: &mut Fate) {
    fate.frames += 1;
    match frame.kind {
        GOAWAY => fate.goaway = Some(frame.number(4)),
        RST_STREAM => fate.resets += 1,
        _ => {}
    }
    if frame.stream == 0 {
        return;
    }
    let answer = answers.entry(frame.stream).or_default();
    match frame.kind {
        HEADERS => {
            assert!(frame.flags & END_HEADERS != 0, "a head in one frame");
            answer.fields.extend(decode(&frame.payload));
        }
        DATA => answer.data.extend_from_slice(&frame.payload),
        RST_STREAM if answer.end.is_none() => answer.end = Some(End::Reset(frame.number(0))),
        _ => {}
    }
    if [HEADERS, DATA].contains(&frame.kind) && frame.flags & END_STREAM != 0 {
        answer.end = Some(End::Whole);
    }
}
