//! The columns of an event, and their checksum.

use super::StoredEvent;
use crate::model::{CallId, OutputPosition, PayloadKind};

/// An event with borrowed bytes.
#[derive(Debug)]
pub(super) struct EventRow<'a> {
    pub(super) sequence: u64,
    pub(super) kind: PayloadKind,
    pub(super) call_id: Option<CallId>,
    /// The position and the length in bytes of a piece of output.
    pub(super) output: Option<(OutputPosition, u64)>,
    pub(super) bytes: &'a [u8],
}

impl<'a> EventRow<'a> {
    /// Returns the CRC-32C of the columns and the bytes.
    pub(super) fn checksum(&self) -> u32 {
        let mut columns = Vec::with_capacity(64);
        columns.extend(self.sequence.to_le_bytes());
        columns.push(self.kind.number());
        if let Some(call_id) = &self.call_id {
            columns.extend(call_id.as_bytes());
        }
        if let Some((position, length)) = &self.output {
            columns.push(position.stream.number());
            for number in
                [position.offset, position.combined_offset, position.dropped_bytes_before, *length]
            {
                columns.extend(number.to_le_bytes());
            }
        }
        crc32c::crc32c_append(crc32c::crc32c(&columns), self.bytes)
    }

    /// Returns the event with bytes of its own.
    pub(super) fn to_owned(&self) -> StoredEvent {
        StoredEvent {
            sequence: self.sequence,
            kind: self.kind,
            call_id: self.call_id,
            output: self.output,
            bytes: self.bytes.to_vec().into(),
        }
    }
}

impl<'a> From<&'a StoredEvent> for EventRow<'a> {
    fn from(event: &'a StoredEvent) -> Self {
        Self {
            sequence: event.sequence,
            kind: event.kind,
            call_id: event.call_id,
            output: event.output,
            bytes: &event.bytes,
        }
    }
}

/// Returns the checksum of an event.
pub(super) fn checksum(event: &StoredEvent) -> u32 {
    EventRow::from(event).checksum()
}
