//! The end of a file of the audit log, as it was left.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use super::line::{BEGIN, ReadLine, parse};

/// The part at the end of a file in which its last line is looked for, in bytes.
const TAIL_BYTES: u64 = 1 << 20;

/// The end of a file.
pub(super) struct Tail {
    /// The last line that can be read, or `None` if there is none.
    pub(super) last: Option<ReadLine>,
    /// The number of bytes behind that line.
    pub(super) damaged: u64,
    /// `true` if the last byte of the file ends a line, or the file is empty.
    pub(super) ends_line: bool,
}

impl Tail {
    /// Reads the end of a file, or returns `None` if the file is not an audit log.
    pub(super) fn read(file: &mut File) -> io::Result<Option<Self>> {
        let length = file.metadata()?.len();
        let begin = length.saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.by_ref().take(TAIL_BYTES).read_to_end(&mut bytes)?;
        let ends_line = bytes.last().is_none_or(|byte| *byte == b'\n');
        let mut damaged = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n').rev() {
            if let Ok(last) = parse(line.strip_suffix(b"\n").unwrap_or(line)) {
                return Ok(Some(Self { last: Some(last), damaged, ends_line }));
            }
            damaged += line.len() as u64;
        }
        // The first line of a file may have been torn.
        let is_torn = !bytes.contains(&b'\n') && begin == 0;
        let is_ours = BEGIN.starts_with(&bytes) || bytes.starts_with(BEGIN);
        Ok((is_torn && is_ours).then_some(Self { last: None, damaged, ends_line }))
    }
}

/// Returns the sequence of the first line of a file that can be read.
pub(super) fn first_sequence(file: &mut File) -> io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.by_ref().take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let mut lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines.find_map(|line| parse(line).ok()).map(|line| line.sequence))
}
