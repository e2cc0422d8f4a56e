//! The models of the four databases: whatever they hold comes back as it was, and whatever a file
//! holds is read or refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod arbitrary;
mod hostile;
mod round_trip;

use std::fs::File;

use bkstate::bolt::{self, Db, Tree};
use bkstate::decode::DecodeError;
use bkstate::encode::EncodeError;
use bkstate::metadata::Metadata;
use bkstate::records::Records;
use bkstate::snapshots::Snapshots;
use bkstate::solver::SolverCache;

/// What the four models have in common.
trait Model: Sized + PartialEq + std::fmt::Debug {
    fn read(db: &Db) -> Result<Self, DecodeError>;
    fn write(&self, file: &File) -> Result<(), EncodeError>;

    /// The database that is written from the model.
    fn db(&self) -> Result<Db, EncodeError> {
        let file = tempfile::tempfile().unwrap();
        self.write(&file)?;
        Ok(Db::open(file).unwrap())
    }

    /// The model as it comes back from the file that is written from it.
    fn rewritten(&self) -> Self {
        let db = self.db().unwrap();
        assert_eq!(bolt::check(&db).len(), 0, "bbolt would refuse the file");
        Self::read(&db).unwrap()
    }

    /// The model that is read from a file with the content `tree`.
    fn of(tree: &Tree) -> Result<Self, DecodeError> {
        let file = tempfile::tempfile().unwrap();
        bolt::write(&file, |root| tree.write(root)).unwrap();
        Self::read(&Db::open(file).unwrap())
    }
}

macro_rules! model {
    ($($name:ident)*) => {
        $(impl Model for $name {
            fn read(db: &Db) -> Result<Self, DecodeError> {
                Self::read(db)
            }
            fn write(&self, file: &File) -> Result<(), EncodeError> {
                self.write(file)
            }
        })*
    };
}

model! { SolverCache Records Metadata Snapshots }
