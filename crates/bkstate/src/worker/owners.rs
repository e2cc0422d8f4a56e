//! The owners of files: as in layers, or as in a user namespace.
//!
//! A rootless daemon is the root of a user namespace. The owner 0 of a layer is its user there, and the others
//! are numbers that the machine has set aside for that user (`/etc/subuid`, `/etc/subgid`).

use std::fmt;
use std::str::FromStr;

use super::Worker;
use crate::userns;

/// The ownership of files in the trees of snapshots.
///
/// ```
/// use bkstate::worker::{NoSuchOwner, OwnerMap, Owners};
///
/// let map = OwnerMap::of_both("0:1000:1,1:100000:65536".parse()?);
/// // Seen from outside of the namespace, files have other owners.
/// let mapped = Owners::Mapped(map.clone());
/// assert_eq!(mapped.on_disk(0, 1000)?, (1000, 100_999));
/// assert_eq!(mapped.in_layers(1000, 100_999)?, (0, 1000));
/// assert_eq!(mapped.root_on_disk(), Some((1000, 1000)));
/// // In the namespace, the kernel maps them.
/// let within = Owners::OfNamespace(map);
/// assert_eq!(within.on_disk(0, 1000)?, (0, 1000));
/// let missing: NoSuchOwner = within.on_disk(0, 65537).unwrap_err();
/// assert_eq!((missing.user, missing.group), (0, 65537));
/// assert_eq!(Owners::AsInLayers.on_disk(0, 65537)?, (0, 65537));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owners {
    /// The owners in the layers.
    AsInLayers,
    /// The owners in the layers, as this process sees them in its user namespace, which has only those in the
    /// map.
    OfNamespace(OwnerMap),
    /// The owners that those in the layers have outside of the user namespace of a daemon. This process is
    /// outside, too.
    Mapped(OwnerMap),
}

impl Owners {
    /// Returns the owner that a file of `user` and `group` in a layer gets, as this process sees it.
    ///
    /// # Errors
    /// Returns an error if the user namespace does not have it.
    pub fn on_disk(&self, user: u32, group: u32) -> Result<(u32, u32), NoSuchOwner> {
        let missing = |map: &OwnerMap| NoSuchOwner { user, group, map: Box::new(map.clone()) };
        match self {
            Self::AsInLayers => Ok((user, group)),
            Self::OfNamespace(map) => match map.outside(user, group) {
                Some(_) => Ok((user, group)),
                None => Err(missing(map)),
            },
            Self::Mapped(map) => map.outside(user, group).ok_or_else(|| missing(map)),
        }
    }

    /// Returns the owner that a file of `user` and `group`, as this process sees it, has in a layer.
    ///
    /// # Errors
    /// Returns an error if the user namespace does not have it.
    pub fn in_layers(&self, user: u32, group: u32) -> Result<(u32, u32), NoSuchOwner> {
        match self {
            // This process sees what the daemon sees.
            Self::AsInLayers | Self::OfNamespace(_) => self.on_disk(user, group),
            Self::Mapped(map) => map.inside(user, group).ok_or_else(|| NoSuchOwner {
                user,
                group,
                map: Box::new(map.clone()),
            }),
        }
    }

    /// Returns the owner of everything that no layer gives an owner, if it is not the current user.
    pub fn root_on_disk(&self) -> Option<(u32, u32)> {
        match self {
            Self::AsInLayers | Self::OfNamespace(_) => None,
            Self::Mapped(map) => Some(map.root()),
        }
    }
}

/// An owner that the user namespace of a daemon does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the owner {user}:{group} is not in the user namespace of the daemon, whose map is {map}")]
#[non_exhaustive]
pub struct NoSuchOwner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
    /// The map of the namespace.
    pub map: Box<OwnerMap>,
}

/// The users and groups of a user namespace.
///
/// ```
/// use bkstate::worker::OwnerMap;
///
/// let both = OwnerMap::of_both("0:1000:1,1:100000:65536".parse()?);
/// assert_eq!(both.root(), (1000, 1000));
/// let map = OwnerMap::new("0:1000:1".parse()?, "0:985:1".parse()?);
/// assert_eq!(map.root(), (1000, 985));
/// assert_eq!(map.to_string(), "0:1000:1, groups 0:985:1");
/// # Ok::<(), bkstate::worker::ParseMapError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerMap {
    users: IdMap,
    groups: IdMap,
}

impl OwnerMap {
    /// Creates a map of users and groups.
    pub fn new(users: IdMap, groups: IdMap) -> Self {
        Self { users, groups }
    }

    /// Creates a map in which the groups have the numbers of users.
    pub fn of_both(ids: IdMap) -> Self {
        Self { users: ids.clone(), groups: ids }
    }

