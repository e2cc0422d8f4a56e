//! Builders with layers in a containerd: buildkitd with the containerd worker, and Docker Engine.
//!
//! Converted states and states of daemons must pass the same tests.

mod across;
mod buildx;
mod garbage;
mod keys;
mod layout;
mod leases;
mod merging;
mod named;
mod others;
mod recognised;

use std::path::Path;

use anyhow::Result;
use testkit::trials::Suite;
use testkit::{Daemon, containerd, engine};

use crate::build::{Options, Report, Source};
use crate::case::{Case, Context};
use crate::cases;
use crate::host::Host;
use crate::mounts;
use crate::proof::{Subject, prove};
use crate::world::World;

/// The kinds of builders, and whether the suite runs them; `scripts/matrix` runs the others.
const HOSTS: [(&str, Host, bool); 5] = [
    ("containerd", Host::Worker { containerd: containerd::NEWEST }, true),
    (
        "engine",
        Host::Engine { engine: engine::Release::NEWEST, containerd: containerd::NEWEST },
        true,
    ),
    ("containerd-v1.7", Host::Worker { containerd: containerd::V1_7 }, false),
    ("containerd-v1.6", Host::Worker { containerd: containerd::V1_6 }, false),
    (
        "engine-v28",
        Host::Engine { engine: engine::Release::V28, containerd: containerd::V1_7 },
        false,
    ),
];

/// The build of the table for the controls.
const CONTROL: &str = "stages";

/// A test of this module, which gets the world of one kind of builder.
type Proof = Box<dyn FnOnce(&World) -> Result<()> + Send>;

/// The builds of the table that the suite converts for every kind of builder. For the newest buildkitd on a
/// containerd, `scripts/matrix` converts all.
const CONVERTED: [&str; 3] = [CONTROL, "files", "platforms"];

/// Those that it converts for buildkitd only.
const ON_WORKER: [&str; 3] = ["copy", "mounts", "llb"];

/// Adds the tests of this module.
pub(crate) fn add(suite: &mut Suite<World>) {
    let control = cases::all().into_iter().find(|case| case.name == CONTROL);
    let control = control.expect("the table has it");
    for (name, host, is_in_suite) in HOSTS {
        let mut add = |test: String, is_sample: bool, prove: Proof| {
            let name = format!("{name}::{test}");
            let prove = move |world: &World| prove(&world.within(host));
            if is_in_suite && is_sample {
                suite.add(name, prove);
            } else {
                suite.add_ignored(name, prove);
            }
        };
        for (subject, of) in [("natural", Subject::Natural), ("imported", Subject::Imported)] {
            let test = format!("control::{subject}::{CONTROL}");
            add(test, true, Box::new(move |world: &World| prove(world, &control, of)));
        }
        let on_worker = matches!(host, Host::Worker { .. });
        for case in cases::all() {
            let is_sample =
                CONVERTED.contains(&case.name) || on_worker && ON_WORKER.contains(&case.name);
            // Some builds need a network that the engines here lack, or a newer frontend.
            let is_newest_worker = on_worker && is_in_suite;
            if !is_sample && !is_newest_worker {
                continue;
            }
            let convert = move |world: &World| prove(world, &case, Subject::Converted);
            add(case.name.to_owned(), is_sample, Box::new(convert));
        }
        let unextracted = move |world: &World| prove(world, &control, Subject::Unextracted);
        add(format!("unextracted::{CONTROL}"), true, Box::new(unextracted));
        let tests: [(&str, Proof); 7] = [
            ("across", Box::new(across::prove)),
            ("layout", Box::new(layout::prove)),
            ("leases", Box::new(leases::prove)),
            ("others", Box::new(others::prove)),
            ("merging", Box::new(merging::prove)),
            ("named", Box::new(named::prove)),
            ("cache-mounts", Box::new(mounts::prove)),
        ];
        for (test, prove) in tests {
            add(test.to_owned(), true, prove);
        }
        if let Host::Engine { engine, .. } = host {
            add("buildx".to_owned(), true, Box::new(buildx::prove));
            let recognise = move |world: &World| recognised::prove(world, engine);
            add("recognised".to_owned(), true, Box::new(recognise));
        }
    }
}

/// A build of two layers on a base image.
const SMALL: Case = Case::plain("small", || {
    "FROM {registry}/busybox\nRUN echo 1 > /made\nRUN cp /made /again\n".into()
});

/// Builds [`SMALL`] with more options, in the directory `dir`.
fn build_small(
    world: &World,
    daemon: &Daemon,
    dir: &Path,
    options: &Options<'_>,
) -> Result<Report> {
    let context = Context::create(&dir.join("context"));
    context.file("Dockerfile", world.fill_in(&(SMALL.dockerfile)()));
    Source { case: &SMALL, context: context.dir() }.build(daemon, options)
}
