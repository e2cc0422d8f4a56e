//! Names, types and attributes of entries.

use std::path::Path;

use archives::*;

use crate::case::{Case, Containerd, Outcome};

pub(super) fn all() -> Vec<Case> {
    [roots(), long_names(), kinds(), deep_paths(), duplicates(), limits()]
        .into_iter()
        .flatten()
        .collect()
}

fn roots() -> Vec<Case> {
    let mut cases = Vec::new();
    for (case, name) in [
        ("empty", ""),
        ("dot", "."),
        ("slash", "/"),
        ("dot-slash", "./"),
        ("dots", ".."),
        ("more-dots", "../.."),
        ("back-at-the-root", "a/.."),
    ] {
        cases.push(Case::unpacks(&format!("cve-2021-29136::{case}"), &[], move |_| {
            [dir(name).mode(0).owner(7, 7), symlink(name, "/etc"), file(name, "x")]
        }));
    }
    cases
}

fn long_names() -> Vec<Case> {
    let named = |name: Vec<u8>| [pax(&[("path", &name)]), file("x", "")];
    let attribute = |name: String, value: usize| {
        let (key, value) = (format!("SCHILY.xattr.{name}"), vec![b'v'; value]);
        [pax(&[(&key, &value)]), file("f", "")]
    };
    let too_long = "longer than 4095 bytes, or a name in it than 255";
    vec![
        Case::new(
            "over-long-names::name-of-255-bytes",
            Outcome::Unpacks(vec!["n".repeat(255)]),
            move |_| vec![named(vec![b'n'; 255]).into()],
        ),
        Case::refused("over-long-names::name-of-256-bytes", too_long, move |_| {
            named(vec![b'n'; 256])
        }),
        Case::refused("over-long-names::directory-of-256-bytes", too_long, move |_| {
            named([&[b'n'; 256][..], b"/f"].concat())
        }),
        Case::refused("over-long-names::name-of-a-mebibyte", "--limit path", move |_| {
            named(vec![b'n'; 1_000_000])
        }),
        Case::refused("over-long-names::link-target-of-5000-bytes", "--limit path", |_| {
            [pax(&[("linkpath", &[b'n'; 5000])]), symlink("x", "y")]
        }),
        Case::refused("over-long-names::long-path-through-a-link", too_long, |_| {
            let half = "d/".repeat(1500);
            let path = format!("l/{half}f");
            [
                pax(&[("linkpath", half.as_bytes())]),
                symlink("l", "x"),
                pax(&[("path", path.as_bytes())]),
                file("x", ""),
            ]
        }),
        Case::refused("over-long-names::whiteout-of-256-bytes", too_long, move |_| {
            named([b".wh.", &[b'n'; 256][..]].concat())
        })
        .on(|| [file("f", "")]),
        Case::refused(
            "over-long-names::xattr-name-of-256-bytes",
            "extended attribute",
            move |_| attribute(format!("user.{}", "n".repeat(251)), 1),
        ),
        Case::refused(
            "over-long-names::xattr-value-of-65537-bytes",
            "extended attribute",
            move |_| attribute("user.big".to_owned(), 65_537),
        ),
        Case::refused(
            "over-long-names::xattrs-of-more-than-128-kibibytes",
            "--limit xattrs",
            |_| {
                let names: Vec<_> =
                    (0..20).map(|index| format!("SCHILY.xattr.user.{index}")).collect();
                let value = [b'v'; 10_000];
                let records: Vec<_> =
                    names.iter().map(|name| (name.as_str(), &value[..])).collect();
                [pax(&records), file("f", "")]
            },
        )
        .containerd(Containerd::NotTried("some file systems take them, others do not")),
        Case::refused("over-long-names::many-xattrs", "--limit xattrs", |_| {
            let names: Vec<_> =
                (0..20_000).map(|index| format!("SCHILY.xattr.user.{index:05}")).collect();
            let records: Vec<_> = names.iter().map(|name| (name.as_str(), &b"v"[..])).collect();
            [pax(&records), file("f", "")]
        })
        .containerd(Containerd::NotTried("some file systems take them, others do not")),
    ]
}

