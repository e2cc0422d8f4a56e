//! containerd's ways out of the target (containerd v2.3.3 `pkg/archive/tar_test.go` `TestBreakouts`), by its
//! names. If containerd prepares the target first, there are two cases: on a lower layer, and with everything
//! in one.

use archives::*;

use crate::case::{Blob, Case, Outcome, text};

const ETC: [&str; 2] = ["etc", "etc/passwd"];

/// `/etc` with a file.
fn etc() -> Vec<Member> {
    vec![dir("etc").mode(0o770), file("/etc/passwd", "inside")]
}

fn with(members: Vec<Member>, more: impl IntoIterator<Item = Member>) -> Vec<Member> {
    members.into_iter().chain(more).collect()
}

/// Returns `ETC`, with other names.
fn names(more: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = ETC.iter().chain(more).map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}

fn unpacks(
    name: &str,
    names: Vec<String>,
    members: impl Fn() -> Vec<Member> + Send + Sync + 'static,
) -> Case {
    Case::new(name, Outcome::Unpacks(names), move |_| vec![members().into()])
}

/// Returns the same members on a lower layer with `below`, and in one layer with it.
fn prepared(
    name: &str,
    below: fn() -> Vec<Member>,
    members: fn() -> Vec<Member>,
    two_layers: Outcome,
    one_layer: Outcome,
) -> [Case; 2] {
    let name = format!("containerd-breakouts::{name}");
    let in_one = format!("{name}-in-one-layer");
    [
        Case::new(&name, two_layers, move |_| vec![below().into(), members().into()]),
        Case::new(&in_one, one_layer, move |_| vec![Blob::from(with(below(), members()))]),
    ]
}

fn tree(names: &[&str]) -> Outcome {
    Outcome::Unpacks(names.iter().map(|name| (*name).to_owned()).collect())
}

pub(super) fn all() -> Vec<Case> {
    let parts = [symlinks(), hard_links(), replaced(), whiteouts(), whiteouts_through_links()];
    parts.into_iter().flatten().collect()
}

fn symlinks() -> Vec<Case> {
    let unbroken = || file("/localetc/unbroken", "unbroken");
    let dummy = |target: &'static str, local: &'static str| {
        move || {
            vec![
                dir("etc"),
                dir("dummy"),
                symlink("/dummy/etc", target),
                symlink("localetc", local),
                file("/dummy/etc/unbroken", "unbroken"),
            ]
        }
    };
    let multiple = ["dummy", "dummy/etc", "etc", "etc/unbroken", "localetc"];
    vec![
        Case::unpacks(
            "containerd-breakouts::symlink-absolute",
            &["etc", "etc/unbroken", "localetc"],
            move |_| [dir("etc"), symlink("localetc", "/etc"), unbroken()],
        ),
        Case::unpacks(
            "containerd-breakouts::symlink-up-and-out",
            &["dummy", "etc", "etc/unbroken", "localetc"],
            move |_| [dir("etc"), dir("dummy"), symlink("localetc", "/dummy/../etc"), unbroken()],
        ),
        Case::unpacks("containerd-breakouts::symlink-multiple-absolute", &multiple, move |_| {
            dummy("/etc", "/dummy/etc")()
        }),
        Case::unpacks("containerd-breakouts::symlink-multiple-relative", &multiple, move |_| {
            dummy("/etc", "./dummy/etc")()
        }),
        Case::unpacks(
            "containerd-breakouts::symlink-empty-file",
            &["etc", "etc/emptied", "localetc"],
            |_| {
                [
                    dir("etc"),
                    file("etc/emptied", "notempty"),
                    symlink("localetc", "/etc"),
                    file("/localetc/emptied", ""),
                ]
            },
        ),
    ]
}

