//! Header blocks, as far as these tests need them: what is sent is literal, without Huffman codes
//! and without a table, so that every byte of it can be wrong on purpose.

/// A header block to send: names and values, any bytes, in this order.
#[derive(Debug, Clone, Default)]
pub struct Head(Vec<(Vec<u8>, Vec<u8>)>);

impl Head {
    /// A good request to `Service/Method` with this token.
    pub fn of(method: &str, token: &str) -> Self {
        Self::default()
            .with(":method", "POST")
            .with(":scheme", "http")
            .with(":path", format!("/callpark.v1.{method}"))
            .with(":authority", "localhost")
            .with("te", "trailers")
            .with("content-type", "application/grpc")
            .with("authorization", format!("Bearer {token}"))
    }

    /// With one more field, at the end.
    pub fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// With one more field, before those that don't begin with a colon.
    pub fn before_others(mut self, name: &str, value: &str) -> Self {
        let at = self.0.iter().position(|(found, _)| found.first() != Some(&b':'));
        self.0.insert(at.expect("a field"), (name.into(), value.into()));
        self
    }

    /// Without this field.
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(found, _)| found != name.as_bytes());
        self
    }

    /// With another value of this field, in its place.
    pub fn set(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let field = self.0.iter_mut().find(|(found, _)| found == name.as_bytes());
        field.expect("the field").1 = value.as_ref().to_vec();
        self
    }

    /// With one more field, before all others.
    pub fn first(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.insert(0, (name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The block.
    pub fn encode(&self) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in &self.0 {
            // A literal that must not be indexed, with a name of its own.
            block.push(0);
            for text in [name, value] {
                push_length(text.len(), &mut block);
                block.extend_from_slice(text);
            }
        }
        block
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let is_shown = |name: &[u8]| name != b"authorization";
        let shown = self.0.iter().filter(|(name, _)| is_shown(name));
        let fields = shown.map(|(name, value)| format!("{}: {}", text(name), text(value)));
        f.write_str(&fields.collect::<Vec<_>>().join(", "))
    }
}

/// A length with a prefix of seven bits, without the mark of Huffman codes.
fn push_length(mut length: usize, block: &mut Vec<u8>) {
    if length < 127 {
        block.extend(u8::try_from(length));
        return;
    }
    block.push(127);
    length -= 127;
    while length >= 128 {
        block.push(u8::try_from(length % 128 + 128).expect("a byte"));
        length /= 128;
    }
    block.extend(u8::try_from(length));
}

/// The fields of a block that the server has sent to a peer that allows no table.
pub fn decode(block: &[u8]) -> Vec<(String, String)> {
    let mut rest = block;
    let mut fields = Vec::new();
    while let Some(&first) = rest.first() {
        if first & 0x80 != 0 {
            let index = number(&mut rest, 7);
            fields.push((static_name(index), static_status(index)));
        } else if first & 0xe0 == 0x20 {
            assert_eq!(number(&mut rest, 5), 0, "the table has no room");
        } else {
            let index = number(&mut rest, if first & 0x40 == 0 { 4 } else { 6 });
            let name = if index == 0 { text(&mut rest) } else { static_name(index) };
            fields.push((name, text(&mut rest)));
        }
    }
    fields
}

fn number(rest: &mut &[u8], prefix_bits: u32) -> usize {
    let mask = (1 << prefix_bits) - 1;
    let mut value = usize::from(take(rest)) & mask;
    if value < mask {
        return value;
    }
    for shift in (0..28).step_by(7) {
        let byte = usize::from(take(rest));
        value += (byte & 127) << shift;
        if byte < 128 {
            return value;
        }
    }
    panic!("a number without end");
}

fn take(rest: &mut &[u8]) -> u8 {
    let (first, after) = rest.split_first().expect("a byte of the block");
    *rest = after;
    *first
}

fn text(rest: &mut &[u8]) -> String {
    let is_huffman = rest.first().expect("a byte of the block") & 0x80 != 0;
    let length = number(rest, 7);
    let (bytes, after) = rest.split_at(length);
    *rest = after;
    let bytes = if is_huffman { huffman(bytes) } else { bytes.to_vec() };
    String::from_utf8(bytes).expect("text")
}

/// The names in the static table that this server uses.
fn static_name(index: usize) -> String {
    let name = match index {
        8..=14 => ":status",
        28 => "content-length",
        31 => "content-type",
        33 => "date",
        other => return format!("static {other}"),
    };
    name.to_owned()
}

fn static_status(index: usize) -> String {
    let statuses = ["200", "204", "206", "304", "400", "404", "500"];
    let status = index.checked_sub(8).and_then(|at| statuses.get(at));
    status.copied().unwrap_or_default().to_owned()
}

/// The characters of text by the length of their codes, in bits. The code is canonical: codes of
/// one length follow each other in this order, and go on from those of the length before.
const CHARACTERS: [(u32, &str); 11] = [
    (5, "012aceiost"),
    (6, " %-./3456789=A_bdfghlmnpru"),
    (7, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, "&*,;XZ"),
    (10, "!\"()?"),
    (11, "'+|"),
    (12, "#>"),
    (13, "\0$@[]~"),
    (14, "^}"),
    (15, "<`{"),
    (19, "\\"),
];

fn huffman(bytes: &[u8]) -> Vec<u8> {
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let (mut code, mut length) = (0_u32, 0);
    let mut text = Vec::new();
    for bit in bits {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if let Some(character) = character(code, length) {
            text.push(character);
            (code, length) = (0, 0);
        }
    }
    assert!(length < 8 && code == (1 << length) - 1, "what fills the last byte is ones");
    text
}

fn character(code: u32, length: u32) -> Option<u8> {
    let (mut first, mut before) = (0, 0);
    for (bits, characters) in CHARACTERS {
        first <<= bits - before;
        before = bits;
        if bits == length {
            return characters.as_bytes().get(code.checked_sub(first)? as usize).copied();
        }
        first += u32::try_from(characters.len()).expect("a few");
    }
    None
}
