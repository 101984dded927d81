//! The rows that are copied, and their checksum.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Value {
    Null,
    Integer(i64),
    Boolean(bool),
    Text(String),
    Id([u8; 16]),
    Bytes(Vec<u8>),
    List(Vec<Vec<u8>>),
}

impl Value {
    /// Returns the number of bytes that the value takes, about.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Null | Self::Integer(_) | Self::Boolean(_) => 8,
            Self::Id(id) => id.len(),
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(values) => values.iter().map(Vec::len).sum(),
        }
    }

    /// Adds the value to a digest. Its type and its length keep it apart from its neighbours.
    fn digest(&self, digest: &mut Sha256) {
        let mut part = |kind: u8, bytes: &[u8]| {
            digest.update([kind]);
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        match self {
            Self::Null => part(0, &[]),
            Self::Integer(number) => part(1, &number.to_le_bytes()),
            Self::Boolean(value) => part(2, &[u8::from(*value)]),
            Self::Text(text) => part(3, text.as_bytes()),
            Self::Id(id) => part(4, id),
            Self::Bytes(bytes) => part(5, bytes),
            Self::List(values) => {
                part(6, &(values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| part(7, value));
            }
        }
    }
}

/// The number of rows of a table, and a checksum of all columns, which does not depend on the order of
/// the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableContents {
    /// The number of rows.
    pub rows: u64,
    /// The sum of the first halves of the SHA-256 of all rows.
    pub checksum: u128,
}

impl TableContents {
    /// Adds a row.
    pub(in crate::store) fn add(&mut self, row: &[Value]) {
        let mut digest = Sha256::new();
        row.iter().for_each(|value| value.digest(&mut digest));
        let mut half = [0; 16];
        half.copy_from_slice(&digest.finalize()[..16]);
        self.rows += 1;
        // A sum, unlike an exclusive or, also notices rows that are there twice.
        self.checksum = self.checksum.wrapping_add(u128::from_be_bytes(half));
    }
}

impl fmt::Display for TableContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows with the checksum {:032x}", self.rows, self.checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(rows: &[&[Value]]) -> TableContents {
        let mut contents = TableContents::default();
        rows.iter().for_each(|row| contents.add(row));
        contents
    }

    #[test]
    fn the_checksum_depends_on_each_value_and_not_on_the_order_of_rows() {
        let text = |text: &str| Value::Text(text.to_owned());
        let (a, b) = ([text("a"), text("b")], [text("c"), Value::Null]);
        assert_eq!(contents(&[&a, &b]), contents(&[&b, &a]));
        assert_ne!(contents(&[&a, &b]), contents(&[&a, &b, &b]));
        assert_ne!(contents(&[&a, &a]), contents(&[&b, &b]));
        for other in [
            [text("ab"), text("")],
            [text("a"), Value::Bytes(b"b".to_vec())],
            [text("a"), Value::Null],
            [text("b"), text("a")],
        ] {
            assert_ne!(contents(&[&a]), contents(&[&other]), "{other:?}");
        }
        let list =
            |parts: &[&str]| Value::List(parts.iter().map(|p| p.as_bytes().into()).collect());
        assert_ne!(contents(&[&[list(&["a", "b"])]]), contents(&[&[list(&["ab"])]]));
    }
}