fn hard_links() -> Vec<Case> {
    // The name, a link beside it with its target, and the new name with its target.
    let through = |name: &'static str,
                   link: (&'static str, &'static str),
                   new: &'static str,
                   target: &'static str| {
        let directories: &[&str] = match link.0 {
            "breakouts/d1" => &["breakouts"],
            _ => &[],
        };
        let mut names = names(&[link.0, new]);
        names.extend(directories.iter().map(|name| (*name).to_owned()));
        names.sort();
        unpacks(&format!("containerd-breakouts::{name}"), names, move || {
            let directories = directories.iter().map(dir);
            let links = [symlink(link.0, link.1), hard_link(new, target)];
            with(etc(), directories.chain(links))
        })
    };
    let direct = |name: &'static str, target: &'static str| {
        unpacks(&format!("containerd-breakouts::{name}"), names(&["localpasswd"]), move || {
            with(etc(), [hard_link("localpasswd", target)])
        })
    };
    let (d1, mine) = ("/breakouts/d1/passwd", "breakouts/mypasswd");
    let (local, new) = ("/localetc/passwd", "localpasswd");
    vec![
        through("hardlink-relative", ("breakouts/d1", "../../etc"), mine, d1),
        unpacks(
            "containerd-breakouts::hardlink-down-and-out",
            names(&["breakouts", "breakouts/d1", "breakouts/mypasswd", "downandout"]),
            || {
                let link = symlink("breakouts/d1", "../downandout/../../etc");
                let linked = hard_link("breakouts/mypasswd", "/breakouts/d1/passwd");
                with(etc(), [dir("breakouts"), dir("downandout"), link, linked])
            },
        ),
        through("hardlink-absolute", ("localetc", "/etc"), new, local),
        through("hardlink-relative-long", ("localetc", "../../../../../../../etc"), new, local),
        through("hardlink-relative-up-and-out", ("localetc", "upandout/../../../etc"), new, local),
        direct("hardlink-direct-relative", "../../../../../etc/passwd"),
        direct("hardlink-direct-absolute", "/etc/passwd"),
        unpacks(
            "containerd-breakouts::hardlink-symlink-before-create-target",
            names(&["localpasswd", "localpasswd-dup"]),
            || {
                vec![
                    dir("etc").mode(0o770),
                    symlink("localpasswd", "/etc/passwd"),
                    hard_link("localpasswd-dup", "localpasswd"),
                    file("/etc/passwd", "after"),
                ]
            },
        ),
        through(
            "hardlink-symlink-relative",
            ("passwdlink", "../../../../../etc/passwd"),
            new,
            "/passwdlink",
        ),
        through("hardlink-symlink-absolute", ("passwdlink", "/etc/passwd"), new, "/passwdlink"),
        Case::new(
            "containerd-breakouts::hardlink-symlink-chmod",
            Outcome::Refused("the hard link's target"),
            |outside| {
                let secret = [text(outside), b"/secret"].concat();
                let also = [text(outside), b"/other"].concat();
                let link = [pax(&[("path", &also), ("linkpath", &secret)]), symlink("x", "y")];
                let hard = [pax(&[("linkpath", &secret)]), hard_link("sketchylink", "y")];
                vec![[link, hard].concat().into()]
            },
        ),
    ]
}

