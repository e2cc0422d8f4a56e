//! The models of the four databases: any content survives a round trip, and any file is read or rejected.
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
use bkstate::worker::Worker;

/// The common interface of the four models.
trait Model: Sized + PartialEq + std::fmt::Debug {
    fn read(db: &Db) -> Result<Self, DecodeError>;
    fn write(&self, file: &File) -> Result<(), EncodeError>;

    /// Writes the model to a database.
    fn db(&self) -> Result<Db, EncodeError> {
        let file = tempfile::tempfile().unwrap();
        self.write(&file)?;
        Ok(Db::open(file).unwrap())
    }

    /// Writes the model and reads it back.
    fn rewritten(&self) -> Self {
        let db = self.db().unwrap();
        assert_eq!(bolt::check(&db).len(), 0, "bbolt would refuse the file");
        Self::read(&db).unwrap()
    }

    /// Reads the model from a file with the content `tree`.
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

model! { SolverCache Records Snapshots }

impl Model for Metadata {
    fn read(db: &Db) -> Result<Self, DecodeError> {
        Self::read(db, &Worker::default())
    }
    fn write(&self, file: &File) -> Result<(), EncodeError> {
        self.write(file)
    }
}
