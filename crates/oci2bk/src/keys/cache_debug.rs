//! The hashed inputs that a daemon with `--save-cache-debug` records (v0.24 and later).
//!
//! `byhash` has a value per digest: frames, each with a type and a length (big-endian, 4 bytes) and the data.
//! The first frame names the kind of hashed data; for an op that is JSON, and the key is then the op digest
//! (BuildKit v0.32.2 `util/cachedigest/{db,frame}.go`). Results of sources are JSON too; no record has such a
//! name. Diff ops are missing, because they are hashed in another way (`ops/diff.go`).

use bkstate::bolt::{Bucket, Entry, ReadError};
use llb::OpDigest;
use llb::release::Span;

use super::source::{Candidate, USUAL_OUTPUTS};

/// The type of the frame with the kind of hashed data.
const FRAME_TYPE: u32 = 1;
const JSON: &[u8] = b"json";

/// Returns every digest of a JSON document in `by_hash`.
pub(super) fn candidates(by_hash: &Bucket<'_>) -> Result<Vec<Candidate>, ReadError> {
    let mut candidates = Vec::new();
    for entry in by_hash.entries() {
        let (key, Entry::Value(value)) = entry? else { continue };
        if kind(&value) != Some(JSON) {
            continue;
        }
        let key = String::from_utf8(key).ok();
        if let Some(op_digest) = key.and_then(|key| OpDigest::try_from(key).ok()) {
            let outputs = USUAL_OUTPUTS;
            candidates.push(Candidate {
                op_digest,
                outputs,
                name: None,
                encoding: None,
                vertex: None,
                builder: Some(Span::with_cache_debug()),
            });
        }
    }
    Ok(candidates)
}

/// Returns the kind of hashed data in the frames.
fn kind(frames: &[u8]) -> Option<&[u8]> {
    let mut rest = frames;
    while let Some((id, after)) = rest.split_first_chunk() {
        let (length, after) = after.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (data, after) = after.split_at_checked(length)?;
        if u32::from_be_bytes(*id) == FRAME_TYPE {
            return Some(data);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use bkstate::bolt::{self, Db, WriteError};

    use super::*;

    fn frame(id: u32, length: u32, data: &[u8]) -> Vec<u8> {
        [&id.to_be_bytes(), &length.to_be_bytes(), data].concat()
    }

    #[test]
    fn frames_tell_what_was_hashed() {
        let (json, data) = (frame(1, 4, b"json"), frame(2, 2, b"{}"));
        assert_eq!(kind(&[json.as_slice(), &data].concat()), Some(b"json".as_slice()));
        assert_eq!(kind(&[data.as_slice(), &json].concat()), Some(b"json".as_slice()));
        assert_eq!(kind(&frame(1, 0, b"")), Some(b"".as_slice()));
    }

    #[test]
    fn frames_that_are_cut_short_or_lie_about_their_length_tell_nothing() {
        let lies = frame(2, u32::MAX, b"{}");
        for frames in [&b""[..], b"\0\0\0\x01", &frame(1, 5, b"json"), &frame(2, 2, b"{}"), &lies] {
            assert_eq!(kind(frames), None, "{frames:?}");
        }
    }

    #[test]
    fn digests_of_json_are_candidates() {
        let file = tempfile::tempfile().unwrap();
        let entries =
            [("d@e", "json"), ("sha256:a", "json"), ("sha256:b", "string"), ("sha256:c", "json")];
        bolt::write::<WriteError>(&file, |root| {
            root.bucket(b"byhash", |bucket| {
                let mut entries = entries.into_iter();
                entries.try_for_each(|(key, kind)| {
                    bucket.put(key.as_bytes(), &frame(1, kind.len() as u32, kind.as_bytes()))
                })
            })
        })
        .unwrap();
        let db = Db::open(file).unwrap();
        let by_hash = db.root().bucket(b"byhash").unwrap().unwrap();
        let candidates = candidates(&by_hash).unwrap();
        let digests: Vec<_> = candidates.iter().map(|c| c.op_digest.as_str()).collect();
        assert_eq!(digests, ["sha256:a", "sha256:c"]);
        let builder = Some(Span::with_cache_debug());
        assert!(candidates.iter().all(|c| c.outputs == USUAL_OUTPUTS && c.builder == builder));
    }
}
