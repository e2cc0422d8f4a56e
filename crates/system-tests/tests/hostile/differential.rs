//! Generated chains of layers, compared with the results of containerd's applier.
//!
//! The seed is fixed, so that a run can be repeated; `PROPTEST_CASES` sets the number of chains. A failure is
//! shrunk to the smallest chain that fails.

use std::cell::Cell;
use std::fmt;

use anyhow::{Result, anyhow, ensure};
use archives::*;
use oci2bk::limits::Limits;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::case::Blob;
use crate::containerd::{Applier, compare};
use crate::sandbox::Sandbox;

/// Number of chains, unless `PROPTEST_CASES` is set.
const CHAINS: u32 = 600;

/// Compares chains of generated layers.
pub(crate) fn prove(containerd: &Applier) -> Result<()> {
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    let config = Config { failure_persistence: None, ..Config::default() };
    let config = if given { config } else { Config { cases: CHAINS, ..config } };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let chain = vec((vec(entry(), 1..15), ending()), 1..4);
    let equal = Cell::new(0);
    let cases = runner.config().cases as usize;
    let outcome = runner.run(&chain, |chain| {
        let failed = |error: anyhow::Error| TestCaseError::fail(format!("{error:#}"));
        equal.set(equal.get() + compare_chain(&chain, containerd).map_err(failed)?);
        Ok(())
    });
    outcome.map_err(|error| anyhow!("{error}"))?;
    let equal = equal.get();
    ensure!(equal > cases / 2, "of {cases} chains only {equal} layers unpack: nothing is compared");
    Ok(())
}

/// Returns the number of layers that unpack, to equal trees.
fn compare_chain(chain: &[(Vec<Entry>, Ending)], containerd: &Applier) -> Result<usize> {
    let sandbox = Sandbox::new()?;
    let layers: Vec<_> = chain.iter().map(|(entries, ending)| layer(entries, *ending)).collect();
    let outcomes = compare(&sandbox, &layers, &Limits::default(), containerd)?;
    sandbox.ensure_untouched()?;
    ensure!(outcomes.is_same() || outcomes.is_known_difference(), "{outcomes:?}");
    Ok(outcomes.equal)
}

/// The end of an archive.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Whole,
    OneBlock,
    Nothing,
    Trailing,
    CutOff(u16),
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        8 => Just(Ending::Whole),
        1 => Just(Ending::OneBlock),
        1 => Just(Ending::Nothing),
        1 => Just(Ending::Trailing),
        1 => prop_oneof![
            3 => Just(Ending::Whole),
            1 => any::<u16>().prop_map(Ending::CutOff),
        ],
    ]
}

fn layer(entries: &[Entry], ending: Ending) -> Blob {
    let mut linkable: Vec<Vec<u8>> = Vec::new();
    let mut tar = Vec::new();
    for entry in entries {
        let members = entry.members(&linkable);
        tar.extend(open_archive(&members));
        if matches!(entry.kind, Kind::File(_) | Kind::Symlink(_) | Kind::Device(..)) {
            linkable.push(entry.name());
        }
    }
    match ending {
        Ending::Whole => tar.extend([0; 1024]),
        Ending::OneBlock => tar.extend([0; 512]),
        Ending::Nothing => {}
        Ending::Trailing => tar.extend([&[0; 1024][..], b"junk"].concat()),
        Ending::CutOff(at) => tar.truncate(usize::from(at) % (tar.len() + 1)),
    }
    Blob::plain(tar)
}

#[derive(Clone)]
struct Entry {
    kind: Kind,
    path: String,
    mode: i64,
    owner: (i64, i64),
    mtime: i64,
    extras: Vec<Extra>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, path, mode, owner, mtime, extras } = self;
        write!(f, "{kind:?} {path:?} {mode:o} {owner:?} {mtime} {extras:?}")
    }
}

