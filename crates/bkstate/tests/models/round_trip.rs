use bkstate::bolt::Tree;
use proptest::prelude::*;

use super::{Model as _, arbitrary};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cache_db(model in arbitrary::solver()) {
        prop_assert_eq!(model.rewritten(), model);
    }

    #[test]
    fn any_metadata_v2_db(model in arbitrary::records()) {
        prop_assert_eq!(model.rewritten(), model);
    }

    #[test]
    fn any_containerdmeta_db(model in arbitrary::metadata()) {
        prop_assert_eq!(model.rewritten(), model);
    }

    #[test]
    fn any_snapshots_metadata_db(model in arbitrary::snapshots()) {
        prop_assert_eq!(model.rewritten(), model);
    }

    #[test]
    fn the_index_of_records_follows_from_them(model in arbitrary::records()) {
        let db = model.db().unwrap();
        prop_assert_eq!(bkstate::records::Records::read_index(&db).unwrap(), model.index());
    }

    #[test]
    fn the_same_model_is_the_same_file(model in arbitrary::metadata()) {
        let tree = |model: &bkstate::metadata::Metadata| {
            Tree::read(&model.db().unwrap().root()).unwrap()
        };
        prop_assert_eq!(tree(&model), tree(&model.rewritten()));
    }
}

#[test]
fn nothing_at_all() {
    use bkstate::{
        metadata::Metadata, records::Records, snapshots::Snapshots, solver::SolverCache,
    };
    assert_eq!(SolverCache::default().rewritten(), SolverCache::default());
    assert_eq!(Records::default().rewritten(), Records::default());
    assert_eq!(Metadata::default().rewritten(), Metadata::default());
    assert_eq!(Snapshots::default().rewritten(), Snapshots::default());
}

#[test]
fn an_empty_file_of_bbolt_is_an_empty_model() {
    use bkstate::{
        metadata::Metadata, records::Records, snapshots::Snapshots, solver::SolverCache,
    };
    let nothing = Tree::default();
    assert_eq!(SolverCache::of(&nothing).unwrap(), SolverCache::default());
    assert_eq!(Records::of(&nothing).unwrap(), Records::default());
    assert_eq!(Metadata::of(&nothing).unwrap(), Metadata::default());
    assert_eq!(Snapshots::of(&nothing).unwrap(), Snapshots::default());
}
