//! Ops of every kind, with all their options, and a real daemon's digests of them.
//!
//! The ops are generated, and encoded in protobuf by independent code of the tests. The daemon runs all of
//! them; every digest on a link in its `cache.db` must be one that the library computes from the same bytes,
//! and vice versa.

mod exec;
pub(crate) mod file;
pub(crate) mod graph;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use anyhow::{Context as _, Result, ensure};
use oci2bk::llb::{Definition, Encoding, NotComputable, OpDigest, Platform, Selectors, Vertex};
use testkit::protobuf::Message;

use crate::process;
use crate::state::State;
use crate::world::World;

use graph::{Graph, Kind, Output};
use random::Random;

/// Numbers of ops of each kind. The commands take the most time.
const EXECS: usize = 32;
const FILES: usize = 80;
const OTHERS: usize = 24;

/// Some ops need entitlements, and not all commands should run at once.
const CONFIG: &str = "insecure-entitlements = [\"network.host\", \"security.insecure\"]\n\
                      [worker.oci]\n  max-parallelism = 8\n";

/// Extends a definition by a step that makes a file in the result.
pub(crate) fn with_step_more(definition: &[u8]) -> Result<Vec<u8>> {
    let graph = Definition::from_protobuf(definition)?.graph.context("ops out of order")?;
    let result = graph.steps.last().context("an empty definition")?.inputs[0];
    let op = graph.steps[result.step].digest.clone().context("a step without a digest")?;
    let mut more = Graph::default();
    let input = Output { op, index: result.output.into() };
    let result = more.add_one(&[input], Kind::File, file::file_in(0, "/more", b"more\n"));
    // Concatenated definitions are one definition with the ops of both, and the last op names the result.
    Ok([definition, &more.definition(&result)].concat())
}

/// The daemon and the library compute the same digests for all ops.
pub(crate) fn prove(world: &World) -> Result<()> {
    compare(world).map(drop)
}

/// Compares the digests. Returns the number of ops.
pub(crate) fn compare(world: &World) -> Result<usize> {
    let dir = tempfile::Builder::new().prefix("ops").tempdir_in(world.scratch())?;
    let path = |name: &str| dir.path().join(name);
    let generated = generate(&mut Random::new(1), world.registry());
    std::fs::write(path("definition"), &generated.outer)?;
    std::fs::write(path("secret"), "hush\n")?;

    let root = path("root");
    let daemon = world.start_configured(&root, CONFIG)?;
    process::run_with_input(
        daemon
            .buildctl()
            .args(["build", "--progress=plain"])
            .args(["--allow=network.host", "--allow=security.insecure"])
            .arg(format!("--secret=id={},src={}", exec::SECRET, path("secret").display())),
        File::open(path("definition"))?,
    )?;
    daemon.stop()?;
    let state = State::read(&world.tools, &root)?;

    let mut ours = BTreeMap::new();
    for definition in [&generated.outer, &generated.inner] {
        ours.extend(vertices(definition)?);
    }
    ensure!(ours.len() > EXECS + FILES, "only {} ops differ", ours.len());
    let theirs = state.links()?;
    let digests: BTreeSet<_> = theirs.iter().map(|link| link.digest.as_str()).collect();
    let keys = state.keys();
    for (digest, vertex) in &ours {
        let found = if vertex.op.inputs > 0 {
            digests.contains(digest.as_str())
        } else {
            keys.contains(&*digest.record(0).to_string())
        };
        ensure!(found, "the daemon does not call {digest} this op: {vertex:#?}");
    }
    for link in &theirs {
        let digest = OpDigest::try_from(link.digest.clone())?;
        let vertex = ours.get(&digest).with_context(|| format!("no op of ours is {digest}"))?;
        let input = usize::try_from(link.input)?;
        let Some(selector) = vertex.selector(input, Selectors::V0_15_2) else { continue };
        let contents = link.selector.is_empty() && vertex.hashes_contents(input);
        ensure!(
            contents || link.selector == selector,
            "the daemon selects {:?}, not {selector:?}, of input {input} of {vertex:#?}",
            link.selector
        );
    }
    Ok(ours.len())
}

/// Returns the ops of a definition by their digests, except those whose digests cannot be computed.
fn vertices(definition: &[u8]) -> Result<BTreeMap<OpDigest, Vertex>> {
    let default_platform: Platform = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64".parse()?,
        "aarch64" => "linux/arm64".parse()?,
        other => format!("linux/{other}").parse()?,
    };
    let mut vertices = BTreeMap::new();
    for op in Definition::from_protobuf(definition)?.ops {
        let vertex = Vertex { op, default_platform: default_platform.clone() };
        match vertex.digest(Encoding::NEWEST) {
            Ok(digest) => drop(vertices.insert(digest, vertex)),
            Err(NotComputable::Source | NotComputable::Return) => {}
            Err(error) => return Err(error).with_context(|| format!("{vertex:#?}")),
        }
    }
    Ok(vertices)
}

struct Generated {
    /// The definition to build.
    outer: Vec<u8>,
    /// The definition that a build op in it builds.
    inner: Vec<u8>,
}

