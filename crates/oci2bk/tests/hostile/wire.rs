//! Protobuf LLB with false lengths, endless numbers and nested groups.

use bkstate::Digest;
use oci2bk::keys::SourceError;

use super::keys::{file, refused};
use super::*;

/// Encodes a field of bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(content.len() as u64), content].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Returns a sound definition: a merge of a source with itself, and the result.
fn definition() -> Vec<u8> {
    let source = field(3, &field(1, b"docker-image://x"));
    let on = |op: &[u8]| field(1, &field(1, Digest::of(op).to_string().as_bytes()));
    let inputs = [on(&source), on(&source)].concat();
    let merge = [inputs, field(6, &[field(1, &[]), field(1, &[])].concat())].concat();
    let last = on(&merge);
    [source, merge, last].iter().flat_map(|op| field(1, op)).collect()
}

fn is_none(bytes: &[u8]) {
    let error = refused(file(bytes).path());
    assert!(matches!(error, SourceError::Unrecognised { .. }), "{error:?}");
    assert!(error.to_string().contains(" is not a known key source; "), "{error}");
}

#[test]
fn a_sound_definition_is_one() {
    let (layout, _) = one_layer();
    converted_with(layout.path(), &[file(definition()).path()]).unwrap();
}

#[test]
fn cut_off_at_every_byte() {
    let whole = definition();
    let (layout, _) = one_layer();
    let mut read = Vec::new();
    for length in 0..whole.len() {
        match planned(layout.path(), &[file(&whole[..length]).path()]) {
            Err(Fault::Keys(SourceError::Unrecognised { .. })) if length > 0 => {}
            Err(Fault::Keys(SourceError::Empty { .. })) if length == 0 => {}
            // Whole ops with existing inputs are a definition too.
            Ok(_) => read.push(length),
            result => panic!("{length}: {result:?}"),
        }
    }
    assert_eq!(read.len(), 2, "{read:?}");
}

#[test]
fn with_any_byte_changed() {
    let whole = definition();
    let (layout, _) = one_layer();
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            match planned(layout.path(), &[file(&bytes).path()]) {
                Ok(_) | Err(Fault::Keys(SourceError::Unrecognised { .. })) => {}
                result => panic!("{at}: {result:?}"),
            }
        }
    }
}

#[test]
fn numbers_that_do_not_end() {
    for length in [1, 9, 10, 11, 1000] {
        is_none(&vec![0xFF; length]);
        is_none(&[&[0x0A][..], &vec![0x80; length], &[0x01]].concat());
    }
}

#[test]
fn lengths_beyond_everything() {
    for length in [2, 1 << 20, u64::from(u32::MAX), 1 << 63, u64::MAX] {
        is_none(&[vec![0x0A], varint(length), vec![0]].concat());
        let inner = [vec![0x0A], varint(length), vec![0]].concat();
        is_none(&field(1, &inner));
    }
}

#[test]
fn groups_and_messages_nested_100_000_deep() {
    is_none(&[0x0B; 100_000]);
    is_none(&field(1, &[0x0B; 100_000]));
    let mut nested = Vec::new();
    for _ in 0..1000 {
        nested = field(2, &nested);
    }
    is_none(&field(1, &nested));
}

#[test]
fn more_parts_than_a_build_has() {
    is_none(&[0x0A, 0].repeat(oci2bk::llb::MAX_PARTS + 1));
    is_none(&field(1, &field(2, &[0x12, 0].repeat(oci2bk::llb::MAX_PARTS))));
}

#[test]
fn more_bytes_than_a_daemon_takes() {
    // Sound, except for its size: an unknown field.
    let large = [definition(), field(15, &vec![b'x'; 16 << 20])].concat();
    is_none(&large);
}
