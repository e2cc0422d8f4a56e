//! The root directory of a builder, with everything in it that has keys.

use bkstate::Root;
use bkstate::ids::RecordId;
use bkstate::records::{Record, Records};
use bkstate::worker::StateFile;

use llb::release::Span;

/// The files of a root with keys, those that name the steps first (BuildKit v0.32.2 `cmd/buildkitd/main.go`).
pub(super) const DATABASES: [StateFile; 3] =
    [StateFile::History, StateFile::SolverDebug, StateFile::Solver];

/// Returns the possible releases of a root's daemons, according to its records. An incomplete state tells
/// nothing, but may still have keys.
pub(super) fn releases(root: &Root) -> Option<Span> {
    of_records(&root.state().ok()?.records)
}

/// Daemons since v0.33.1 store the identity of each layer with its blob, and older ones never do. If all
/// layers have it, no older daemon has used the root. A conversion stores it too, for any daemon.
fn of_records(records: &Records) -> Option<Span> {
    let converted = |id: &RecordId, record: &Record| {
        record.blob_chain_id.is_some_and(|chain| *id == RecordId::derive(&chain.to_string()))
    };
    let mut layers = records
        .by_id
        .iter()
        .filter(|(id, record)| record.blob.is_some() && !converted(id, record))
        .map(|(_, record)| record.layer_identity.is_some())
        .peekable();
    layers.peek()?;
    layers.all(|noted| noted).then(Span::with_layer_identity)
}

#[cfg(test)]
mod tests {
    use bkstate::Digest;
    use bkstate::ids::WorkerId;
    use bkstate::state::{Existing, Staging, State};
    use bkstate::worker::Worker;

    use super::*;

    #[test]
    fn a_root_is_of_new_daemons_if_all_layers_but_converted_ones_say_so() {
        let digest = Digest::of("a layer");
        let old = Record { blob: Some(digest), blob_chain_id: Some(digest), ..Record::default() };
        let new = Record { layer_identity: Some(digest), ..old.clone() };
        let converted = RecordId::derive(&digest.to_string());
        let drawn = RecordId::new("drawn").unwrap();
        let other = RecordId::new("another").unwrap();
        let span = |records: &[(&RecordId, &Record)]| {
            let by_id = records.iter().map(|(id, record)| ((*id).clone(), (*record).clone()));
            of_records(&Records { by_id: by_id.collect(), ..Records::default() })
        };
        assert_eq!(span(&[]), None);
        assert_eq!(span(&[(&converted, &new)]), None, "made for any daemon");
        assert_eq!(span(&[(&drawn, &new)]), Some(Span::with_layer_identity()));
        assert_eq!(span(&[(&drawn, &new), (&converted, &old)]), Some(Span::with_layer_identity()));
        assert_eq!(span(&[(&drawn, &new), (&other, &old)]), None);
        assert_eq!(span(&[(&drawn, &new), (&other, &Record::default())]), span(&[(&drawn, &new)]));
    }

    #[test]
    fn the_records_of_a_root_tell_its_daemons_unless_they_cannot_be_read() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open_to_write(temp.path()).unwrap();
        let id = WorkerId::derive("worker");
        let mut state = State::empty(Worker::default(), id.clone());
        let digest = Digest::of("a layer");
        let record =
            Record { blob: Some(digest), layer_identity: Some(digest), ..Record::default() };
        state.records.by_id.insert(RecordId::new("drawn").unwrap(), record);
        let nothing = Existing::nothing(Worker::default(), id);
        let staging = Staging::begin(&root, &nothing).unwrap();
        let written = staging.write(&state).unwrap();
        staging.publish(written).unwrap();
        assert_eq!(releases(&root), Some(Span::with_layer_identity()));
        std::fs::write(temp.path().join("cache.db"), "nonsense").unwrap();
        assert_eq!(releases(&root), None);
    }
}
