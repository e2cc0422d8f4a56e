use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn source(path: &str, reference: Reference) -> Source {
    Source { path: path.into(), reference }
}

fn parse(text: &str) -> Result<Source, ParseSourceError> {
    text.parse()
}

#[test]
fn every_documented_form_parses_and_prints_in_its_shortest_form() {
    let tag = || Reference::Tag("main".to_owned());
    let digest = || Reference::Digest(DIGEST.parse().unwrap());
    for (text, expected, printed) in [
        ("/cache", source("/cache", Reference::Default), "/cache"),
        ("./a,type=b", source("./a,type=b", Reference::Default), "./a,type=b"),
        ("cache:main", source("cache:main", Reference::Default), "cache:main"),
        ("oci:/cache", source("/cache", Reference::Default), "/cache"),
        ("oci:/cache:main", source("/cache", tag()), "oci:/cache:main"),
        ("ocidir://c:main", source("c", tag()), "oci:c:main"),
        ("oci-layout:///c", source("/c", Reference::Default), "/c"),
        (&format!("ocidir:///c@{DIGEST}"), source("/c", digest()), &format!("oci:/c@{DIGEST}")),
        (&format!("oci:c:main@{DIGEST}"), source("c", digest()), &format!("oci:c@{DIGEST}")),
        ("oci:c:a@b", source("c", Reference::Tag("a@b".to_owned())), "oci:c:a@b"),
        ("./dir:x", source("./dir:x", Reference::Default), "./dir:x"),
        (
            "oci:c:docker.io/library/a:b",
            source("c", Reference::Tag("docker.io/library/a:b".to_owned())),
            "oci:c:docker.io/library/a:b",
        ),
        (&format!("oci:c@{DIGEST}"), source("c", digest()), &format!("oci:c@{DIGEST}")),
        ("type=local,src=/cache", source("/cache", Reference::Default), "/cache"),
        ("oci-archive:/c.tar", source("/c.tar", Reference::Default), "/c.tar"),
        ("oci-archive:/c.tar:main", source("/c.tar", tag()), "oci:/c.tar:main"),
        (
            &format!("oci-archive:c.tar@{DIGEST}"),
            source("c.tar", digest()),
            &format!("oci:c.tar@{DIGEST}"),
        ),
        ("tag=main,src=/cache,type=local", source("/cache", tag()), "oci:/cache:main"),
        (
            &format!("type=local,src=a:b,tag=x,digest={DIGEST}"),
            source("a:b", digest()),
            &format!("type=local,src=a:b,digest={DIGEST}"),
        ),
        (
            "type=local,\"src=a,\"\"b\"\":c\",tag=main,digest=",
            source("a,\"b\":c", tag()),
            "type=local,\"src=a,\"\"b\"\":c\",tag=main",
        ),
        ("type=local,src=oci:x", source("oci:x", Reference::Default), "type=local,src=oci:x"),
        ("s3dir:/mirror", source("/mirror", Reference::Default), "/mirror"),
        (
            "s3dir:m:team/main",
            source("m", Reference::Tag("team/main".to_owned())),
            "oci:m:team/main",
        ),
        ("docker-archive:i.tar", source("i.tar", Reference::Default), "i.tar"),
        (
            "docker-archive:/i.tar:alpine",
            source("/i.tar", Reference::Tag("docker.io/library/alpine:latest".to_owned())),
            "oci:/i.tar:docker.io/library/alpine:latest",
        ),
        (
            "docker-archive:i.tar:localhost:5000/a/b:v1",
            source("i.tar", Reference::Tag("localhost:5000/a/b:v1".to_owned())),
            "oci:i.tar:localhost:5000/a/b:v1",
        ),
    ] {
        assert_eq!(parse(text).unwrap(), expected, "{text}");
        assert_eq!(expected.to_string(), printed);
    }
}

