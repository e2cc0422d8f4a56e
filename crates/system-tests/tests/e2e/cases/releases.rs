//! The build for comparing releases of BuildKit: a step of every kind whose key changed in some release.

use crate::case::{Case, Context, Export, Keys};

pub(crate) const CASE: Case = Case {
    name: "releases",
    dockerfile: || DOCKERFILE.into(),
    context,
    edit: |context| drop(context.file("src/a", "edited\n")),
    arguments: &["--secret", "id=token,src={context}/token"],
    export: Export::MAX,
    keys: Keys::Provenance,
};

// A step below a missing one is missing too, so the steps most at risk are at the end.
const DOCKERFILE: &str = r#"
FROM {registry}/busybox AS other
RUN mkdir /given && echo given > /given/file
FROM {registry}/busybox
WORKDIR /work
COPY src/a a
COPY src /src
COPY --chown=1000:1000 src/a numeric
COPY --chown=0:0 src/a zero
COPY --chown=app:staff src/a named
COPY --from=other /given /given
COPY --link src/b /linked/b
RUN echo "<a> & 'b'" > html
RUN --mount=type=bind,source=src,target=/bound cat /bound/a > bound
RUN --mount=type=bind,from=other,source=/given,target=/other ls /other > other
RUN --mount=type=tmpfs,target=/scratch touch /scratch/x && ls /scratch > scratch
RUN --mount=type=cache,target=/cache echo 1 > /cache/z && cp /cache/z cached
RUN --mount=type=cache,target=/named,id=shared,sharing=locked echo 2 > /named/z
RUN --network=none ls /sys/class/net > links
COPY <<FILE /heredoc
<here> & there
FILE
RUN cat /heredoc > last
RUN --mount=type=secret,id=token wc -c < /run/secrets/token > token
COPY src/*.txt /texts/
"#;

fn context(context: &Context) {
    context.file("src/a", "a\n");
    context.file("src/b", "b\n");
    context.file("src/1.txt", "1\n");
    context.file("src/2.txt", "2\n");
    context.file("token", "hush\n");
}