fn kinds() -> Vec<Case> {
    let mut cases = vec![
        Case::unpacks("device-numbers::largest", &["b", "c"], |_| {
            [member(b'3', "c").device(4095, 0xF_FFFF), member(b'4', "b").device(4095, 0xF_FFFF)]
        }),
        Case::unpacks("device-numbers::beyond-those-of-linux", &["c"], |_| {
            [member(b'3', "c").device(4097, 0x10_0003)]
        }),
        Case::refused("device-numbers::out-of-range", "is out of range", |_| {
            [member(b'4', "b").raw(329, b"\x80\0\0\x01\0\0\0\x01")]
        }),
        Case::refused("device-numbers::negative", "is out of range", |_| {
            [member(b'3', "c").raw(329, &[0xFF; 8]).raw(337, &[0xFF; 8])]
        }),
        Case::unpacks("device-numbers::zero-is-a-whiteout-in-an-overlay", &["gone"], |_| {
            [member(b'3', "gone").device(0, 0)]
        })
        .on(|| [file("gone", "")]),
        Case::unpacks("fifos-and-sockets::replaced-without-being-opened", &["b", "p"], |_| {
            [member(b'6', "p"), file("p", "x"), member(b'4', "b").device(7, 0), file("b", "y")]
        }),
        Case::unpacks("fifos-and-sockets::setuid-fifo", &["p"], |_| {
            [member(b'6', "p").mode(0o6777).owner(1, 2)]
        }),
        Case::refused("fifos-and-sockets::entry-below-a-fifo", "not a directory", |_| {
            [member(b'6', "p"), file("p/f", "")]
        }),
    ];
    // The flags of tar programs for sockets, and other types that no program unpacks.
    for typeflag in [b's', b'7', b'D', b'V', b'M', b'N', b'A', 200] {
        let name = format!("fifos-and-sockets::type-{typeflag}");
        cases.push(Case::refused(&name, "cannot unpack an entry of tar type", move |_| {
            [member(typeflag, "x")]
        }));
    }
    cases
}

fn deep_paths() -> Vec<Case> {
    let deep = |depth: usize| vec!["d"; depth].join("/");
    let directories = |depth: usize| (1..=depth).map(deep).collect::<Vec<_>>();
    let at = |path: &str, member: Member| [pax(&[("path", path.as_bytes())]), member];
    vec![
        Case::new("deep-paths::2000-deep", Outcome::Unpacks(directories(2000)), move |_| {
            vec![at(&deep(2000), dir("x")).into()]
        }),
        Case::unpacks("deep-paths::2000-deep-and-replaced", &["d"], move |_| {
            [&at(&deep(2000), file("x", ""))[..], &[file("d", "")]].concat()
        }),
        Case::refused("deep-paths::3000-deep", "--limit path", move |_| at(&deep(3000), dir("x"))),
        Case::refused(
            "deep-paths::links-in-a-deep-directory",
            "too many symbolic links",
            move |_| {
                let deep = deep(1500);
                let mut members = at(&deep, dir("x")).to_vec();
                for index in 0..200 {
                    let target = format!("/{deep}/l{}", index + 1);
                    let path = format!("{deep}/l{index}");
                    members
                        .push(pax(&[("path", path.as_bytes()), ("linkpath", target.as_bytes())]));
                    members.push(symlink("x", "y"));
                }
                members.extend(at(&format!("{deep}/l0/f"), file("x", "")));
                members
            },
        )
        .containerd(Containerd::NotTried("it takes minutes")),
    ]
}

fn duplicates() -> Vec<Case> {
    vec![
        Case::unpacks("duplicate-entries::of-all-kinds", &["x"], |_| {
            [
                file("x", "1"),
                dir("x"),
                symlink("x", "y"),
                file("x", "2"),
                member(b'6', "x"),
                dir("x").mode(0o700),
                file("x/f", ""),
                member(b'3', "x").device(1, 3),
                file("x", "last").mode(0o600),
            ]
        }),
        Case::unpacks("duplicate-entries::directories-merge", &["d", "d/a", "d/b"], |_| {
            [
                dir("d").mode(0o700),
                file("d/a", ""),
                dir("d").mode(0o750).owner(1, 2),
                file("d/b", ""),
            ]
        }),
        Case::unpacks("duplicate-entries::different-spellings", &["a", "a/b"], |_| {
            [file("a/b", "1"), file("./a//b", "2"), file("/a/./b", "3"), file("a/c/../b", "4")]
        }),
        Case::unpacks(
            "duplicate-entries::directory-that-becomes-a-link-to-the-root",
            &["c"],
            |_| [dir("c").mtime(1), symlink("c", "..")],
        ),
        Case::unpacks("duplicate-entries::global-header-makes-room", &["tmp"], |_| {
            let global = |name| member(b'g', name).data(pax_record(b"comment", b"x"));
            [file("a", ""), global("a"), global("tmp/pax_global_header")]
        }),
        Case::refused(
            "duplicate-entries::directory-gone-when-its-time-is-set",
            "not a directory",
            |_| [dir("p/q"), file("p", "")],
        ),
    ]
}

fn limits() -> Vec<Case> {
    let many =
        |_: &Path| vec![(0..50).map(|index| dir(format!("d{index}"))).collect::<Vec<_>>().into()];
    let beyond = Containerd::Unpacks("the limit is ours");
    vec![
        Case::new("many-entries::entries", Outcome::Refused("--limit layer-entries"), many)
            .limit("layer-entries=49")
            .containerd(beyond),
        Case::new("many-entries::directories", Outcome::Refused("--limit layer-directories"), many)
            .limit("layer-directories=1000")
            .containerd(beyond),
        Case::refused("many-entries::through-links", "--limit layer-lookups", |_| {
            let mut members = vec![dir("d"), symlink("l", "d")];
            // Each in another directory than the previous one.
            members.extend((0..200).map(|index| file(format!("l/{}/f", index % 2), "")));
            members
        })
        .limit("layer-lookups=20K")
        .containerd(beyond),
    ]
}
