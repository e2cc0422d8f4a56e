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
        assert!(named(text).ends_with("regctl image copy a.io/b:c ocidir://cache:latest"));
    }
    // What a shell would take for something else is quoted.
    assert!(named("docker://a; rm -r b").ends_with("copy 'a; rm -r b' ocidir://cache:latest"));
    assert!(named("dir:it's").ends_with(r"copy --all 'dir:it'\''s' oci:cache:latest"));
    assert!(named("type=local,ref=a").contains("unknown attribute \"ref\""));
    assert!(named("type=gha,scope=x").contains("--cache-to type=local,dest=cache,mode=max"));
    assert!(named("type=inline").contains("\"inline\" is not read"));
    assert!(named("src=cache").contains("type \"\" is not read; only type=local"));
    assert!(named("docker-daemon:a:b").contains("skopeo copy --all docker-daemon:a:b oci:cache"));
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
fn what_is_elsewhere_is_fetched_with_one_command() {
    for (text, place, expected, given) in [
        (
            "type=s3,bucket=b,region=eu-west-1",
            "S3",
            "aws s3 sync s3://b/ cache --region eu-west-1",
            "s3dir:cache",
        ),
        (
            "type=s3,bucket=b,prefix=ci/app/,name=main;pr-7,access_key_id=A,secret_access_key=S",
            "S3",
            "aws s3 sync s3://b/ci/app/ cache",
            "s3dir:cache:main",
        ),
        (
            "prefix=ci/app-,name=a b,bucket=b,type=s3,endpoint_url=http://[::1]:9000",
            "S3",
            "aws s3 sync s3://b/ci/ cache --exclude '*' --include 'app-*' --endpoint-url \
             'http://[::1]:9000'",
            "'s3dir:cache:a b'",
        ),
        (
            "type=s3,prefix=it's/,manifests_prefix=m/,blobs_prefix=b/,name=main",
            "S3",
            r#"aws s3 sync s3://"$AWS_BUCKET"/'it'\''s/' cache"#,
            "s3dir:cache:m/main",
        ),
        (
            "type=s3,bucket=b,manifests_prefix=old/manifests/",
            "S3",
            "aws s3 sync s3://b/ cache",
            "s3dir:cache",
        ),
        (
            "type=azblob,account_url=https://builds.blob.core.windows.net,secret_access_key=S,name=main",
            "Azure Blob Storage",
            "mkdir -p cache && az storage blob download-batch --destination cache --source \
             buildkit-cache --account-name builds",
            "s3dir:cache:main",
        ),
        (
            "type=azblob,account_name=a,container=c,prefix=/ci/app/,manifests_prefix=m",
            "Azure Blob Storage",
            "mkdir -p cache && az storage blob download-batch --destination cache --source c \
             --account-name a --pattern 'ci/app/*'",
            "s3dir:cache:ci/app/m/buildkit",
        ),
        ("s3://b/ci/", "S3", "aws s3 sync s3://b/ci/ cache", "cache"),
        ("s3://b/ci/app.tar.zst", "S3", "aws s3 cp s3://b/ci/app.tar.zst .", "app.tar.zst"),
        (
            "gs://b/c d",
            "Google Cloud Storage",
            "gcloud storage rsync --recursive 'gs://b/c d' cache",
            "cache",
        ),
        ("gs://b/c.tar", "Google Cloud Storage", "gcloud storage cp gs://b/c.tar .", "c.tar"),
        (
            "https://x.io/c?d=1&e",
            "another machine",
            "curl --fail --location --output cache.tar 'https://x.io/c?d=1&e'",
            "cache.tar",
        ),
    ] {
        let error = parse(text).unwrap_err();
        let said = error.to_string();
        let ParseSourceError::Elsewhere { command, then, .. } = error else { panic!("{said}") };
        assert_eq!((&*command, &*then), (expected, given), "{text}");
        let end = format!("{place}; give {given} when you have fetched it with: {expected}");
        assert!(said.ends_with(&end), "{said}");
        assert!(!said.contains("secret_access_key") && !said.contains("access_key_id"), "{said}");
    }
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
        // Whoever only reads the word sees a path.
        assert_eq!(parse(&word).unwrap(), source(&word, Reference::Default));
    }
    // Nothing there is called so.
    let elsewhere = format!("{cache}-2:latest");
    assert_eq!(on_disk(&elsewhere), source(&elsewhere, Reference::Default));
    assert_eq!(hint(Path::new(&elsewhere)), "");
    // The longest that is there, and what is there as a whole.
    let longer = format!("{cache}:main");
    std::fs::create_dir(&longer).unwrap();
    assert_eq!(on_disk(&format!("{longer}:x")), source(&longer, tag("x")));
    assert_eq!(on_disk(&longer), source(&longer, Reference::Default));
    // A link is there, even if what it leads to is not.
    let link = format!("{cache}:link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    assert_eq!(on_disk(&link), source(&link, Reference::Default));
    // What was chosen is chosen.
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
    assert!(said.contains("regctl image copy ghcr.io/team/cache:main ocidir:"), "{said}");
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