fn replaced() -> Vec<Case> {
    let linked = |name: &'static str, link: Member| {
        unpacks(&format!("containerd-breakouts::{name}"), names(&["localpasswd"]), move || {
            with(etc(), [link.clone(), hard_link("localpasswd", "/etc/passwd")])
        })
    };
    let mut cases = vec![
        linked("symlink-parent-directory", symlink("..", "/etc/")),
        linked("symlink-empty-filename", symlink("", "/etc/")),
        unpacks(
            "containerd-breakouts::symlink-parent-relative",
            names(&["etc/localpasswd", "localetc"]),
            || {
                let link = symlink("localetc/sub/..", "/etc/");
                with(etc(), [link, hard_link("/localetc/localpasswd", "/etc/passwd")])
            },
        ),
        unpacks(
            "containerd-breakouts::symlink-slash-ended",
            names(&["localetc", "localetc/localpasswd"]),
            || {
                let local = dir("localetc/").mode(0o770);
                with(etc(), [local, hard_link("/localetc/localpasswd", "/etc/passwd")])
            },
        ),
        Case::unpacks(
            "containerd-breakouts::symlink-override-path",
            &["foo", "foo/tmp", "foo/tmp/breakout", "tmp", "tmp/breakout"],
            |_| {
                [
                    dir("foo"),
                    dir("foo/tmp"),
                    file("foo/tmp/breakout", [0, 1, 2]),
                    symlink("foo", "/"),
                    file("foo/tmp/breakout", [3, 4, 5]),
                    dir("foo"),
                    dir("foo/tmp"),
                    file("foo/tmp/breakout", [6, 7, 8]),
                ]
            },
        ),
    ];
    let with_directory = || with(etc(), [dir("/localetc/")]);
    let lower_target = || Outcome::Refused("is not in the same layer");
    let through_link = || tree(&["etc", "etc/localpasswd", "etc/passwd", "localetc"]);
    cases.extend(prepared(
        "symlink-override-directory",
        with_directory,
        || vec![symlink("localetc", "/etc"), hard_link("/localetc/localpasswd", "/etc/passwd")],
        lower_target(),
        through_link(),
    ));
    cases.extend(prepared(
        "symlink-override-directory-relative",
        with_directory,
        || {
            vec![
                symlink("localetc", "../../etc"),
                hard_link("/localetc/localpasswd", "/etc/passwd"),
            ]
        },
        lower_target(),
        through_link(),
    ));
    cases.extend(prepared(
        "directory-override-symlink",
        || with(etc(), [symlink("localetc", "/etc")]),
        || vec![dir("/localetc/"), hard_link("/localetc/localpasswd", "/etc/passwd")],
        lower_target(),
        tree(&["etc", "etc/passwd", "localetc", "localetc/localpasswd"]),
    ));
    cases.extend(prepared(
        "directory-override-symlink-and-hardlink",
        || {
            let link = symlink("localetc", "etc");
            with(etc(), [link, hard_link("/localetc/localpasswd", "/etc/passwd")])
        },
        || vec![dir("/localetc/"), file("/localetc/localpasswd", "different")],
        tree(&["localetc", "localetc/localpasswd"]),
        tree(&["etc", "etc/localpasswd", "etc/passwd", "localetc", "localetc/localpasswd"]),
    ));
    cases
}

fn whiteouts() -> Vec<Case> {
    let escapes = || Outcome::Refused("names a directory instead of an entry in it");
    let refused = |name: &str, members: fn() -> Vec<Member>| {
        prepared(name, etc, members, escapes(), escapes())
    };
    [
        refused("whiteout-root-parent", || vec![file(".wh...", "")]),
        refused("whiteout-parent", || vec![file("etc/.wh...", "")]),
        refused("whiteout-root", || vec![file(".wh..", "")]),
        refused("whiteout-current-directory", || vec![file("etc/.wh..", "")]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn whiteouts_through_links() -> Vec<Case> {
    let local = || with(etc(), [file("/etc/whitedout", "ahh"), symlink("localetc", "/etc")]);
    let dead = || with(etc(), [symlink("localetc", "/dne")]);
    [
        prepared(
            "whiteout-symlink",
            || with(etc(), [symlink("localetc", "/etc")]),
            || vec![file(".wh.localetc", "")],
            tree(&["localetc"]),
            tree(&ETC),
        ),
        prepared(
            "whiteout-symlink-path",
            local,
            || vec![file("localetc/.wh.whitedout", "")],
            tree(&["localetc", "localetc/whitedout"]),
            tree(&["etc", "etc/passwd", "localetc"]),
        ),
        prepared(
            "whiteout-directory-name",
            local,
            || vec![file(".wh.etc/somefile", "non-empty")],
            tree(&[".wh.etc", ".wh.etc/somefile"]),
            tree(&[
                ".wh.etc",
                ".wh.etc/somefile",
                "etc",
                "etc/passwd",
                "etc/whitedout",
                "localetc",
            ]),
        ),
        prepared(
            "whiteout-dead-symlink-parent",
            dead,
            || vec![file("localetc/.wh.etc", "")],
            tree(&["localetc", "localetc/etc"]),
            tree(&["dne", "etc", "etc/passwd", "localetc"]),
        ),
        prepared(
            "whiteout-relative-path",
            dead,
            || vec![file("dne/../.wh.etc", "")],
            tree(&["etc"]),
            // As in containerd, whose own case does not name the directory before.
            Outcome::Refused("is not there any more"),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
