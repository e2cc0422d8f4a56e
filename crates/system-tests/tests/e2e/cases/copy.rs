//! COPY and ADD in all their forms.

use std::process::Command;

use crate::case::{Case, Context, Export, Keys};
use crate::process::run;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "copy",
        dockerfile: || COPY.into(),
        context,
        edit: |context| drop(context.file("dir/sub/x.md", "edited\n")),
        arguments: &[],
        export: Export::MAX,
        keys: Keys::Provenance,
    },
    Case {
        name: "add",
        dockerfile: || ADD.into(),
        context,
        edit: |context| archive(context, "edited\n"),
        arguments: &[],
        export: Export::INDEX,
        keys: Keys::Attestation,
    },
];

const COPY: &str = r#"
FROM {registry}/busybox AS named
COPY --chown=app:staff a.txt /by-name
COPY --chown=app a.txt /by-user
COPY --chown=1000:1001 a.txt /by-id
COPY --chmod=0751 a.txt /mode
COPY --chmod=u=rwx,go=rX dir /symbolic
COPY --chown=app:app --chmod=2755 dir /both
FROM {registry}/busybox
COPY --from=named --chown=7 /by-name /by-id /from/
COPY --link dir /linked
COPY --link --chown=5:6 --chmod=600 a.txt /linked-owned/
COPY --parents dir/./sub/x.md /parents/
COPY --parents **/*.md /all-parents/
COPY --exclude=*.md --exclude=skip dir /excluded/
COPY *.txt dir/s?b/*.md /wild/
COPY . /everything/
COPY <<DOC /heredoc
first <&> "line"
$HOME $PATH
DOC
COPY --chmod=755 <<one <<"two" /two/
#!/bin/sh
one
two $NOT_EXPANDED
two
"#;

const ADD: &str = r#"
FROM {registry}/busybox
ADD {web}/document.txt /fetched
ADD --chmod=640 --chown=3:4 {web}/other /fetched-dir/
ADD archive.tar.gz /unpacked/
ADD --unpack=false archive.tar.gz /packed/
ADD --link archive.tar.gz /unpacked-linked/
ADD a.txt b.txt /plain/
RUN cat /fetched /unpacked/tree/file > /joined
"#;

fn context(context: &Context) {
    context.file("a.txt", "first\n");
    context.file("b.txt", "second\n");
    context.file("dir/sub/x.md", "x\n");
    context.file("dir/sub/y.md", "y\n");
    context.file("dir/skip/z", "z\n");
    context.file_mode("dir/run.sh", "#!/bin/sh\n", 0o755);
    context.file_mode("dir/private", "secret\n", 0o600);
    context.symlink("dir/link", "sub/x.md");
    archive(context, "packed\n");
}

/// An archive with owners, a hard link, a symlink and an extended attribute.
fn archive(context: &Context, contents: &str) {
    context.file("packed/tree/file", contents);
    context.file_mode("packed/tree/setuid", "s\n", 0o4755);
    context.xattr("packed/tree/setuid", "user.origin", b"archive");
    if !context.dir().join("packed/tree/hard").exists() {
        context.hard_link("packed/tree/hard", "packed/tree/file");
        context.symlink("packed/tree/soft", "../file");
    }
    let dir = context.dir();
    let mut command = Command::new("tar");
    // The same bytes every time: the build must not see a change.
    command.args(["--xattrs", "--owner=11", "--group=12", "--mtime=2020-02-02", "--sort=name"]);
    command.args(["--pax-option=exthdr.name=%d/%f,delete=atime,delete=ctime", "-czf"]);
    command.arg(dir.join("archive.tar.gz")).arg("-C").arg(dir.join("packed")).arg("tree");
    run(&mut command).expect("GNU tar");
}
