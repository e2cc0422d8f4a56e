//! Links, and lookups through them.

use std::path::Path;

use archives::*;

use crate::case::{Case, Outcome, text};

/// The link `link` to the directory that must stay untouched.
fn link_out(outside: &Path) -> [Member; 2] {
    [pax(&[("linkpath", text(outside))]), symlink("link", "x")]
}

fn through(name: &str, then: impl Fn() -> Vec<Member> + Send + Sync + 'static) -> Case {
    Case::unpacks(name, &["link"], move |outside| [link_out(outside).to_vec(), then()].concat())
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = vec![
        through("rustsec-2026-0067::directory-over-a-link", || vec![dir("link").mode(0o777)]),
        through("rustsec-2026-0067::directory-with-a-dot-over-a-link", || {
            vec![dir("link/.").mode(0o777).owner(7, 7)]
        }),
        through("rustsec-2026-0113::file-over-a-link", || vec![file("link", "").mode(0o4777)]),
        Case::unpacks("rustsec-2026-0113::hard-link-to-a-link", &["hard", "link"], |outside| {
            let hard = hard_link("hard", "link").mode(0o4777).owner(7, 7).mtime(1);
            [link_out(outside).to_vec(), vec![hard]].concat()
        }),
        Case::unpacks("rustsec-2026-0113::attributes-of-a-link", &["link"], |outside| {
            let out = text(outside);
            let records = [("linkpath", out), ("SCHILY.xattr.security.note", b"x")];
            [pax(&records), symlink("link", "x").mode(0o777).owner(7, 7).mtime(1)]
        }),
        Case::unpacks(
            "ghsa-3wgq-wrwc-vqmv::directory-replaced-by-a-link",
            &["d", "outside", "outside/secret"],
            |_| [dir("d"), file("d/one", ""), symlink("d", "/outside"), file("d/secret", "mine")],
        ),
        Case::unpacks(
            "ghsa-3wgq-wrwc-vqmv::parent-replaced-by-a-link",
            &["a", "other", "other/b", "other/b/two"],
            |_| {
                [
                    dir("a"),
                    dir("a/b"),
                    file("a/b/one", ""),
                    symlink("a", "/other"),
                    file("a/b/two", ""),
                ]
            },
        ),
        Case::unpacks(
            "ghsa-3wgq-wrwc-vqmv::link-replaced-by-a-link",
            &["l", "x", "x/one", "y", "y/two"],
            |_| {
                [
                    dir("x"),
                    dir("y"),
                    symlink("l", "x"),
                    file("l/one", ""),
                    symlink("l", "y"),
                    file("l/two", ""),
                ]
            },
        ),
        Case::unpacks(
            "ghsa-3wgq-wrwc-vqmv::link-replaced-by-a-directory",
            &["l", "l/two", "x", "x/one"],
            |_| [dir("x"), symlink("l", "x"), file("l/one", ""), dir("l"), file("l/two", "")],
        ),
        Case::unpacks(
            "ghsa-3wgq-wrwc-vqmv::target-of-a-link-replaced-by-a-link",
            &["l", "x", "y", "y/two"],
            |_| {
                [
                    dir("x"),
                    dir("y"),
                    symlink("l", "x"),
                    file("l/one", ""),
                    symlink("x", "y"),
                    file("l/two", ""),
                ]
            },
        ),
        Case::unpacks("cve-2026-50163::hard-link-to-a-link-out", &["hard", "link"], |outside| {
            [link_out(outside).to_vec(), vec![hard_link("hard", "link")]].concat()
        }),
        Case::unpacks(
            "cve-2026-50163::written-through-the-hard-link",
            &["hard", "link"],
            |outside| {
                let hard = [hard_link("hard", "link"), file("hard", "mine")];
                [link_out(outside).to_vec(), hard.to_vec()].concat()
            },
        ),
        Case::unpacks("cve-2026-50163::target-with-dots", &["d", "d/f", "hard"], |_| {
            [dir("d"), file("d/f", "inside"), hard_link("hard", "../../d/../d/./f")]
        }),
    ];
    let missing = "is not in the same layer";
    let absolute = |name: &str, file: &'static str| {
        Case::refused(&format!("cve-2026-50163::{name}"), missing, move |outside| {
            let target = [text(outside), file.as_bytes()].concat();
            [pax(&[("linkpath", &target)]), hard_link("hard", "x")]
        })
    };
    cases.extend([
        absolute("target-outside", "/secret"),
        absolute("target-outside-with-a-slash", "/secret/"),
        Case::refused("cve-2026-50163::target-below-a-link-out", missing, |outside| {
            let hard = hard_link("hard", "link/secret");
            [link_out(outside).to_vec(), vec![hard]].concat()
        }),
        Case::refused(
            "cve-2026-50163::target-with-a-slash-behind-a-link-out",
            missing,
            |outside| {
                let hard = hard_link("hard", "link/secret/");
                [link_out(outside).to_vec(), vec![hard]].concat()
            },
        ),
        Case::refused("hard-links::to-a-later-file", missing, |_| {
            [hard_link("x", "later"), file("later", "")]
        }),
        Case::refused("hard-links::to-a-removed-file", missing, |_| {
            [file("f", ""), file(".wh.f", ""), hard_link("x", "f")]
        }),
        Case::refused("hard-links::to-itself", missing, |_| [file("f", ""), hard_link("f", "f")]),
        Case::refused("hard-links::to-a-lower-layer", missing, |_| [hard_link("x", "f")])
            .on(|| [file("f", "below")]),
        Case::refused("hard-links::to-a-directory", "is a directory", |_| {
            [dir("d"), hard_link("x", "d")]
        }),
        Case::refused("hard-links::to-the-root", "is a directory", |_| [hard_link("x", "/")]),
        Case::refused("hard-links::to-a-whiteout", "is not in the same layer", |_| {
            [file(".wh.g", ""), hard_link("x", ".wh.g")]
        })
        .on(|| [file("g", "")]),
        Case::unpacks("hard-links::to-a-device", &["dev", "x"], |_| {
            [member(b'3', "dev").device(1, 3), hard_link("x", "dev").mode(0o600)]
        }),
        Case::unpacks("hard-links::two-names-of-a-file-that-is-replaced", &["f", "x"], |_| {
            [file("f", "old"), hard_link("x", "f"), file("f", "new")]
        }),
    ]);
    for (name, members) in [
        ("one", [symlink("a", "a"), symlink("b", "b")]),
        ("two", [symlink("a", "b"), symlink("b", "a")]),
        ("growing", [symlink("a", "b/b/b/b"), symlink("b", "a/a/a/a")]),
    ] {
        let circle =
            move |_: &Path| vec![[members.to_vec(), vec![file("a/f", "")]].concat().into()];
        let refused = Outcome::Refused("too many symbolic links");
        cases.push(Case::new(&format!("link-circles::{name}"), refused, circle));
    }
    cases
}
