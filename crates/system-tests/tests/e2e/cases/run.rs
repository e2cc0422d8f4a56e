//! RUN with its mounts, and with settings from earlier steps.

use crate::case::{Case, Context, Export, Keys};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "mounts",
        dockerfile: || MOUNTS.into(),
        context,
        edit: |context| drop(context.file("src/a", "edited\n")),
        arguments: &["--secret", "id=token,src={context}/token"],
        export: Export::MAX,
        keys: Keys::Inside,
    },
    Case {
        name: "settings",
        dockerfile: || SETTINGS.into(),
        context,
        edit: |context| drop(context.file("src/a", "edited\n")),
        arguments: &["--opt", "build-arg:LEVEL=5"],
        export: Export::MAX,
        keys: Keys::ProvenanceV02,
    },
];

const MOUNTS: &str = r#"
FROM {registry}/busybox AS other
RUN mkdir /given && echo given > /given/file
FROM {registry}/busybox
WORKDIR /work
RUN --mount=type=cache,target=/cache date > /cache/z && cp /cache/z made
RUN --mount=type=cache,target=/named,id=shared,sharing=locked echo 1 > /named/z
RUN --mount=type=cache,target=/owned,uid=1234,gid=2345,mode=0700 ls -ldn /owned > owned
RUN --mount=type=cache,target=/seeded,from=other,source=/given cat /seeded/file > seeded
RUN --mount=type=bind,source=src,target=/src cat /src/a /src/b > joined
RUN --mount=type=bind,from=other,source=/given,target=/given,rw echo 2 > /given/new && ls /given > given
RUN --mount=type=tmpfs,target=/scratch,size=1048576 touch /scratch/x && ls /scratch > scratch
RUN --mount=type=secret,id=token wc -c < /run/secrets/token > token
RUN --mount=type=secret,id=token,target=/t,mode=0440,gid=5 --mount=type=cache,target=/cache ls -ln /t > token-mode
RUN --mount=type=secret,id=token,env=TOKEN echo ${#TOKEN} > token-env
RUN --mount=type=secret,id=absent,required=false ls / > root
RUN --network=none ls /sys/class/net > links
RUN --network=none --mount=type=bind,source=src,target=/src cp /src/a copied
"#;

const SETTINGS: &str = r##"
ARG BASE=onbuild
FROM {registry}/${BASE}
ARG LEVEL=3
ENV MODE="a & b <c>" QUOTED='"x" \ $y'
LABEL about="a build <of> settings"
SHELL ["/bin/sh", "-eu", "-c"]
WORKDIR /work/deep
WORKDIR ../relative
RUN echo "<$MODE> && $QUOTED > '$LEVEL'" > made
RUN <<SCRIPT
echo "first $LEVEL" > first
echo 'second <&>' > second
SCRIPT
RUN <<-"QUOTED"
	echo "$HOME" > third
	echo tab	separated > fourth
QUOTED
RUN <<"PROGRAM" cat > fifth
#!/bin/cat
not a program: é ü 漢字 	 \b " ' ` & < >
PROGRAM
RUN ["/bin/sh", "-c", "echo 'exec form <&> \u2028 \u007f é' > sixth"]
USER app:staff
RUN id > /tmp/id
ENV LATER=$MODE-$LEVEL
USER 4321
RUN echo $LATER > /tmp/later; umask > /tmp/umask
COPY --chown=4321 src/a /tmp/a
ARG UNUSED
HEALTHCHECK CMD true
EXPOSE 80
CMD ["sh"]
"##;

fn context(context: &Context) {
    context.file("src/a", "a\n");
    context.file("src/b", "b\n");
    context.file("token", "hush\n");
    context.file("onbuild.txt", "on build\n");
}