    /// Returns the owner 0 of the namespace, as seen from outside.
    pub fn root(&self) -> (u32, u32) {
        (self.users.root(), self.groups.root())
    }

    /// Returns an owner of the namespace as seen from outside, if it exists.
    fn outside(&self, user: u32, group: u32) -> Option<(u32, u32)> {
        Some((self.users.outside(user)?, self.groups.outside(group)?))
    }

    /// Returns the owner in the namespace that has these numbers outside, if it exists.
    fn inside(&self, user: u32, group: u32) -> Option<(u32, u32)> {
        Some((self.users.inside(user)?, self.groups.inside(group)?))
    }
}

impl fmt::Display for OwnerMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.users == self.groups {
            true => write!(f, "{}", self.users),
            false => write!(f, "{}, groups {}", self.users, self.groups),
        }
    }
}

/// The numbers of users, or of groups, in a user namespace, and their numbers outside. It has a number for 0.
///
/// Its text has ranges, each with the first number inside, the first number outside and the count.
///
/// ```
/// use bkstate::worker::{IdMap, IdRange};
///
/// let map: IdMap = "0:1000:1,1:100000:65536".parse()?;
/// let of_user = IdRange { inside: 0, outside: 1000, count: 1 };
/// let others = IdRange { inside: 1, outside: 100_000, count: 65536 };
/// assert_eq!(map, IdMap::new([others, of_user])?);
/// assert_eq!(map.to_string(), "0:1000:1,1:100000:65536");
/// assert_eq!((map.outside(65536), map.outside(65537)), (Some(165_535), None));
/// assert_eq!((map.inside(165_535), map.inside(0)), (Some(65536), None));
/// # Ok::<(), bkstate::worker::ParseMapError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// In the order of the numbers inside.
    ranges: Vec<IdRange>,
}

/// Consecutive numbers inside and outside of a user namespace.
///
/// ```
/// use bkstate::worker::IdRange;
///
/// let range: IdRange = "1:100000:65536".parse()?;
/// assert_eq!((range.inside, range.outside, range.count), (1, 100_000, 65536));
/// # Ok::<(), bkstate::worker::ParseMapError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdRange {
    /// The first number inside.
    pub inside: u32,
    /// Its number outside.
    pub outside: u32,
    /// The number of numbers.
    pub count: u32,
}

/// Why a text or ranges are not a map.
///
/// ```
/// use bkstate::worker::{IdMap, ParseMapError};
///
/// let map = "0:1000:2,1:5000:3".parse::<IdMap>();
/// assert_eq!(map, Err(ParseMapError::Twice { range: "1:5000:3".to_owned() }));
/// assert_eq!("1:100000:65536".parse::<IdMap>(), Err(ParseMapError::NoRoot));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseMapError {
    /// A range does not have the form.
    #[error(
        "{range:?} is not a range of a map: a number inside, one outside and a count, such as \
         1:100000:65536"
    )]
    Range {
        /// The range.
        range: String,
    },
    /// A range is empty, or has numbers that the kernel does not have.
    #[error("the range {range} has no numbers, or numbers beyond 4294967294")]
    Numbers {
        /// The range.
        range: String,
    },
    /// Numbers of a range are also in another range.
    #[error("numbers of the range {range} are also in another range")]
    Twice {
        /// The range.
        range: String,
    },
    /// There is no range with the owner 0.
    #[error("the map has no range for 0, the user of the daemon")]
    NoRoot,
}

impl IdRange {
    /// Returns the number outside for `id`, if it is in the range.
    fn outside(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.inside)?;
        // The ends of a range in a map were checked.
        (offset < self.count).then(|| self.outside + offset)
    }

    /// Returns the number inside for `id` outside, if it is in the range.
    fn inside(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.outside)?;
        (offset < self.count).then(|| self.inside + offset)
    }

    /// Returns whether the numbers from `a` and from `b` on have some in common.
    fn meet((a, a_count): (u32, u32), (b, b_count): (u32, u32)) -> bool {
        u64::from(a) < u64::from(b) + u64::from(b_count)
            && u64::from(b) < u64::from(a) + u64::from(a_count)
    }

    fn shares_with(self, other: Self) -> bool {
        Self::meet((self.inside, self.count), (other.inside, other.count))
            || Self::meet((self.outside, self.count), (other.outside, other.count))
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.inside, self.outside, self.count)
    }
}

impl FromStr for IdRange {
    type Err = ParseMapError;

    fn from_str(text: &str) -> Result<Self, ParseMapError> {
        let numbers: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[inside, outside, count]) => Ok(Self { inside, outside, count }),
            _ => Err(ParseMapError::Range { range: text.to_owned() }),
        }
    }
}

