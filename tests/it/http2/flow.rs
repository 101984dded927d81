//! Flow control: the bytes that the server lets a peer send.

use std::collections::BTreeMap;

use bytes::Buf as _;

use super::frames::{ACK, Frame, SETTINGS, WINDOW_UPDATE};

/// The size of windows before either side has changed it.
const DEFAULT_BYTES: i64 = 65_535;

/// The windows of the server. Sending may overrun them; then it is the server's turn.
pub struct Windows {
    connection: i64,
    /// The window of a new stream.
    initial: i64,
    /// The changes to that for each stream.
    streams: BTreeMap<u32, i64>,
}

impl Default for Windows {
    fn default() -> Self {
        Self { connection: DEFAULT_BYTES, initial: DEFAULT_BYTES, streams: BTreeMap::new() }
    }
}

impl Windows {
    /// Takes up what a frame says about them.
    pub fn note(&mut self, frame: &Frame) {
        let mut payload = frame.payload.clone();
        if frame.kind == WINDOW_UPDATE {
            let more = i64::from(payload.get_u32());
            match frame.stream {
                0 => self.connection += more,
                stream => *self.streams.entry(stream).or_default() += more,
            }
        }
        while frame.kind == SETTINGS && frame.flags & ACK == 0 && payload.has_remaining() {
            let (id, value) = (payload.get_u16(), payload.get_u32());
            if id == super::frames::INITIAL_WINDOW_SIZE {
                self.initial = i64::from(value);
            }
        }
    }

    /// Returns the bytes that may be sent on this stream now.
    pub fn room(&self, stream: u32) -> i64 {
        let own = self.initial + self.streams.get(&stream).copied().unwrap_or_default();
        own.min(self.connection)
    }

    /// Takes sent bytes off the windows.
    pub fn take(&mut self, stream: u32, bytes: i64) {
        self.connection -= bytes;
        *self.streams.entry(stream).or_default() -= bytes;
    }
}
