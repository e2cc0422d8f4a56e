//! File ops with every action and option of `pb.FileOp`.

use testkit::protobuf::Message;

use super::random::Random;

/// Number of inputs of the ops: the base image, which has users, and [`tree`].
const INPUTS: usize = 2;
const BASE: i64 = 0;
const TREE: i64 = 1;
const NONE: i64 = -1;

/// Fields of `pb.FileAction`.
const COPY: u8 = 4;
const MKFILE: u8 = 5;
const MKDIR: u8 = 6;
const RM: u8 = 7;
const SYMLINK: u8 = 8;

/// Files to copy: `/d/a.txt`, `/d/b`, `/d/sub/c.txt`, `/e` and the link `/link` to `/d`.
pub(super) fn tree() -> Message {
    let dir = |path| (MKDIR, Message::new().text(1, path).int(2, 0o755).int(5, NONE));
    let file =
        |path| (MKFILE, Message::new().text(1, path).int(2, 0o644).bytes(3, path).int(5, NONE));
    let link = (SYMLINK, Message::new().text(1, "d").text(2, "/link").int(4, NONE));
    let actions = [
        dir("/d"),
        dir("/d/sub"),
        file("/d/a.txt"),
        file("/d/b"),
        file("/d/sub/c.txt"),
        file("/e"),
        link,
    ];
    let last = actions.len() - 1;
    let actions = actions.into_iter().enumerate().map(|(at, (field, action))| {
        let input = at.checked_sub(1).map_or(NONE, index);
        let output = if at == last { 0 } else { NONE };
        self::action(input, NONE, output).message(field, action)
    });
    Message::new().messages(2, actions)
}

/// Makes only a file with these contents.
pub(super) fn file(path: &str, data: &[u8]) -> Message {
    file_in(NONE, path, data)
}

/// Makes a file with these contents in an input of the op.
pub(crate) fn file_in(input: i64, path: &str, data: &[u8]) -> Message {
    let mkfile = Message::new().text(1, path).int(2, 0o600).bytes(3, data).int(5, NONE);
    Message::new().message(2, action(input, NONE, 0).message(MKFILE, mkfile))
}

/// Generates a `pb.FileOp` over the base image and the tree, and its number of outputs.
pub(super) fn op(random: &mut Random) -> (Message, i64) {
    let count = random.below(4) + 1;
    let mut outputs = 0;
    let mut actions = Vec::new();
    for at in 0..count {
        // Ordinary chains, whose indexes are omitted, are as likely as others.
        let input = match at {
            0 => random.pick(&[BASE, BASE, BASE, NONE, TREE]),
            _ => index(INPUTS + at - 1),
        };
        let has_output = at == count - 1 || random.below(6) == 0;
        let output = if has_output { outputs } else { NONE };
        outputs += i64::from(has_output);
        let path = format!("/o{at}{}", random.name());
        let (secondary, field, action) = match random.below(9) {
            0 => (NONE, MKDIR, mkdir(random, &path)),
            1 => (NONE, MKFILE, mkfile(random, &path)),
            2 => (NONE, SYMLINK, symlink(random, &path)),
            3 => (NONE, RM, rm(random)),
            4 if at > 0 => (index(INPUTS + random.below(at)), COPY, copy_with(random, "/", &path)),
            _ => (TREE, COPY, copy(random, &path)),
        };
        actions.push(self::action(input, secondary, output).message(field, action));
    }
    (Message::new().messages(2, actions), outputs)
}

/// Generates a chain over the base image, or with no `inputs` over an empty file system.
pub(super) fn op_alone(random: &mut Random, inputs: usize) -> Message {
    let count = random.below(3) + 1;
    let actions: Vec<_> = (0..count)
        .map(|at| {
            let input = match at {
                0 if inputs == 0 => NONE,
                0 => BASE,
                _ => index(inputs + at - 1),
            };
            let output = if at == count - 1 { 0 } else { NONE };
            let path = format!("/o{at}{}", random.name());
            let owner = inputs > 0;
            let (field, action) = match random.below(3) {
                0 => (MKDIR, mkdir_of(random, &path, owner)),
                1 => (MKFILE, mkfile_of(random, &path, owner)),
                _ => (SYMLINK, symlink_of(random, &path, owner)),
            };
            self::action(input, NONE, output).message(field, action)
        })
        .collect();
    Message::new().messages(2, actions)
}

