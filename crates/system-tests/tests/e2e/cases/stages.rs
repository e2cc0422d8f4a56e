//! The shapes of build graphs.

use std::fmt::Write as _;

use crate::case::{Case, Context, Export, Keys};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "deep",
        dockerfile: deep,
        context,
        edit: edit_a,
        arguments: &[],
        export: Export::INDEX,
        keys: Keys::Metadata,
    },
    Case {
        name: "wide",
        dockerfile: wide,
        context,
        edit: edit_a,
        arguments: &[],
        export: Export::MAX,
        keys: Keys::Donor,
    },
    Case {
        name: "stages",
        dockerfile: || STAGES.into(),
        context,
        edit: edit_a,
        arguments: &[],
        export: Export::MAX,
        keys: Keys::Provenance,
    },
    Case {
        name: "platforms",
        dockerfile: || PLATFORMS.into(),
        context,
        edit: edit_a,
        arguments: &["--opt", "platform=linux/amd64,linux/arm64"],
        export: Export::MAX,
        keys: Keys::Attestation,
    },
];

/// 70 layers on top of each other.
fn deep() -> String {
    let mut dockerfile = String::from("FROM {registry}/busybox\nRUN mkdir /layers\n");
    for layer in 1..=68 {
        let step = match layer % 4 {
            0 => format!("RUN echo {layer} > /layers/{layer} && rm /layers/{}", layer - 1),
            1 => format!("COPY a /layers/{layer}"),
            2 => format!("COPY b /layers/sub{layer}/"),
            _ => format!("COPY <<DOC /layers/{layer}\n{layer}\nDOC"),
        };
        let _ = writeln!(dockerfile, "{step}");
    }
    dockerfile
}

/// 60 parallel stages, all of which the last one copies.
fn wide() -> String {
    let mut dockerfile = String::from("FROM {registry}/busybox AS base\nRUN mkdir /made\n");
    let mut last = String::from("FROM base\n");
    for stage in 1..=60 {
        let step = match stage % 3 {
            0 => format!("RUN echo {stage} > /made/{stage}"),
            1 => format!("COPY a /made/{stage}"),
            _ => format!("COPY b /made/{stage}"),
        };
        let _ = writeln!(dockerfile, "FROM base AS stage{stage}\n{step}");
        let link = if stage % 2 == 0 { "--link " } else { "" };
        let _ = writeln!(last, "COPY {link}--from=stage{stage} /made/{stage} /all/{stage}");
    }
    dockerfile + &last
}

const STAGES: &str = r#"
FROM {registry}/busybox AS base
RUN echo base > /base
FROM base AS compile
COPY a /src/
RUN mkdir /out && cat /src/a /base > /out/program
FROM base AS test
COPY --from=compile /out /tested
COPY b /b
RUN cat /tested/program /b > /report
FROM scratch AS unused
COPY b /never
FROM scratch AS data
WORKDIR /data
COPY --link b ./
FROM {registry}/busybox
COPY --from=compile /out/program /bin/program
COPY --from=test /report /report
COPY --from=data / /
COPY --from=base --link /base /linked/base
RUN --mount=type=bind,from=test,target=/other cat /other/report /bin/program > /final
"#;

/// The second platform's RUN step starts the same program: its architecture is not checked.
const PLATFORMS: &str = r#"
FROM --platform=$BUILDPLATFORM {registry}/busybox AS native
ARG TARGETARCH
COPY a /a
RUN echo "built for $TARGETARCH" > /target
FROM scratch
ARG TARGETPLATFORM
ENV FOR=$TARGETPLATFORM
COPY --from=native /bin/busybox /bin/sh
COPY --from=native /target /target
COPY b /b
RUN echo "$FOR" > /platform
"#;

fn context(context: &Context) {
    context.file("a", "a\n");
    context.file("b", "b\n");
}

fn edit_a(context: &Context) {
    context.file("a", "edited\n");
}
