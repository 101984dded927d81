//! A bomb of gzip, written by hand: nothing that unpacks it is needed.

/// The length of the head that gzip puts before deflate.
const GZIP_HEAD_BYTES: usize = 10;

/// The number of zeros in one match of deflate, the longest that there is.
const MATCH_BYTES: usize = 258;

/// The same as `deflate` of gRPC, which has another head.
pub fn deflated_zeros(bytes: usize) -> Vec<u8> {
    [&[0x78, 0x9c], &zeros(bytes)[GZIP_HEAD_BYTES..]].concat()
}

/// At least this many zeros, packed to a hundred and fiftieth. The sum at the end is wrong, which
/// shows to those only who have unpacked all of it.
pub fn zeros(bytes: usize) -> Vec<u8> {
    // One last block with the fixed codes, and a zero to begin with.
    let start = "1 10 00110000";
    // The longest match, one byte back.
    let again = "11000101 00000";
    let end = "0000000";
    let repeated = std::iter::repeat_n(again, bytes.div_ceil(MATCH_BYTES));
    let codes = [start].into_iter().chain(repeated).chain([end]);
    let bits = codes.flat_map(str::bytes).filter(|bit| *bit != b' ');
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let (mut byte, mut filled) = (0_u8, 0);
    for bit in bits {
        byte |= (bit - b'0') << filled;
        filled += 1;
        if filled == 8 {
            packed.push(byte);
            (byte, filled) = (0, 0);
        }
    }
    packed.push(byte);
    packed.extend([0; 8]);
    packed
}