#[test]
fn mistakes_are_named() {
    let named = |text: &str| parse(text).unwrap_err().to_string();
    assert_eq!(named(""), r#""" names no directory or archive"#);
    assert_eq!(named("oci::main"), r#""oci::main" names no directory or archive"#);
    assert!(named("type=local,tag=a").ends_with("names no directory or archive"));
    assert!(named("oci:/cache:").contains("empty tag"));
    assert!(named("type=local,src=/c,tag=").contains("empty tag"));
    assert!(named("oci:/cache@sha256:../../etc").contains("malformed digest"));
    assert!(named("type=local,src=/c,digest=latest").contains("malformed digest"));
    for text in ["type=registry,ref=a.io/b:c", "ref=a.io/b:c,type=registry", "docker://a.io/b:c"] {
        let error = parse(text).unwrap_err();
        assert_eq!(error, ParseSourceError::Registry { reference: "a.io/b:c".to_owned() });
        assert_eq!(error.to_string(), "it is in a registry, and registries are not read");
    }
    assert_eq!(named("dir:it's"), r#""dir:it's" is not in an OCI layout"#);
    assert!(named("type=local,ref=a").contains("unknown attribute \"ref\""));
    assert!(named("type=gha,scope=x").contains("in a workflow only"));
    assert!(named("type=inline").contains("\"inline\" is not read"));
    assert!(named("src=cache").contains("type \"\" is not read; only type=local"));
    for text in ["docker-archive:a.tar:", "docker-archive:a.tar:@0", "docker-archive:a.tar:A/b:c"] {
        let error = parse(text).unwrap_err();
        assert_eq!(error, ParseSourceError::ImageName { text: text.to_owned() });
    }
    assert!(named("-").contains("cat > cache.tar"));
    assert!(named("oci:/cache:main@sha256:abc").contains("malformed digest"));
    assert!(named("type=local,dest=/c").contains("unknown attribute \"dest\""));
    assert!(named("type=local,src=/c,src=/d").contains("\"src\" is given twice"));
    assert!(named("TYPE=local,src=/c,type=local").contains("\"type\" is given twice"));
    assert!(named("type=local,/c").contains("\"/c\" is not of the form key=value"));
    for text in ["type=local,\"src=/c", "type=local,src=\"/c\"", "type=local,\"src=/c\"x"] {
        let error = parse(text).unwrap_err();
        assert!(matches!(error, ParseSourceError::Quote { .. }), "{text}");
        assert!(
            error.to_string().ends_with(
                "\" has a misplaced quote; quote a whole field and double quotes inside \
                 it"
            ),
            "{error}"
        );
    }
}

#[test]
fn what_is_elsewhere_says_where_without_what_is_secret() {
    let remote = |text: &str| match parse(text) {
        Err(ParseSourceError::Elsewhere(remote)) => *remote,
        other => panic!("{text}: {other:?}"),
    };
    for (text, place) in [
        ("type=s3,bucket=b", "in S3"),
        ("type=azblob,account_name=a", "in Azure Blob Storage"),
        ("s3://b/ci/", "in S3"),
        ("gs://b/c", "in Google Cloud Storage"),
        ("https://x.io/c", "on another machine"),
    ] {
        assert_eq!(remote(text).to_string(), place);
        assert_eq!(
            parse(text).unwrap_err().to_string(),
            format!("it is {place}, which is not read")
        );
    }
    let secret = "type=s3,bucket=b,prefix=ci/,name=main;pr-7,access_key_id=A,secret_access_key=S";
    let expected = Remote::S3 {
        bucket: Some("b".to_owned()),
        prefix: "ci/".to_owned(),
        region: None,
        endpoint: None,
        manifests: None,
        name: Some("main".to_owned()),
    };
    assert_eq!(remote(secret), expected);
    let url = "type=azblob,account_url=https://builds.blob.core.windows.net/?sig=S,prefix=/ci/";
    let expected = Remote::Azure {
        container: None,
        account: Some("builds".to_owned()),
        prefix: Some("ci".to_owned()),
        manifests: None,
        name: None,
    };
    assert_eq!(remote(url), expected);
}

#[test]
fn a_path_that_is_there_counts_before_a_tag_of_a_shorter_one() {
    let temp = tempfile::tempdir().unwrap();
    let cache = temp.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    let cache = cache.to_str().unwrap();
    let on_disk = |word: &str| parse(word).unwrap().on_disk().into_owned();
    let tag = |tag: &str| Reference::Tag(tag.to_owned());
    let digest = || Reference::Digest(DIGEST.parse().unwrap());
    for (reference, expected) in [
        (":latest", tag("latest")),
        (":docker.io/library/a:b", tag("docker.io/library/a:b")),
        (&format!("@{DIGEST}"), digest()),
        (&format!(":main@{DIGEST}"), digest()),
    ] {
        let word = format!("{cache}{reference}");
        assert_eq!(on_disk(&word), source(cache, expected), "{word}");
        // Parsing alone sees a path.
        assert_eq!(parse(&word).unwrap(), source(&word, Reference::Default));
    }
    // No file has that name.
    let elsewhere = format!("{cache}-2:latest");
    assert_eq!(on_disk(&elsewhere), source(&elsewhere, Reference::Default));
    assert_eq!(hint(Path::new(&elsewhere)), "");
    // The longest existing path, and a path that exists as a whole.
    let longer = format!("{cache}:main");
    std::fs::create_dir(&longer).unwrap();
    assert_eq!(on_disk(&format!("{longer}:x")), source(&longer, tag("x")));
    assert_eq!(on_disk(&longer), source(&longer, Reference::Default));
    // A link exists, even if its target does not.
    let link = format!("{cache}:link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    assert_eq!(on_disk(&link), source(&link, Reference::Default));
    // A given selection stays.
    let chosen = source(&format!("{cache}:other"), tag("x"));
    assert_eq!(*chosen.on_disk(), chosen);
}

#[test]
fn what_is_not_there_may_have_another_meaning() {
    let temp = tempfile::tempdir().unwrap();
    let cache = temp.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    let cache = cache.to_str().unwrap();
    for (reference, said) in [(":", "has an empty tag"), ("@sha256:ab", "has a malformed digest")] {
        let word = format!("{cache}{reference}");
        assert!(hint(Path::new(&word)).contains(said), "{word}");
        assert_eq!(*parse(&word).unwrap().on_disk(), source(&word, Reference::Default));
    }
    let said = hint(Path::new("ghcr.io/team/cache:main"));
    assert_eq!(
        said,
        "; if that is a name and no path, it is in a registry, and registries are not read"
    );
    let reference = "ghcr.io/team/cache:main".to_owned();
    let expected = ParseSourceError::Registry { reference };
    assert_eq!(meaning(Path::new("ghcr.io/team/cache:main")), Some(expected));
    for word in ["cache", "team/cache", "./a.b/c", "../cache", "/a:b", "a:b"] {
        assert_eq!(hint(Path::new(word)), "", "{word}");
    }
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same_source(
        path in "[a-z:@,=\"./ -]{1,12}|oci:.|oci-archive:.|ocidir://.|docker://.|dir:.|s3dir:.|docker-archive:.|src=.|type=.",
        tag in proptest::option::of("[a-z:@,=\"./ ]{1,12}"),
        hash in proptest::option::of(any::<[u8; 32]>()),
    ) {
        let reference = match (tag, hash) {
            (_, Some(hash)) => Reference::Digest(Digest::from_bytes(hash)),
            (Some(tag), None) => Reference::Tag(tag),
            (None, None) => Reference::Default,
        };
        let expected = source(&path, reference);
        prop_assert_eq!(parse(&expected.to_string()), Ok(expected));
    }

    #[test]
    fn any_word_is_parsed_or_refused(text in ".*") {
        let _ = parse(&text);
    }
}
