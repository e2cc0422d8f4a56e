//! Op digests in the `cache.db` of another builder.
//!
//! `_links` has a bucket per key, with keys of the form `<link>@<key>`, where the link is JSON with the op
//! digest in `Digest` and the output of the op in `Output` (BuildKit `solver/bboltcachestorage/storage.go`,
//! `solver/cachestorage.go`).

use std::collections::BTreeMap;

use bkstate::bolt::{Bucket, Entry, ReadError};
use llb::OpDigest;
use serde::Deserialize;

use super::source::{Candidate, USUAL_OUTPUTS};

/// Maximum number of outputs of an op to try. No op of a real build comes near.
const MOST_OUTPUTS: u32 = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Link {
    #[serde(default)]
    output: u32,
    digest: String,
}

/// Returns every op digest on a link in `links`, each once.
pub(super) fn candidates(links: &Bucket<'_>) -> Result<Vec<Candidate>, ReadError> {
    let mut outputs = BTreeMap::new();
    for key in links.entries() {
        let (_, Entry::Bucket(of_key)) = key? else { continue };
        for link in of_key.entries() {
            let (link, _) = link?;
            if let Some((op_digest, output)) = parse(&link) {
                let most = outputs.entry(op_digest).or_insert(USUAL_OUTPUTS);
                *most = output.saturating_add(1).min(MOST_OUTPUTS).max(*most);
            }
        }
    }
    let candidate = |(op_digest, outputs)| Candidate {
        op_digest,
        outputs,
        name: None,
        encoding: None,
        vertex: None,
        builder: None,
    };
    Ok(outputs.into_iter().map(candidate).collect())
}

/// Parses the op digest and output of a link. Invalid links are skipped, as in the solver.
fn parse(link: &[u8]) -> Option<(OpDigest, u32)> {
    let end = link.iter().rposition(|byte| *byte == b'@')?;
    let Link { digest, output } = serde_json::from_slice(&link[..end]).ok()?;
    Some((OpDigest::try_from(digest).ok()?, output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_give_op_digest_and_output() {
        let parsed = |link: &str| {
            parse(link.as_bytes()).map(|(op_digest, output)| (op_digest.to_string(), output))
        };
        let table = [
            (r#"{"Digest":"sha256:ab"}@sha256:cd"#, Some(("sha256:ab", 0))),
            (r#"{"Input":1,"Output":2,"Digest":"d","Selector":"s"}@k"#, Some(("d", 2))),
            // v0.11 and v0.12 have JSON instead of the digests of merge and diff ops.
            (r#"{"Digest":"{\"Type\":\"x\"}"}@k"#, Some((r#"{"Type":"x"}"#, 0))),
            (r#"{"Digest":"a@b"}@k"#, None),
            (r#"{"Digest":""}@k"#, None),
            (r#"{"Output":-1,"Digest":"d"}@k"#, None),
            (r#"{"Digest":"d"}"#, None),
            ("@", None),
            ("", None),
        ];
        for (link, expected) in table {
            let expected = expected.map(|(digest, output)| (digest.to_owned(), output));
            assert_eq!(parsed(link), expected, "{link}");
        }
    }
}