fn action(input: i64, secondary: i64, output: i64) -> Message {
    Message::new().int(1, input).int(2, secondary).int(3, output)
}

fn index(number: usize) -> i64 {
    i64::try_from(number).expect("small")
}

fn mkdir(random: &mut Random, path: &str) -> Message {
    mkdir_of(random, path, true)
}

fn mkdir_of(random: &mut Random, path: &str, named: bool) -> Message {
    let parents = random.chance();
    let path = if parents { format!("{path}/{}", random.name()) } else { path.to_owned() };
    Message::new()
        .text(1, path)
        .int(2, random.pick(&[0, 0o755, 0o700, 0o1777]))
        .flag(3, parents)
        .optional(4, random.maybe(|random| owner(random, named)))
        .int(5, time(random))
}

fn mkfile(random: &mut Random, path: &str) -> Message {
    mkfile_of(random, path, true)
}

fn mkfile_of(random: &mut Random, path: &str, named: bool) -> Message {
    Message::new()
        .text(1, path)
        .int(2, random.pick(&[0, 0o644, 0o755]))
        .bytes(3, random.data())
        .optional(4, random.maybe(|random| owner(random, named)))
        .int(5, time(random))
}

fn symlink(random: &mut Random, path: &str) -> Message {
    symlink_of(random, path, true)
}

fn symlink_of(random: &mut Random, path: &str, named: bool) -> Message {
    Message::new()
        .text(1, format!("../{}", random.text()))
        .text(2, path)
        .optional(3, random.maybe(|random| owner(random, named)))
        .int(4, time(random))
}

fn rm(random: &mut Random) -> Message {
    let (path, wildcard) =
        random.pick(&[("/none", false), ("/e", false), ("/none*", true), ("/e*", true)]);
    Message::new().text(1, path).flag(2, true).flag(3, wildcard)
}

fn copy(random: &mut Random, dest: &str) -> Message {
    let (src, wildcard) = random.pick(&[
        ("/e", false),
        ("e", true),
        ("/d", false),
        ("/d/", false),
        ("d/./sub/../sub/c.txt", false),
        ("/link/b", false),
        ("/d/*.txt", true),
        ("/*", true),
        ("/[de]", true),
        ("/none*", true),
        ("/", false),
    ]);
    let none: &[&str] = &[];
    let (includes, excludes) = random.pick(&[
        (none, none),
        (none, none),
        (none, &["b", "**/<c>.txt"]),
        (&["**/*.txt", "e", "b"], none),
        (&["a.txt", "sub"], &["sub/d&e"]),
    ]);
    // They must exist, and are only checked with patterns.
    let required = if src == "/d" && includes.len() == 2 { &["/d", "/d/a.txt"] } else { none };
    copy_with(random, src, dest)
        .flag(9, wildcard || random.chance())
        .flag(10, wildcard || random.chance())
        .texts(12, includes)
        .texts(13, excludes)
        .texts(16, required)
}

fn copy_with(random: &mut Random, src: &str, dest: &str) -> Message {
    let makes_path = random.chance();
    let dest = if makes_path { format!("{dest}/x/") } else { dest.to_owned() };
    Message::new()
        .text(1, src)
        .text(2, dest)
        .optional(3, random.maybe(|random| owner(random, true)))
        .int(4, random.pick(&[-1, -1, 0, 0o640]))
        .flag(5, random.chance())
        .flag(6, random.chance())
        .flag(7, random.below(4) == 0)
        .flag(8, makes_path)
        .int(11, time(random))
        .flag(14, random.chance())
        .text(15, random.pick(&["", "", "0640", "u=rwX,go=rX", "go-w"]))
}

fn time(random: &mut Random) -> i64 {
    random.pick(&[-1, -1, 0, 1_000_000_000, 1_234_567_890_123_456_789])
}

/// Generates a `pb.ChownOpt`; users have names only with an input to look them up.
fn owner(random: &mut Random, named: bool) -> Message {
    Message::new()
        .optional(1, random.maybe(|random| user(random, named, &["root", "app"])))
        .optional(2, random.maybe(|random| user(random, named, &["root", "app", "staff"])))
}

fn user(random: &mut Random, named: bool, names: &[&str]) -> Message {
    if named && random.chance() {
        return Message::new().message(1, Message::new().text(1, random.pick(names)).int(2, BASE));
    }
    Message::new().choice(2, random.pick(&[0, 1000, 4_000_000_000]))
}
