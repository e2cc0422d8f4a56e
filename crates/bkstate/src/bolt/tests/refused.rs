//! Content that could not be read again is not written.

use super::*;

#[test]
fn keys_that_bbolt_does_not_allow_are_refused() {
    let put = |keys: &[&[u8]]| {
        let file = tempfile::tempfile().unwrap();
        write(&file, |root| keys.iter().try_for_each(|key| root.put(key, b"")))
    };
    assert!(put(&[&[1; MAX_KEY_BYTES]]).is_ok());
    let error = put(&[&[1; MAX_KEY_BYTES + 1]]).unwrap_err();
    assert!(matches!(error, WriteError::KeyLength { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "the key \
         \"\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01...\" is 32769 bytes long; keys have 1 to 32768 bytes"
    );
    let error = put(&[b""]).unwrap_err();
    assert!(matches!(error, WriteError::KeyLength { .. }), "{error}");
    assert_eq!(error.to_string(), "the key \"\" is 0 bytes long; keys have 1 to 32768 bytes");
    let error = put(&[b"b", b"a"]).unwrap_err();
    assert!(matches!(error, WriteError::KeyOrder { .. }), "{error}");
    assert_eq!(error.to_string(), "the key \"a\" was written after \"b\"; keys must ascend");
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
    let error = put(longest + 1).unwrap_err();
    assert!(matches!(error, WriteError::ValueLength { .. }), "{error}");
    assert_eq!(error.to_string(), "the value of \"k\" is too long: 67104768 bytes");
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
    assert!(matches!(error, WriteError::BucketsTooDeep { .. }), "{error}");
    assert_eq!(error.to_string(), "the bucket \"b\" is nested more than 64 deep");
}

#[test]
fn a_failure_that_is_ignored_leaves_no_database() {
    let file = tempfile::tempfile().unwrap();
    let error = write(&file, |root| {
        let _ignored = root.bucket(b"b", |bucket| bucket.put(b"", b""));
        root.put(b"c", b"")
    });
    let error = error.unwrap_err();
    assert!(matches!(error, WriteError::Incomplete), "{error}");
    assert_eq!(
        error.to_string(),
        "the database is incomplete because writing a part of it failed before"
    );
    let error = Db::open(file).unwrap_err();
    assert!(matches!(error, ReadError::NoMeta { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "the file is not a usable BoltDB file: of meta page 0, the file ends before it; \
         of meta page 1, the file ends before it"
    );
}

#[test]
fn a_file_with_something_in_it_is_not_overwritten() {
    let file = write_tree(&Tree::default());
    let before = contents(&file);
    let error = write(&file, |_| Ok::<(), WriteError>(())).unwrap_err();
    assert!(matches!(error, WriteError::NotEmpty { length: 16_384 }), "{error}");
    assert_eq!(
        error.to_string(),
        "the file to write the database to has 16384 bytes already; it must be empty"
    );
    assert!(contents(&file) == before);
}