impl IdMap {
    /// Creates a map of ranges in any order.
    ///
    /// # Errors
    /// Returns an error if ranges are empty or have numbers in common, or none has the number 0.
    pub fn new(ranges: impl IntoIterator<Item = IdRange>) -> Result<Self, ParseMapError> {
        let mut known: Vec<IdRange> = Vec::new();
        for range in ranges {
            // The number of all ones is nobody's (Linux `include/linux/uidgid.h` `INVALID_UID`).
            let ends = [range.inside, range.outside]
                .map(|first| u64::from(first) + u64::from(range.count) <= u64::from(u32::MAX));
            if range.count == 0 || ends.contains(&false) {
                return Err(ParseMapError::Numbers { range: range.to_string() });
            }
            if known.iter().any(|other| range.shares_with(*other)) {
                return Err(ParseMapError::Twice { range: range.to_string() });
            }
            known.push(range);
        }
        known.sort_unstable();
        match known.first() {
            Some(IdRange { inside: 0, .. }) => Ok(Self { ranges: known }),
            _ => Err(ParseMapError::NoRoot),
        }
    }

    /// Returns the map of a user whose number is `user`, and the numbers `ranges` that are set aside for that
    /// user, each with its first number and their count: 0 is the user, and those follow in their order
    /// (RootlessKit v2.3.6 `pkg/parent/idtools/idtools.go`).
    ///
    /// ```
    /// use bkstate::worker::IdMap;
    ///
    /// let map = IdMap::of_user(1000, [(100_000, 65536), (300_000, 1000)])?;
    /// assert_eq!(map.to_string(), "0:1000:1,1:100000:65536,65537:300000:1000");
    /// # Ok::<(), bkstate::worker::ParseMapError>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`new`](Self::new).
    pub fn of_user(
        user: u32,
        ranges: impl IntoIterator<Item = (u32, u32)>,
    ) -> Result<Self, ParseMapError> {
        let mut next: u32 = 1;
        let own = IdRange { inside: 0, outside: user, count: 1 };
        let others = ranges.into_iter().map(|(outside, count)| {
            let range = IdRange { inside: next, outside, count };
            next = next.saturating_add(count);
            range
        });
        let others: Vec<_> = others.collect();
        Self::new(std::iter::once(own).chain(others))
    }

    /// Parses the table of a user namespace in `/proc` (Linux `user_namespaces(7)`).
    pub(crate) fn of_proc(text: &str) -> Result<Self, ParseMapError> {
        let range =
            |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(":").parse();
        let ranges: Result<Vec<_>, _> = text.lines().map(range).collect();
        Self::new(ranges?)
    }

    /// Returns the number outside for the number `id` inside, if there is one.
    pub fn outside(&self, id: u32) -> Option<u32> {
        self.ranges.iter().find_map(|range| range.outside(id))
    }

    /// Returns the number inside for the number `id` outside, if there is one.
    pub fn inside(&self, id: u32) -> Option<u32> {
        self.ranges.iter().find_map(|range| range.inside(id))
    }

