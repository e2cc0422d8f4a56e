//! One build, exported in every form.

use crate::case::{Case, Context, Export, Keys, Mode};

/// The build is the same in all of them.
const fn exported(name: &'static str, export: Export, keys: Keys) -> Case {
    Case {
        name,
        dockerfile: || DOCKERFILE.into(),
        context,
        edit: |context| drop(context.file("a", "edited\n")),
        arguments: &[],
        export,
        keys,
    }
}

const fn max(attributes: &'static str) -> Export {
    Export { mode: Mode::Max, attributes }
}

pub(super) const CASES: &[Case] = &[
    exported("gzip-index", Export::INDEX, Keys::Provenance),
    exported(
        "docker-media-types",
        max(",oci-mediatypes=false,image-manifest=false"),
        Keys::History,
    ),
    exported(
        "uncompressed",
        max(",compression=uncompressed,force-compression=true"),
        Keys::Attestation,
    ),
    exported("estargz", max(",compression=estargz,force-compression=true"), Keys::CacheDebug),
    exported("zstd", max(",compression=zstd,force-compression=true"), Keys::Metadata),
    exported(
        "zstd-index",
        max(",compression=zstd,compression-level=19,force-compression=true,image-manifest=false"),
        Keys::Inside,
    ),
    exported("min", Export { mode: Mode::Min, attributes: "" }, Keys::Bundle),
    exported(
        "min-index",
        Export { mode: Mode::Min, attributes: ",image-manifest=false" },
        Keys::Root,
    ),
    // The steps cached after the edit are those of a daemon that imports the cache, so this also shows that
    // daemons still import a cache with keys attached.
    exported("attached", Export { mode: Mode::Min, attributes: "" }, Keys::Attached),
    exported("attached-index", Export::INDEX, Keys::Attached),
    exported("beside", Export::MAX, Keys::Beside),
    exported("tar", Export::MAX, Keys::Tar),
    exported("answer", Export::INDEX, Keys::Answer),
];

const DOCKERFILE: &str = r#"
FROM {registry}/busybox AS build
COPY a /src/a
RUN mkdir -p /out/sub && cp /src/a /out/sub/made && rm /src/a
COPY --link b /b
FROM {registry}/busybox
COPY c /c
COPY --from=build /out /out
RUN cat /c /out/sub/made > /final && rm /c
"#;

fn context(context: &Context) {
    context.file("a", "a\n");
    context.file("b", "b\n");
    // Longer than a chunk of an estargz layer's table of contents.
    context.file("c", "0123456789abcdef".repeat(300_000));
}
