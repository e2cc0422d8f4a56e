//! A converted root is corrupted in more than a hundred ways, one for each field of every database and each
//! kind of file. `verify` finds each, or real daemons show that it is harmless (`e2e corruptions`). A
//! conversion into the root rejects the damage that it finds.

use std::process::Command;
use std::thread;

use bkstate::state::ExistingError;
use oci2bk::verify::{Damage, Verifier};
use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root, Time};
use testkit::corruptions::{Corruption, Outcome, all, ensure_named};

use super::*;

/// Number of corruptions that run in parallel.
const THREADS: usize = 4;

/// The kinds of damage that a conversion into the root ignores, or repairs: parts that a daemon deletes when
/// it starts, unreferenced parts, and damage that only reading blobs would show.
const TOLERATED: [&str; 9] = [
    "blob-digest",
    "layer-urls",
    "media-type",
    "result-of-unknown-worker",
    "result-without-record",
    "snapshot-not-in-containerd",
    "stray-blob",
    "stray-directory",
    "stray-lease",
];

/// Before any date that counts as future.
const NOW: Time = Time::from_unix_seconds(1_798_000_000);

#[test]
fn each_corruption_is_found_or_known_to_be_harmless() {
    // Unpacking requires root.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    ensure_named().unwrap();
    assert!(all().count() >= 120, "{}", all().count());
    let limits = Limits::default();
    let source = fixture("index/cache").parse().unwrap();
    let exports = CacheExport::read_sources(&[source], &limits).unwrap();
    let mut keyring = Keyring::for_exports(&exports);
    keyring.read(fixture("index/keys/provenance.json"), &limits).unwrap();
    let plan = Plan::new(&exports, &keyring).unwrap();
    let place = Place::new();
    let sound = place.temp.path().join("sound");
    Converter::new().convert(&plan, &sound).unwrap();
    let judge_all = |corruptions: Vec<&Corruption>| -> Vec<String> {
        corruptions.into_iter().filter_map(|one| judge(one, &sound, &plan).err()).collect()
    };
    // Each makes a copy and checks it several times.
    let wrong: Vec<String> = thread::scope(|scope| {
        let part = |n| all().skip(n).step_by(THREADS).collect();
        let threads: Vec<_> =
            (0..THREADS).map(|n| scope.spawn(move || judge_all(part(n)))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Corrupts a copy of the root `sound`, and fails if the outcome is not the expected one.
fn judge(corruption: &Corruption, sound: &Path, plan: &Plan) -> Result<(), String> {
    let place = Place::new();
    let root = place.root();
    let copied = Command::new("cp").arg("-a").args([sound, &root]).status().unwrap();
    assert!(copied.success());
    corruption.apply(&root).unwrap();
    let verify = |verifier: &Verifier<'_>| verifier.verify(&Root::open(&root).unwrap()).unwrap();
    let alone = verify(&Verifier::new().now(NOW));
    let trees = || verify(&Verifier::new().trees(true)).damage;
    let against = || verify(&Verifier::new().against(plan));

    let has = |list: &[Damage], kind| list.iter().any(|damage| damage.kind() == kind);
    let is_sound = alone.damage.is_empty();
    let fine = match corruption.outcome {
        Outcome::Found(kind) => has(&alone.damage, kind),
        Outcome::InTrees(kind) => has(&trees(), kind),
        Outcome::Against(kind) => is_sound && has(&against().damage, kind),
        Outcome::Noted(kind) => is_sound && has(&alone.leftovers, kind),
        Outcome::Counted => {
            let counts = against().against.unwrap();
            is_sound && counts.missing_links + counts.missing_results > 0
        }
        Outcome::Exported(_) | Outcome::Harmless(_) => {
            is_sound && trees().is_empty() && against().damage.is_empty()
        }
    };
    let existing = Root::open(&root).unwrap().existing(&plan.worker_id);
    let is_refused = matches!(existing, Err(ExistingError::Damaged { .. }));
    let to_be_refused = match corruption.outcome {
        // A database that a daemon starts over matters if the others refer to it.
        Outcome::Found("missing-file" | "empty-file") => is_refused,
        Outcome::Found(kind) => !TOLERATED.contains(&kind),
        _ => false,
    };
    if fine && is_refused == to_be_refused {
        return Ok(());
    }
    let Corruption { name, outcome, .. } = corruption;
    let messages = |damage: Vec<Damage>| -> Vec<String> {
        damage.iter().map(|damage| format!("{}: {damage}", damage.kind())).collect()
    };
    let (alone, against) = (messages(alone.damage), messages(against().damage));
    Err(format!("{name}: {outcome:?}, but {alone:#?}, {against:#?}; refused: {is_refused}"))
}