fn generate(random: &mut Random, registry: &str) -> Generated {
    let mut graph = Graph::default();
    let image = Message::new().text(1, format!("docker-image://{registry}/busybox:latest"));
    let base = graph.add_one(&[], Kind::Source, image);
    let tree = graph.add_one(&[], Kind::File, file::tree());
    let inputs = [base.clone(), tree];
    let mut made: Vec<Output> = Vec::new();
    for _ in 0..EXECS {
        let (op, outputs) = exec::op(random);
        let platform = random.maybe(platform);
        made.extend(graph.add(&inputs, Kind::Exec, op, platform, outputs));
    }
    for number in 0..FILES {
        if number % 3 == 0 {
            let alone = random.below(2);
            let op = file::op_alone(random, alone);
            made.push(graph.add_one(&inputs[..alone], Kind::File, op));
        } else {
            let (op, outputs) = file::op(random);
            made.extend(graph.add(&inputs, Kind::File, op, None, outputs));
        }
    }
    for _ in 0..OTHERS {
        let mut inputs: Vec<_> = (0..random.below(3) + 2).map(|_| random.pick(&made)).collect();
        made.extend(match random.below(3) {
            0 => vec![graph.add_one(&inputs, Kind::Merge, merge(random, inputs.len()))],
            1 => {
                let (op, count) = diff(random);
                inputs.truncate(count);
                vec![graph.add_one(&inputs, Kind::Diff, op)]
            }
            _ => {
                let (op, outputs) = passthrough(random, inputs.len());
                graph.add(&inputs, Kind::Passthrough, op, None, outputs)
            }
        });
    }
    let mut nested = Graph::default();
    let inner = nested.add_one(&[], Kind::File, file::op_alone(random, 0));
    let inner = nested.definition(&inner);
    for name in ["buildkit.llb.definition", "other <definition>"] {
        let definition = graph.add_one(&[], Kind::File, file::file(name, &inner));
        let inputs = [definition, random.pick(&made)];
        made.push(graph.add_one(&inputs, Kind::Build, build(random, name)));
    }
    // All are inputs of one op, so that they run.
    let last = Message::new().text(1, "all of them").ints(2, &[0]);
    let last = graph.add_one(&made, Kind::Passthrough, last);
    Generated { outer: graph.definition(&last), inner }
}

/// Generates a `pb.Platform`. Programs for this machine run with any value, unless there is an emulator.
fn platform(random: &mut Random) -> Message {
    let (architecture, variant) = random.pick(&[
        ("amd64", ""),
        ("amd64", "v1"),
        ("x86_64", ""),
        ("AMD64", "v2"),
        ("386", ""),
        ("arm64", "v8"),
        ("aarch64", ""),
        ("arm", ""),
        ("armhf", ""),
        ("arm", "6"),
        ("riscv64", ""),
    ]);
    let features = random.pick(&[&[][..], &["b", "a", "b"]]);
    Message::new()
        .text(1, architecture)
        .text(2, random.pick(&["linux", "Linux"]))
        .text(3, variant)
        .text(4, random.pick(&["", "10.0.<1>"]))
        .texts(5, features)
}

/// Encodes a `pb.MergeInput` or similar message.
fn input(index: i64) -> Message {
    Message::new().int(1, index)
}

fn index(random: &mut Random, count: usize) -> i64 {
    i64::try_from(random.below(count)).expect("small")
}

/// Generates a `pb.MergeOp` of all inputs. (A daemon panics if their number is not that of the op's inputs.)
fn merge(random: &mut Random, count: usize) -> Message {
    let mut indexes: Vec<_> = (0..i64::try_from(count).expect("small")).collect();
    indexes.rotate_left(random.below(count));
    Message::new().messages(1, indexes.into_iter().map(input))
}

/// Generates a `pb.DiffOp`, and its number of inputs.
fn diff(random: &mut Random) -> (Message, usize) {
    let (lower, upper) = random.pick(&[(-1, 0), (0, -1), (0, 1), (1, 0)]);
    let count = [lower, upper].iter().filter(|index| **index >= 0).count();
    (Message::new().message(1, input(lower)).message(2, input(upper)), count)
}

fn passthrough(random: &mut Random, count: usize) -> (Message, i64) {
    let outputs: Vec<_> = (0..random.below(3) + 1).map(|_| index(random, count)).collect();
    let count = i64::try_from(outputs.len()).expect("small");
    (Message::new().text(1, format!("id {}", random.text())).ints(2, &outputs), count)
}

/// Generates a build of the definition in the file `name` of input 0.
fn build(random: &mut Random, name: &str) -> Message {
    let entry = |key: &str, value: Message| Message::new().text(1, key).message(2, value);
    let attribute = |key: &str, value: &str| Message::new().text(1, key).text(2, value);
    Message::new()
        .int(1, -1)
        .message(2, entry("zz <&>", input(1)))
        .message(2, entry("buildkit.llb.definition", input(0)))
        .message(4, attribute("llbbuild.filename", name))
        .message(4, attribute("a", &random.text()))
}
