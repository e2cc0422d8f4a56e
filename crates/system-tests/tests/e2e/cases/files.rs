//! Every kind of file in a layer, and every way in which one layer changes another.

use crate::case::{Case, Context, Export, Keys};

pub(super) const CASES: &[Case] = &[Case {
    name: "files",
    dockerfile: || FILES.into(),
    context,
    edit: |context| drop(context.file("tree/plain", "edited\n")),
    arguments: &[],
    export: Export::MAX,
    keys: Keys::Donor,
}];

const FILES: &str = r#"
FROM {registry}/busybox
RUN mkdir /d && cd /d && echo one > one && ln one two && ln one three && ln -s one soft && ln -s /nowhere dangling
RUN cd /d && touch setuid setgid && chmod 4711 setuid && chmod 2755 setgid && mkdir -m 1777 sticky && mkdir -m 2750 group
RUN cd /d && mkfifo -m 600 pipe && mknod null c 1 3 && mknod -m 640 loop b 7 300 && chown 5:6 pipe null
RUN cd /d && truncate -s 8M hole && dd if=/dev/zero of=tail bs=1 count=1 seek=3000000 && : > empty
RUN cd /d && touch -d '1999-12-31 23:59:59' old && touch -d '2033-05-18 03:33:20' young && chown 123456:7654321 old && chown -h 8:9 soft
RUN mkdir -p /d/ünï/çødé && touch "/d/ünï/çødé/日本語 файл" /d/'with space' "$(printf '/d/new\nline')" && n=$(printf '%0200d' 7) && mkdir -p /long/$n/$n && echo deep > /long/$n/$n/$n && ln -s $n/$n /long/to
RUN cd /d && mkdir gone swap keep nest && touch gone/x swap/y keep/z keep/stay && mkdir -p nest/a/b/c && touch nest/a/b/c/d
RUN cd /d && rm two && rm -r gone && mkdir gone && rm -r swap && echo file > swap && rm keep/z
RUN cd /d && rm swap && mkdir swap && touch swap/again && rm -r gone && chmod 0700 keep && rm -r nest/a/b && touch nest/a/b
RUN cd /d && echo changed >> one && touch -d '2001-01-01 00:00:00' keep && mv old renamed && rm -r nest && mkdir -p nest/a && ln renamed nest/a/linked
COPY tree /tree
COPY tree/capable /tree/again
RUN rm -r /tree/sub && ln /tree/plain /tree/sub && rm -r /long
COPY tree/sub /tree2/sub
RUN cd / && mv /tree /moved && rm -r /d
"#;

fn context(context: &Context) {
    context.file("tree/plain", "plain\n");
    context.file("tree/sub/inner", "inner\n");
    context.file("tree/capable", "capable\n");
    // cap_net_bind_service+ep, revision 2 (linux/capability.h: vfs_cap_data).
    let capability: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    context.xattr("tree/capable", "security.capability", &capability);
    context.xattr("tree/plain", "user.note", b"kept\0as it is");
    context.xattr("tree/sub", "user.directory", b"");
    context.hard_link("tree/hard", "tree/plain");
    context.symlink("tree/soft", "../elsewhere");
    context.file_bytes("tree/naïve ☃".as_bytes(), "non-ASCII\n");
    context.file(format!("tree/{}", "l".repeat(255)), "long\n");
    context.file_mode("tree/setuid", "s\n", 0o6755);
}
