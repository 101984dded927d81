//! The file with output that no server has read.
//!
//! Records follow each other: the length of the data and a CRC-32C of the rest, four bytes each; one
//! byte for the stream; the offset, the combined offset and the dropped bytes, eight bytes each; the
//! data. Numbers are big-endian.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::model::limits::OUTPUT_CHUNK_BYTES_MAX;
use crate::model::{OutputPosition, OutputStream, ToolOutput};

/// The bytes of a record before its data.
const HEAD_BYTES: usize = 4 + 4 + 1 + 3 * 8;

/// A queue of output in a file.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    path: PathBuf,
    read_to: u64,
    written_to: u64,
}

impl Spool {
    /// Creates the file.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Self { file: options.open(path)?, path: path.to_owned(), read_to: 0, written_to: 0 })
    }

    /// Returns the size of what was not read back, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.written_to - self.read_to
    }

    /// Adds a piece. After an error the file is as before.
    pub(super) fn push(&mut self, piece: &ToolOutput) -> io::Result<()> {
        let OutputPosition { stream, offset, combined_offset, dropped_bytes_before } =
            piece.position;
        let mut rest = BytesMut::with_capacity(HEAD_BYTES + piece.data.len());
        rest.put_u8(stream as u8);
        for number in [offset, combined_offset, dropped_bytes_before] {
            rest.put_u64(number);
        }
        rest.put_slice(&piece.data);
        let mut record = BytesMut::with_capacity(HEAD_BYTES + piece.data.len());
        record.put_u32(u32::try_from(piece.data.len()).map_err(io::Error::other)?);
        record.put_u32(crc32c::crc32c(&rest));
        record.put_slice(&rest);
        self.file.write_all_at(&record, self.written_to)?;
        self.written_to += record.len() as u64;
        Ok(())
    }

    /// Returns the oldest piece, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or was changed. What is left in it cannot be distinguished from
    /// what was changed.
    pub(super) fn pop(&mut self) -> io::Result<Option<ToolOutput>> {
        if self.bytes() == 0 {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        self.file.read_exact_at(&mut head, self.read_to)?;
        let mut fields = head.as_slice();
        let (length, checksum) = (fields.get_u32() as usize, fields.get_u32());
        let position = OutputPosition {
            stream: if fields.get_u8() == 0 { OutputStream::Stdout } else { OutputStream::Stderr },
            offset: fields.get_u64(),
            combined_offset: fields.get_u64(),
            dropped_bytes_before: fields.get_u64(),
        };
        if length > OUTPUT_CHUNK_BYTES_MAX {
            return Err(damaged());
        }
        let mut data = vec![0; length];
        self.file.read_exact_at(&mut data, self.read_to + HEAD_BYTES as u64)?;
        if crc32c::crc32c_append(crc32c::crc32c(&head[8..]), &data) != checksum {
            return Err(damaged());
        }
        self.read_to += (HEAD_BYTES + length) as u64;
        Ok(Some(ToolOutput { position, data: Bytes::from(data) }))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // The folder is removed with the shim in any case.
        let _result = fs::remove_file(&self.path);
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file was changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, data: &'static str) -> ToolOutput {
        let position = OutputPosition {
            stream: OutputStream::Stderr,
            offset,
            combined_offset: offset + 7,
            dropped_bytes_before: 3,
        };
        ToolOutput { position, data: Bytes::from_static(data.as_bytes()) }
    }

    #[test]
    fn pieces_come_back_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(&folder.path().join("spool")).unwrap();
        assert_eq!(spool.pop().unwrap(), None);
        spool.push(&piece(0, "one")).unwrap();
        spool.push(&piece(3, "")).unwrap();
        assert_eq!(spool.pop().unwrap(), Some(piece(0, "one")));
        spool.push(&piece(3, "three")).unwrap();
        assert_eq!(spool.pop().unwrap(), Some(piece(3, "")));
        assert_eq!(spool.pop().unwrap(), Some(piece(3, "three")));
        assert_eq!((spool.pop().unwrap(), spool.bytes()), (None, 0));
        drop(spool);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let length = HEAD_BYTES + 5;
        for place in 0..length {
            let mut spool = Spool::create(&path).unwrap();
            spool.push(&piece(9, "three")).unwrap();
            let mut byte = [0];
            spool.file.read_exact_at(&mut byte, place as u64).unwrap();
            spool.file.write_all_at(&[byte[0] ^ 1], place as u64).unwrap();
            spool.pop().expect_err("a byte was changed");
        }
        let mut spool = Spool::create(&path).unwrap();
        spool.push(&piece(9, "three")).unwrap();
        spool.file.set_len(length as u64 - 1).unwrap();
        spool.pop().expect_err("the file was cut");
    }
}
