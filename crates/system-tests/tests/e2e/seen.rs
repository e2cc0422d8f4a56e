//! Builds that list what their steps see, so that trees of different forms can be compared.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rustix::fs::{lgetxattr, lremovexattr};

use crate::case::{Case, Context};

/// The last steps of every build: what is in the tree. A build argument makes them run again.
const LIST: &str = r#"
ARG NEXT=none
RUN find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o ! -path /listing -print | sort \
    | xargs stat -c '%n %F %a %u:%g %s' | sed 's/ directory \(.*\) [0-9]*$/ directory \1/' > /listing; \
    find / -xdev -path /proc -prune -o -path /sys -prune -o -type f ! -name listing -print | sort \
    | xargs md5sum >> /listing
FROM scratch
COPY --from=work /listing /
"#;

/// Builds whose trees have what snapshotters have to keep.
pub(crate) const CASES: [Case; 3] = [
    Case::plain("base", || {
        "FROM {registry}/rootless-base AS work\n\
         RUN rm -r /implied && mkdir /implied && echo again > /implied/again\n\
         RUN chown 1000:50 /old/kept && chmod 2755 /home && ln /old/kept /old/link && rm /keep/new\n"
            .to_owned()
            + LIST
    }),
    Case {
        context: files,
        edit: |_| {},
        ..Case::plain("steps", || {
            "FROM {registry}/busybox AS work\n\
             WORKDIR /work\n\
             COPY --chown=1234:2345 --chmod=0640 src ./src\n\
             RUN mkdir -p a/b/c && echo 1 > a/b/c/one && ln -s b a/link && chown -R 5:6 a\n\
             RUN rm -r a && mkdir a && echo 2 > a/two && mkfifo pipe && mv src moved\n\
             RUN rm moved/x && chmod 4755 moved/y && touch -d @5 moved\n"
                .to_owned()
                + LIST
        })
    },
    Case {
        context: files,
        edit: |_| {},
        ..Case::plain("links", || {
            "FROM {registry}/busybox AS made\n\
             RUN mkdir /out && echo made > /out/made && chown 77:88 /out /out/made\n\
             FROM {registry}/busybox AS work\n\
             COPY --link --chown=1000:1000 src /srv/src\n\
             COPY --link --from=made /out /srv/out\n\
             RUN rm -r /srv/src && mkdir /srv/src && cp /srv/out/made /srv/src/copied\n"
                .to_owned()
                + LIST
        })
    },
];

/// The same with the last steps to run again.
pub(crate) const NEXT: &[&str] = &["--opt=build-arg:NEXT=again"];

fn files(context: &Context) {
    context.file("src/x", "x\n");
    context.file_mode("src/y", "y\n", 0o755);
    context.symlink("src/link", "x");
}

/// Returns the lines that only one of two listings has.
pub(crate) fn difference(expected: &str, found: &str) -> String {
    let only = |a: &str, b: &str, sign: &str| -> String {
        a.lines()
            .filter(|line| !b.lines().any(|l| l == *line))
            .map(|l| format!("{sign}{l}\n"))
            .collect()
    };
    format!(
        "the next step sees another tree:\n{}{}",
        only(expected, found, "-"),
        only(found, expected, "+")
    )
}

/// Removes `mark`, the attribute of opaque directories, below `path`, and returns how many had it.
pub(crate) fn unmark(path: &Path, mark: &str) -> Result<usize> {
    let mut count = 0;
    let mut pending = vec![path.to_owned()];
    while let Some(directory) = pending.pop() {
        if lgetxattr(&directory, mark, &mut [0_u8; 8]).is_ok() {
            lremovexattr(&directory, mark)?;
            count += 1;
        }
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(count)
}
