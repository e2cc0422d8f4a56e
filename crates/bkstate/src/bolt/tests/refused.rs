//! Content that could not be read again is not written.

use super::*;

#[test]
fn keys_that_bbolt_does_not_allow_are_refused() {
    let put = |keys: &[&[u8]]| {
        let file = tempfile::tempfile().unwrap();
        write(&file, |root| keys.iter().try_for_each(|key| root.put(key, b"")))
    };
    assert!(put(&[&[1; MAX_KEY_BYTES]]).is_ok());
    assert!(matches!(put(&[&[1; MAX_KEY_BYTES + 1]]), Err(WriteError::KeyLength { .. })));
    assert!(matches!(put(&[b""]), Err(WriteError::KeyLength { .. })));
    assert!(matches!(put(&[b"b", b"a"]), Err(WriteError::KeyOrder { .. })));
    let error = put(&[b"b", b"b"]).unwrap_err();
    assert_eq!(error.to_string(), "the key \"b\" was written after \"b\"; keys must ascend");
}

#[test]
fn values_that_could_not_be_read_again_are_refused() {
    let longest = usize::try_from(MAX_NODE_BYTES).unwrap() - 4096 - 1;
    let put = |length| {
        let file = tempfile::tempfile().unwrap();
        write(&file, |root| root.put(b"k", &vec![0; length])).map(|()| file)
    };
    let db = Db::open(put(longest).unwrap()).unwrap();
    assert_eq!(db.root().get(b"k").unwrap().map(|value| value.len()), Some(longest));
    assert!(matches!(put(longest + 1), Err(WriteError::ValueLength { .. })));
}

#[test]
fn buckets_nest_to_the_limit_and_no_further() {
    let nested = |depth| {
        (0..depth).fold(Tree::default(), |inner, _| tree([(b"b".to_vec(), Node::Bucket(inner))]))
    };
    let deepest = nested(MAX_BUCKET_DEPTH);
    assert!(Tree::read(&Db::open(write_tree(&deepest)).unwrap().root()).unwrap() == deepest);
    let file = tempfile::tempfile().unwrap();
    let error = write(&file, |root| nested(MAX_BUCKET_DEPTH + 1).write(root)).unwrap_err();
    assert!(matches!(error, WriteError::BucketsTooDeep { .. }));
}

#[test]
fn a_failure_that_is_ignored_leaves_no_database() {
    let file = tempfile::tempfile().unwrap();
    let error = write(&file, |root| {
        let _ignored = root.bucket(b"b", |bucket| bucket.put(b"", b""));
        root.put(b"c", b"")
    });
    assert!(matches!(error, Err(WriteError::Incomplete)));
    assert!(matches!(Db::open(file), Err(ReadError::NoMeta { .. })));
}

#[test]
fn a_file_with_something_in_it_is_not_overwritten() {
    let file = write_tree(&Tree::default());
    let before = contents(&file);
    let error = write(&file, |_| Ok::<(), WriteError>(())).unwrap_err();
    assert!(matches!(error, WriteError::NotEmpty { length: 16_384 }));
    assert!(contents(&file) == before);
}
