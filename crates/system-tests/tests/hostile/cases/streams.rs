//! Compressed streams.

use archives::*;

use crate::case::{Blob, Case, Containerd, GZIP, gzip, zstd};

fn tar() -> Vec<u8> {
    archive(&[file("f", "content")])
}

/// An archive with a file of zeros.
fn zeros(bytes: usize) -> Vec<u8> {
    archive(&[file("zeros", vec![0; bytes])])
}

/// A skippable zstd frame around `bytes`.
fn skippable(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&[0x5A, 0x2A, 0x4D, 0x18][..], &length.to_le_bytes(), bytes].concat()
}

/// A whole gzip stream, followed by other bytes.
fn trailing(name: &str, bytes: &'static [u8]) -> Case {
    Case::unpacks(&format!("trailing-bytes::{name}"), &["f"], move |_| {
        Blob::gzip(tar()).with_bytes([&gzip(&tar()), bytes].concat())
    })
    .containerd(Containerd::Refuses("with `unpigz` it unpacks"))
}

pub(super) fn all() -> Vec<Case> {
    let bomb = "--limit layer-size";
    let ours = Containerd::Unpacks("the limit is ours");
    let decompress = "cannot decompress layer";
    vec![
        Case::refused("gzip-bombs::size", bomb, |_| Blob::gzip(zeros(64 << 20)))
            .limit("layer-size=1M")
            .containerd(ours),
        Case::unpacks("gzip-bombs::memory", &["zeros"], |_| Blob::gzip(zeros(128 << 20))),
        Case::refused("gzip-bombs::after-the-archive", bomb, |_| {
            Blob::gzip([tar(), vec![0; 64 << 20]].concat())
        })
        .limit("layer-size=1M")
        .containerd(ours),
        Case::refused("gzip-bombs::many-empty-members", bomb, |_| {
            let members = [gzip(&zeros(2 << 20)), gzip(&[]).repeat(10_000)].concat();
            Blob::gzip(zeros(2 << 20)).with_bytes(members)
        })
        .limit("layer-size=1M")
        .containerd(ours),
        Case::refused("zstd-bombs::size", bomb, |_| Blob::zstd(zeros(64 << 20)))
            .limit("layer-size=1M")
            .containerd(ours),
        Case::unpacks("zstd-bombs::memory", &["zeros"], |_| Blob::zstd(zeros(128 << 20))),
        Case::refused("zstd-bombs::window-of-2-gibibytes", decompress, |_| {
            // Magic, no checksum and no size, a window of 2^31 bytes; then one block of a raw byte.
            let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA8, 0x09, 0x00, 0x00, b'x'];
            Blob::zstd(b"x".to_vec()).with_bytes(frame.to_vec())
        }),
        Case::unpacks("gzip-members::archive-in-several", &["f"], |_| {
            let tar = tar();
            let (front, back) = tar.split_at(700);
            let members = [gzip(front), gzip(&[]), gzip(back)].concat();
            Blob::gzip(tar.clone()).with_bytes(members)
        }),
        Case::unpacks("gzip-members::second-archive-is-not-read", &["f"], |_| {
            let (first, second) = (tar(), archive(&[file("smuggled", "")]));
            let members = [gzip(&first), gzip(&second)].concat();
            Blob::gzip([first, second].concat()).with_bytes(members)
        }),
        trailing("after-gzip", b"more than enough trailing"),
        trailing("zeros-after-gzip", &[0; 512]),
        trailing("half-a-member-after-gzip", &[0x1F, 0x8B, 8, 0]),
        Case::refused("trailing-bytes::cut-member-after-gzip", decompress, |_| {
            let (first, second) = (tar(), gzip(b"more"));
            let members = [&gzip(&first), &second[..second.len() - 3]].concat();
            Blob::gzip(first).with_bytes(members)
        }),
        Case::refused("trailing-bytes::after-zstd", decompress, |_| {
            Blob::zstd(tar())
                .with_bytes([zstd(&tar()), b"more than enough trailing".to_vec()].concat())
        }),
        Case::unpacks("trailing-bytes::after-the-archive", &["f"], |_| {
            Blob::plain([tar(), b"trailing bytes".to_vec()].concat())
        }),
        Case::refused("trailing-bytes::gzip-cut-off", decompress, |_| {
            let blob = gzip(&tar());
            let cut = blob[..blob.len() - 3].to_vec();
            Blob::gzip(tar()).with_bytes(cut)
        }),
        Case::refused("trailing-bytes::gzip-with-a-wrong-checksum", decompress, |_| {
            let mut blob = gzip(&tar());
            let end = blob.len() - 8;
            blob[end] ^= 1;
            Blob::gzip(tar()).with_bytes(blob)
        }),
        Case::unpacks("skippable-frames::between-and-around", &["f"], |_| {
            let tar = tar();
            let (front, back) = tar.split_at(700);
            let frames =
                [skippable(b"abc"), zstd(front), skippable(&[]), zstd(back), skippable(b"x")];
            Blob::zstd(tar.clone()).with_bytes(frames.concat())
        }),
        Case::unpacks("skippable-frames::nothing-else", &[], |_| {
            Blob::zstd(Vec::new()).with_bytes(skippable(b"abc"))
        }),
        Case::refused("skippable-frames::longer-than-the-blob", decompress, |_| {
            let frames = [skippable(b"abc"), zstd(&tar())].concat();
            let mut lies = frames.clone();
            lies[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
            Blob::zstd(tar()).with_bytes(lies)
        }),
        Case::unpacks("skippable-frames::zstd-called-gzip", &["f"], |_| Blob {
            media_type: GZIP,
            ..Blob::zstd(tar())
        }),
    ]
}
