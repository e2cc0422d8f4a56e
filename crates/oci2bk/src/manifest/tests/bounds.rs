//! Layouts with more indexes, manifests or bytes than the limits allow, or with less than a cache.

use super::*;

#[test]
fn indexes_nested_beyond_the_limit_are_refused() {
    let layout = TestLayout::new();
    let mut index = layout.json(OCI_INDEX, &index_of(&[cache(&layout, "a")]));
    for _ in 1..MAX_INDEX_DEPTH {
        index = layout.json(OCI_INDEX, &index_of(&[index]));
    }
    layout.index(std::slice::from_ref(&index));
    chosen(&layout, Reference::Default).unwrap();
    let deeper = layout.json(OCI_INDEX, &index_of(&[index]));
    layout.index(&[layout.json(OCI_INDEX, &index_of(&[deeper]))]);
    let error = chosen(&layout, Reference::Default).unwrap_err();
    assert!(matches!(error, SelectError::TooDeep { .. }), "{error}");
    assert!(error.to_string().ends_with(" lies more than 8 indexes deep"), "{error}");
}

#[test]
fn a_cyclic_index_is_refused_as_damaged() {
    // An index can only be part of itself if its content does not have its digest.
    let layout = TestLayout::new();
    let me = Digest::of("me");
    let claimed = json!({"mediaType": OCI_INDEX, "digest": me, "size": 300});
    let content = format!("{:<300}", index_of(&[claimed]).to_string());
    std::fs::write(layout.blob_path(me), content).unwrap();
    layout.index(&[json!({"digest": me, "size": 300})]);
    let error = unusable(chosen(&layout, Reference::Default));
    assert!(matches!(error, ManifestError::Blob(BlobError::Digest { .. })), "{error}");
    assert!(error.to_string().contains(" is damaged: its content has the digest "), "{error}");
}

#[test]
fn an_index_with_too_many_manifests_is_refused() {
    let layout = TestLayout::new();
    let entry = |n: usize| json!({"digest": Digest::of(n.to_string()), "size": 1});
    let entries: Vec<_> = (0..=10_000).map(entry).collect();
    layout.index(&entries);
    let error = chosen(&layout, Reference::Default).unwrap_err();
    assert!(matches!(error, SelectError::TooMany { .. }), "{error}");
    assert!(
        error.to_string().contains(" has more than 10000 manifests; choose the cache with @DIGEST"),
        "{error}"
    );
}

#[test]
fn an_empty_layout_has_no_cache() {
    let layout = TestLayout::new();
    let error = chosen(&layout, Reference::Default).unwrap_err();
    assert!(matches!(error, SelectError::NoCache { manifests: 0, .. }), "{error}");
    assert!(
        error.to_string().contains(" has no cache and no image among the 0 manifests looked at"),
        "{error}"
    );
}

#[test]
fn a_damaged_or_oversized_manifest_is_refused() {
    let layout = TestLayout::new();
    let cache = cache(&layout, "a");
    layout.index(std::slice::from_ref(&cache));
    let path = layout.blob_path(digest_of(&cache));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let limit = layout.open().limits().of_manifest();
    file.set_len(limit.value + 1).unwrap();
    let blob_error = |reference| match unusable(chosen(&layout, reference)) {
        ManifestError::Blob(error) => error,
        error => panic!("{error}"),
    };
    let by_digest = || Reference::Digest(digest_of(&cache));
    let error = blob_error(Reference::Default);
    assert!(matches!(error, BlobError::Size { .. }), "{error}");
    assert!(
        error.to_string().ends_with(
            " has 16777217 bytes, but its descriptor says 592; copy or export the cache \
             again"
        ),
        "{error}"
    );
    let error = blob_error(by_digest());
    assert!(matches!(error, BlobError::TooLarge { limit: bound, .. } if bound == limit), "{error}");
    assert!(
        error.to_string().contains(
            " has 16777217 bytes, but 16777216 is all that a document of its kind may \
             have"
        ),
        "{error}"
    );
    file.set_len(cache["size"].as_u64().unwrap() - 1).unwrap();
    let error = blob_error(by_digest());
    assert!(matches!(error, BlobError::Digest { .. }), "{error}");
    assert!(error.to_string().contains(" is damaged: its content has the digest "), "{error}");
}