    fn root(&self) -> u32 {
        // The first range begins with 0.
        self.ranges.first().map_or(0, |range| range.outside)
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

impl FromStr for IdMap {
    type Err = ParseMapError;

    fn from_str(text: &str) -> Result<Self, ParseMapError> {
        let ranges: Result<Vec<IdRange>, _> = text.split(',').map(str::parse).collect();
        Self::new(ranges?)
    }
}

impl Worker {
    /// Returns the same worker of a rootless daemon, in a user namespace with these owners. This process is
    /// outside of the namespace, and everything that it writes gets the owners from outside.
    ///
    /// ```
    /// use bkstate::worker::{OverlayMarks, OwnerMap, Worker};
    ///
    /// let map = OwnerMap::of_both("0:1000:1,1:100000:65536".parse()?);
    /// let worker = Worker::default().mapped(map);
    /// assert_eq!(worker.form().marks(), OverlayMarks::User);
    /// assert_eq!(worker.owners().root_on_disk(), Some((1000, 1000)));
    /// # Ok::<(), bkstate::worker::ParseMapError>(())
    /// ```
    #[must_use]
    pub fn mapped(self, owners: OwnerMap) -> Self {
        Self { owners: Owners::Mapped(owners), ..self }.rootless()
    }

    /// Returns the same worker as one of a daemon in a user namespace with these owners, if this process is in
    /// it.
    ///
    /// ```
    /// use bkstate::worker::{OverlayMarks, OwnerMap, Worker};
    ///
    /// let map = OwnerMap::of_both("0:0:65536".parse()?);
    /// let worker = Worker::default().in_namespace(map);
    /// assert_eq!(worker.form().marks(), OverlayMarks::User);
    /// assert_eq!(worker.owners().root_on_disk(), None);
    /// # Ok::<(), bkstate::worker::ParseMapError>(())
    /// ```
    #[must_use]
    pub fn in_namespace(self, owners: OwnerMap) -> Self {
        Self { owners: Owners::OfNamespace(owners), ..self }.rootless()
    }

    /// Returns the same worker as this process has to write for it: in a user namespace, the daemon is in that,
    /// too.
    ///
    /// ```
    /// use bkstate::worker::Worker;
    ///
    /// let here = Worker::default().here();
    /// assert_eq!(here.is_rootless(), here != Worker::default());
    /// ```
    #[must_use]
    pub fn here(self) -> Self {
        match (&self.owners, userns::owners()) {
            (Owners::AsInLayers, Some(owners)) => self.in_namespace(owners),
            _ => self,
        }
    }

    fn rootless(self) -> Self {
        let marks = self.form.marks().of_user();
        Self { form: self.form.with(marks), ..self }
    }

    /// Returns whether its daemon is in a user namespace.
    ///
    /// ```
    /// assert!(!bkstate::worker::Worker::default().is_rootless());
    /// ```
    pub fn is_rootless(&self) -> bool {
        self.owners != Owners::AsInLayers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_or_end_beyond_the_last_number_are_refused() {
        for (text, message) in [
            ("", "\"\" is not a range of a map"),
            ("0:1000", "\"0:1000\" is not a range of a map"),
            ("0:1000:1:1", "is not a range of a map"),
            ("0:-1:1", "is not a range of a map"),
            ("0:1000:1,", "\"\" is not a range of a map"),
            ("0:1000:0", "the range 0:1000:0 has no numbers"),
            ("0:4294967295:1", "the range 0:4294967295:1 has no numbers, or numbers beyond"),
            ("4294967290:0:6", "the range 4294967290:0:6 has no numbers, or numbers beyond"),
            ("0:1000:10,9:5000:1", "numbers of the range 9:5000:1 are also in another range"),
            ("0:1000:10,10:1009:1", "numbers of the range 10:1009:1 are also in another range"),
            ("1:1000:10", "the map has no range for 0"),
        ] {
            let error = text.parse::<IdMap>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
        let all: IdMap = "0:0:4294967295".parse().unwrap();
        assert_eq!((all.outside(u32::MAX - 1), all.outside(u32::MAX)), (Some(u32::MAX - 1), None));
    }

    #[test]
    fn the_tables_of_the_kernel_are_read() {
        let text = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(IdMap::of_proc(text).unwrap().to_string(), "0:1000:1,1:100000:65536");
        assert_eq!(IdMap::of_proc(""), Err(ParseMapError::NoRoot));
        assert!(IdMap::of_proc("0 0\n").is_err());
    }

    #[test]
    fn a_user_without_other_numbers_has_one() {
        let map = IdMap::of_user(1000, []).unwrap();
        assert_eq!((map.outside(0), map.outside(1)), (Some(1000), None));
        let error = IdMap::of_user(100_000, [(100_000, 65536)]).unwrap_err();
        assert!(matches!(error, ParseMapError::Twice { .. }), "{error}");
    }

    #[test]
    fn users_and_groups_are_mapped_apart() {
        let map = OwnerMap::new("0:1000:2".parse().unwrap(), "0:7:1".parse().unwrap());
        let mapped = Owners::Mapped(map);
        assert_eq!(mapped.on_disk(1, 0), Ok((1001, 7)));
        let missing = mapped.on_disk(0, 1).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "the owner 0:1 is not in the user namespace of the daemon, whose map is 0:1000:2, groups 0:7:1"
        );
        assert_eq!(mapped.root_on_disk(), Some((1000, 7)));
        assert_eq!(mapped.in_layers(1001, 7), Ok((1, 0)));
        for (user, group) in [(999, 7), (1002, 7), (1000, 8), (0, 0)] {
            let missing = mapped.in_layers(user, group).unwrap_err();
            assert_eq!((missing.user, missing.group), (user, group));
        }
    }

    #[test]
    fn in_a_namespace_the_kernel_has_mapped_the_owners_already() {
        let within = Owners::OfNamespace(OwnerMap::of_both("0:1000:2".parse().unwrap()));
        assert_eq!(within.in_layers(1, 0), Ok((1, 0)));
        // As the kernel shows owners that the namespace does not have.
        assert!(within.in_layers(65534, 65534).is_err());
        assert_eq!(Owners::AsInLayers.in_layers(70_000, 0), Ok((70_000, 0)));
    }
}
