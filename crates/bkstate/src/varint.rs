//! The variable-length integers of Go's `encoding/binary`, which containerd's databases use.
//!
//! `uvarint` is base 128, least significant group first; `varint` is the same over the zig-zag form, which
//! keeps small negative numbers short.
//!
//! ```
//! use bkstate::varint::{decode_signed, decode_unsigned, encode_signed, encode_unsigned};
//!
//! // In `snapshots/metadata.db`, the key of the snapshot 300 with the parent 7 is 7, 0, 300.
//! let key = [encode_unsigned(7), vec![0], encode_unsigned(300)].concat();
//! assert_eq!(key, [7, 0, 0xac, 2]);
//! let Some((7, [0, child @ ..])) = decode_unsigned(&key) else { panic!("not on 7") };
//! assert_eq!(decode_unsigned(child), Some((300, [].as_slice())));
//!
//! // Sizes can be unknown, encoded as -1.
//! assert_eq!(encode_signed(-1), [1]);
//! assert_eq!(decode_signed(&[1]), Some(-1));
//! assert_eq!(decode_signed(&[1, 0]), None, "a size is the whole value");
//! ```

/// Maximum length of an encoded 64-bit number.
const MAX_LEN: usize = 10;

/// Encodes as Go's `binary.PutUvarint`.
pub fn encode_unsigned(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAX_LEN);
    loop {
        let group = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(group);
            return bytes;
        }
        bytes.push(group | 0x80);
    }
}

/// Encodes as Go's `binary.PutVarint`.
pub fn encode_signed(value: i64) -> Vec<u8> {
    encode_unsigned((value.wrapping_shl(1) ^ (value >> 63)).cast_unsigned())
}

/// Decodes one uvarint at the start of `bytes` and returns it with the remaining bytes; `None` if the bytes
/// end early or the number has more than 64 bits.
pub fn decode_unsigned(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(MAX_LEN).enumerate() {
        let group = u64::from(byte & 0x7f);
        if at == MAX_LEN - 1 && group > 1 {
            return None;
        }
        value |= group << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

/// Decodes one varint that fills `bytes` completely.
pub fn decode_signed(bytes: &[u8]) -> Option<i64> {
    let (value, rest) = decode_unsigned(bytes)?;
    let signed = (value >> 1).cast_signed() ^ -((value & 1).cast_signed());
    rest.is_empty().then_some(signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_encoded_as_go_encodes_them() {
        assert_eq!(encode_signed(201), [0x92, 0x03]);
        assert_eq!(encode_signed(4), [0x08]);
        assert_eq!(encode_signed(-1), [0x01]);
        assert_eq!(encode_unsigned(127), [0x7f]);
        assert_eq!(encode_unsigned(128), [0x80, 0x01]);
    }

    #[test]
    fn every_size_of_value_round_trips() {
        for shift in 0..64 {
            let value = (1_u64 << shift) - 1;
            assert_eq!(decode_unsigned(&encode_unsigned(value)), Some((value, &[][..])));
            for signed in [value.cast_signed(), value.cast_signed().wrapping_neg()] {
                assert_eq!(decode_signed(&encode_signed(signed)), Some(signed));
            }
        }
        assert_eq!(decode_signed(&encode_signed(i64::MIN)), Some(i64::MIN));
        assert_eq!(decode_unsigned(&encode_unsigned(u64::MAX)), Some((u64::MAX, &[][..])));
    }

    #[test]
    fn damaged_integers_are_refused() {
        assert_eq!(decode_unsigned(&[]), None);
        assert_eq!(decode_unsigned(&[0x80]), None);
        assert_eq!(decode_unsigned(&[0xff; 10]), None);
        assert_eq!(decode_signed(&[0x02, 0x00]), None);
    }
}