#[derive(Debug, Clone)]
enum Kind {
    File(usize),
    Directory,
    Symlink(String),
    /// To an earlier entry.
    HardLink(Index),
    /// To any path.
    HardLinkTo(String),
    Device(u8, i64, i64),
    Fifo,
    Whiteout(&'static str),
    GlobalHeader,
    Other(u8),
}

/// Attributes of an entry outside its header block, or in another form of it.
#[derive(Debug, Clone)]
enum Extra {
    Pax(&'static str, &'static str),
    Path(&'static str, String),
    GnuName(String),
    GnuLink(String),
    /// A sparse file with its map in the header, or before the data.
    Sparse {
        before_data: bool,
        offset: u64,
        size: u64,
    },
    Magic(&'static [u8]),
    Prefix,
    /// A size field that is not the length of the data.
    Size(i64),
}

/// Few names, so that entries affect each other.
fn path() -> impl Strategy<Value = String> {
    let component = prop_oneof![
        20 => select(&["a", "b", "c", "d", "a-b"][..]),
        2 => select(&["l", "m", "f"][..]),
        1 => select(&["..", ".", "", "\u{fc}", "with space"][..]),
    ];
    let ends = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (vec(component, 1..5), ends).prop_map(|(components, (absolute, slash))| {
        let (start, end) = (if absolute { "/" } else { "" }, if slash { "/" } else { "" });
        format!("{start}{}{end}", components.join("/"))
    })
}

fn target() -> impl Strategy<Value = String> {
    (path(), prop_oneof![8 => Just(0), 1 => 1..4_usize])
        .prop_map(|(path, up)| format!("{}{path}", "../".repeat(up)))
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => select(&[0, 1, 10, 511, 512, 513, 2000][..]).prop_map(Kind::File),
        8 => Just(Kind::Directory),
        4 => target().prop_map(Kind::Symlink),
        3 => any::<Index>().prop_map(Kind::HardLink),
        1 => target().prop_map(Kind::HardLinkTo),
        1 => (select(&b"34"[..]), select(&[0, 1, 7, 5000][..]), select(&[0, 3, 300, 2_000_000][..]))
            .prop_map(|(kind, major, minor)| Kind::Device(kind, major, minor)),
        1 => Just(Kind::Fifo),
        3 => select(&[".wh..wh..opq", ".wh.a", ".wh.f", ".wh.l", ".wh..wh.plnk"][..])
            .prop_map(Kind::Whiteout),
        1 => Just(Kind::GlobalHeader),
        1 => prop_oneof![
            20 => Just(Kind::Directory),
            1 => select(&b"S7sDVg"[..]).prop_map(Kind::Other),
            1 => select(&[".wh.", ".wh..", ".wh..."][..]).prop_map(Kind::Whiteout),
        ],
    ]
}

/// GNU's, none, and one without a version.
const MAGICS: &[&[u8]] = &[b"ustar  \0", &[0; 8], b"ustar\0\0\0"];

fn extra() -> impl Strategy<Value = Extra> {
    let time = select(
        &["123.456789012", "-5.5", "99999999999999", "9223372036854775807", "0", "12.5"][..],
    );
    let xattr = select(
        &[
            "SCHILY.xattr.user.x",
            "SCHILY.xattr.user.y",
            "SCHILY.xattr.trusted.overlay.opaque",
            "SCHILY.xattr.security.note",
        ][..],
    );
    let id = select(&["4294967296", "70000", "+7", "-2", "1000"][..]);
    prop_oneof![
        4 => (select(&["mtime", "atime"][..]), time).prop_map(|(key, time)| Extra::Pax(key, time)),
        4 => (xattr, select(&["v", "value", "yy"][..]))
            .prop_map(|(key, value)| Extra::Pax(key, value)),
        // All ones for the group are rejected in an implied directory: see the known differences in
        // docs/format/unpack.md.
        2 => (select(&["uid", "gid"][..]), id).prop_map(|(key, id)| Extra::Pax(key, id)),
        1 => Just(Extra::Pax("uid", "4294967295")),
        2 => path().prop_map(|path| Extra::Path("path", path)),
        2 => path().prop_map(|path| Extra::Path("linkpath", path)),
        3 => path().prop_map(Extra::GnuName),
        2 => path().prop_map(Extra::GnuLink),
        2 => (any::<bool>(), 0..3000_u64, 0..9000_u64)
            .prop_map(|(before_data, offset, size)| Extra::Sparse { before_data, offset, size }),
        2 => select(MAGICS).prop_map(Extra::Magic),
        1 => Just(Extra::Prefix),
        1 => prop_oneof![
            10 => Just(Extra::Prefix),
            1 => select(&[0, 1, 512, 1024, 100_000][..]).prop_map(Extra::Size),
            1 => select(&["x", "", "-1"][..]).prop_map(|value| Extra::Pax("size", value)),
        ],
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let mode = select(&[0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o600, 0][..]);
    let owner = (select(&[0, 1, 1000][..]), select(&[0, 5][..]));
    let extras = prop_oneof![3 => Just(Vec::new()), 1 => vec(extra(), 1..4)];
    // Files that are not directories mostly have unique names, or few layers would unpack.
    let leaf = prop_oneof![9 => select(&["/f", "/g", "/h"][..]), 1 => Just("")];
    let link = prop_oneof![3 => select(&["/l", "/m"][..]), 1 => Just("")];
    let leaves = (leaf, link);
    (kind(), path(), leaves, mode, owner, 0..2_000_000_000_i64, extras).prop_map(
        |(kind, path, (leaf, link), mode, owner, mtime, extras)| {
            let leaf = match kind {
                Kind::Directory | Kind::Whiteout(_) | Kind::GlobalHeader | Kind::Other(_) => "",
                Kind::Symlink(_) => link,
                _ => leaf,
            };
            Entry { path: path + leaf, kind, mode, owner, mtime, extras }
        },
    )
}

impl Entry {
    /// Returns the name in the header block.
    fn name(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Whiteout(whiteout) => {
                let directory = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
                format!("{directory}/{whiteout}").into_bytes()
            }
            _ => self.path.clone().into_bytes(),
        }
    }

    fn members(&self, linkable: &[Vec<u8>]) -> Vec<Member> {
        let name = self.name();
        let mut data = Vec::new();
        let mut block = match &self.kind {
            Kind::File(length) => {
                data = vec![b'A' + (length % 26) as u8; *length];
                member(b'0', name)
            }
            Kind::Directory => dir(name),
            Kind::Symlink(target) => symlink(name, target),
            Kind::HardLink(_) if linkable.is_empty() => dir(name),
            Kind::HardLink(index) => hard_link(name, index.get(linkable)),
            Kind::HardLinkTo(target) => hard_link(name, target),
            Kind::Device(kind, major, minor) => member(*kind, name).device(*major, *minor),
            Kind::Fifo => member(b'6', name),
            Kind::Whiteout(_) => file(name, ""),
            Kind::GlobalHeader => {
                data = pax_record(b"comment", b"global");
                member(b'g', name)
            }
            Kind::Other(typeflag) => member(*typeflag, name),
        };
        block = block.mode(self.mode).owner(self.owner.0, self.owner.1).mtime(self.mtime);
        let (mut records, mut long, mut size) = (Vec::new(), Vec::new(), None);
        for extra in &self.extras {
            match extra {
                Extra::Pax(key, value) => records.push((*key, value.as_bytes().to_vec())),
                Extra::Path(key, path) => records.push((*key, path.clone().into_bytes())),
                Extra::GnuName(path) => long.push(gnu_long(b'L', path)),
                Extra::GnuLink(path) => long.push(gnu_long(b'K', path)),
                Extra::Sparse { before_data, offset, size } => {
                    let length = data.len();
                    if *before_data {
                        let mut map = format!("1\n{offset}\n{length}\n").into_bytes();
                        map.resize(512, 0);
                        data = [map, data].concat();
                        records.push(("GNU.sparse.major", b"1".to_vec()));
                        records.push(("GNU.sparse.minor", b"0".to_vec()));
                        records.push(("GNU.sparse.realsize", size.to_string().into_bytes()));
                    } else {
                        records.push(("GNU.sparse.size", size.to_string().into_bytes()));
                        records.push(("GNU.sparse.numblocks", b"1".to_vec()));
                        records.push(("GNU.sparse.map", format!("{offset},{length}").into_bytes()));
                    }
                }
                Extra::Magic(magic) => block = block.raw(257, magic),
                Extra::Prefix => block = block.raw(345, b"a/b\0"),
                Extra::Size(other) => size = Some(*other),
            }
        }
        block = block.data(&data);
        if let Some(size) = size {
            block = block.size(size);
        }
        let mut members = Vec::new();
        if !records.is_empty() {
            let records: Vec<_> =
                records.iter().map(|(key, value)| (*key, value.as_slice())).collect();
            members.push(pax(&records));
        }
        members.extend(long);
        members.push(block);
        members
    }
}
