//! Commands with every option of `pb.ExecOp`. They do nothing.

use testkit::protobuf::Message;

use super::random::Random;

/// The inputs of the ops.
const BASE: i64 = 0;
const TREE: i64 = 1;
const NO_INPUT: i64 = -1;
const NO_OUTPUT: i64 = -1;

/// The client's secret.
pub(super) const SECRET: &str = "token";

/// Generates a `pb.ExecOp` over the base image and the tree, and its number of outputs.
pub(super) fn op(random: &mut Random) -> (Message, i64) {
    let mut outputs = 0;
    let root = root(random, &mut outputs);
    let others = random.below(4);
    let mut mounts = vec![root];
    for number in 0..others {
        mounts.push(mount(random, number, &mut outputs));
    }
    let secrets = random.some(2, |random| {
        let missing = random.chance();
        let id = if missing { format!("no {}", random.text()) } else { SECRET.into() };
        let name = format!("SECRET_{}", random.below(9));
        Message::new().text(1, id).text(2, name).flag(3, missing || random.chance())
    });
    let op = Message::new()
        .message(1, meta(random))
        .messages(2, mounts)
        .int(3, random.pick(&[0, 0, 1, 2]))
        .int(4, random.pick(&[0, 0, 1]))
        .messages(5, secrets);
    (op, outputs)
}

fn meta(random: &mut Random) -> Message {
    let args = random.some(4, Random::text);
    let env = random.some(3, |random| format!("NAME{}={}", random.below(9), random.text()));
    let cwd = random.pick(&["/", "/root", "/made <for> & by it", "/tmp/../tmp/é"]);
    let user = random.pick(&["", "", "root", "0", "1234", "app", "app:staff", "1:2", "0:app"]);
    let hosts = random.some(2, |random| {
        let host = random.pick(&["registry", "a.example", "ipv6.example"]);
        Message::new().text(1, host).text(2, random.pick(&["10.1.2.3", "2001:db8::1"]))
    });
    let limits = random.some(1, |random| {
        let soft = i64::try_from(random.below(500)).expect("small") + 256;
        Message::new().text(1, "nofile").int(2, soft).int(3, soft + random.pick(&[0, 100]))
    });
    let proxy = random.maybe(|random| {
        let url = "http://proxy.example:3128";
        Message::new().text(1, url).text(2, url).text(4, random.pick(&["", "localhost"]))
    });
    let codes = random.pick(&[&[][..], &[0], &[0, 1], &[255, 0, 3]]);
    Message::new()
        .texts(1, ["/bin/true".to_owned()].into_iter().chain(args))
        .texts(2, env)
        .text(3, cwd)
        .text(4, user)
        .optional(5, proxy)
        .messages(6, hosts)
        .text(7, random.pick(&["", "", "builder", "x-1.example"]))
        .messages(9, limits)
        .text(10, random.pick(&["", "", "generated"]))
        .flag(11, random.chance())
        .ints(12, codes)
}

/// Returns the next output, or none.
fn output(outputs: &mut i64, wanted: bool) -> i64 {
    if wanted {
        *outputs += 1;
        *outputs - 1
    } else {
        NO_OUTPUT
    }
}

/// Generates the root, which is always an output, so that there is one.
fn root(random: &mut Random, outputs: &mut i64) -> Message {
    Message::new()
        .int(1, BASE)
        .text(3, "/")
        .int(4, output(outputs, true))
        .int(24, random.pick(&[0, 0, 1, 2]))
}

fn mount(random: &mut Random, number: usize, outputs: &mut i64) -> Message {
    let dest = format!("/m{number}/{}", random.name());
    let at = |input, output| Message::new().int(1, input).text(3, &dest).int(4, output);
    let other = |kind| at(NO_INPUT, NO_OUTPUT).int(6, kind);
    match random.below(8) {
        0..=2 => {
            let selector = random.pick(&["", "", "/", "/d", "d/sub/", "/d/../d/./sub"]);
            let has_output = random.chance();
            let readonly = random.chance();
            let whole = matches!(selector, "" | "/");
            let on = if readonly || !has_output || whole { 1 } else { 0 };
            at(TREE, output(outputs, has_output))
                .text(2, selector)
                .flag(5, readonly)
                .int(24, random.pick(&[0, on, 2]))
        }
        3 => {
            let wanted = random.chance();
            at(NO_INPUT, output(outputs, wanted))
        }
        4 => {
            let cache = Message::new()
                .text(
                    1,
                    match random.below(4) {
                        0 => dest.clone(),
                        1 => format!("/{dest}"),
                        2 => format!("space/{dest}"),
                        _ => random.name(),
                    },
                )
                .int(2, random.pick(&[0, 0, 1, 2]));
            let input = random.pick(&[NO_INPUT, NO_INPUT, TREE]);
            at(input, NO_OUTPUT).int(6, 3).message(20, cache)
        }
        5 => {
            let size = random.pick(&[0, 1 << 20, 5_000_000_000]);
            other(4).optional(19, random.maybe(|_| Message::new().int(1, size)))
        }
        6 => {
            let missing = random.chance();
            let id = if missing { format!("no {}", random.text()) } else { SECRET.into() };
            other(1).message(21, owned(random, &id, missing))
        }
        _ => {
            let id = random.text();
            other(2).message(22, owned(random, &id, true))
        }
    }
}

/// `pb.SecretOpt` or `pb.SSHOpt`.
fn owned(random: &mut Random, id: &str, missing: bool) -> Message {
    Message::new()
        .text(1, id)
        .int(2, random.pick(&[0, 1000, 4_000_000_000]))
        .int(3, random.pick(&[0, 1000]))
        .int(4, random.pick(&[0, 0o400, 0o777]))
        .flag(5, missing || random.chance())
}
