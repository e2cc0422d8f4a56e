//! The owners of the files of a rootless daemon.

use bkstate::worker::IdMap;
use clap::{ArgGroup, Args};

use super::daemon::{BUILDER, CONTAINERD, ENGINE};

const MAP: &str = "map";
const MAP_USER: &str = "map-user";
/// The options that make a daemon rootless.
const OWNERS: &str = "owners";

/// The owners in the user namespace of a rootless daemon, for root outside of it.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new(OWNERS).args([MAP, MAP_USER]).conflicts_with_all([BUILDER, ENGINE, CONTAINERD]))]
pub(crate) struct OwnerArguments {
    /// The buildkitd is rootless, with this map of owners, such as 0:1000:1,1:100000:65536
    ///
    /// For root outside of the daemon's user namespace, as in the build of an image: everything gets the owners
    /// that it would have from rootlesskit oci2bk convert, which needs no map. Each range of MAP has the first
    /// number inside, its number outside and the count, for users and for groups.
    #[arg(id = MAP, long, value_name = "MAP")]
    pub(crate) map: Option<IdMap>,

    /// The same with the map of the user NAME
    ///
    /// It follows from passwd, subuid and subgid in etc of the machine, which for an image is the nearest directory
    /// above ROOT that has them.
    #[arg(id = MAP_USER, long, value_name = "NAME")]
    pub(crate) map_user: Option<String>,
}
