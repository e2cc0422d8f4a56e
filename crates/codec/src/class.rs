//! Classes of errors, for programs.
//!
//! Messages are for people. A program that has to decide what to do next asks an error for its [`Class`]. The
//! classes are the same in all libraries, and new variants of an error do not change them. Its
//! [kind](Classified::kind) says more, in a word.
//!
//! ```
//! use codec::{About, Class, Classified};
//!
//! /// What a service answers.
//! fn status(error: &impl Classified) -> u16 {
//!     match error.class() {
//!         Class::Input => 400,
//!         Class::Limit => 413,
//!         Class::InUse => 409,
//!         _ => 500,
//!     }
//! }
//!
//! struct TooLarge;
//! impl Classified for TooLarge {
//!     fn about(&self) -> About {
//!         About::of_limit("index.too-large", "manifest")
//!     }
//! }
//! assert_eq!(status(&TooLarge), 413);
//! assert_eq!((TooLarge.kind(), TooLarge.limit_name()), ("index.too-large", Some("manifest")));
//! ```

use std::fmt;
use std::io::{self, ErrorKind};

/// The subject of an error.
///
/// ```
/// use codec::Class;
///
/// let names = Class::ALL.map(Class::as_str);
/// assert_eq!(names, ["input", "limit", "io", "in-use", "damaged", "cancelled"]);
/// assert_eq!(Class::InUse.to_string(), "in-use");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// The input is damaged, lacks a part, or is not of the expected kind: a cache, an image, a key source, a
    /// configuration. Another input may work.
    Input,
    /// The input exceeds a limit. If the limit can be raised, [`limit_name`](Classified::limit_name) names
    /// it.
    Limit,
    /// The machine, or a place on it, cannot be used: a path that leads nowhere, no permission, no space, a
    /// path that is not the root of a builder or belongs to another one, an output that exists.
    Io,
    /// Another process uses the root or the layout. A later attempt may work.
    InUse,
    /// The state in the root is damaged, or a new one failed its check and was not published.
    Damaged,
    /// The work was cancelled.
    Cancelled,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 6] =
        [Self::Input, Self::Limit, Self::Io, Self::InUse, Self::Damaged, Self::Cancelled];

    /// Returns the name of the class, which does not change between releases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Limit => "limit",
            Self::Io => "io",
            Self::InUse => "in-use",
            Self::Damaged => "damaged",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns whether the input is the cause, and not the machine, the place or another process.
    ///
    /// ```
    /// use codec::Class;
    ///
    /// assert!(Class::Input.is_of_input() && Class::Limit.is_of_input());
    /// assert!(!Class::Io.is_of_input());
    /// ```
    pub fn is_of_input(self) -> bool {
        matches!(self, Self::Input | Self::Limit)
    }

    /// Returns the class of an error while reading input. Errors of decoders about the content belong to the
    /// [input](Self::Input), and so does a file of another type than expected, since inputs contain files.
    /// All other errors of the system belong to the [machine](Self::Io), also that a path leads nowhere or may
    /// not be read: the input itself may be fine.
    ///
    /// ```
    /// use std::io::{Error, ErrorKind};
    ///
    /// use codec::Class;
    ///
    /// let missing = std::fs::File::open("/nowhere/cache").unwrap_err();
    /// assert_eq!(Class::of_reading(&missing), Class::Io);
    /// let cut_off = Error::from(ErrorKind::UnexpectedEof);
    /// assert_eq!(Class::of_reading(&cut_off), Class::Input);
    /// // ENOTDIR: it is a file.
    /// assert_eq!(Class::of_reading(&Error::from_raw_os_error(20)), Class::Input);
    /// // EIO: the disk.
    /// assert_eq!(Class::of_reading(&Error::from_raw_os_error(5)), Class::Io);
    /// ```
    pub fn of_reading(error: &io::Error) -> Self {
        let is_of_type = matches!(
            error.kind(),
            ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::InvalidFilename
        );
        // Errors of decoders have no number. ELOOP has no kind in stable Rust.
        match error.raw_os_error() {
            None | Some(ELOOP) => Self::Input,
            Some(_) if is_of_type => Self::Input,
            Some(_) => Self::Io,
        }
    }
}

/// Too many symbolic links, or one where none is allowed (Linux `include/uapi/asm-generic/errno.h`).
const ELOOP: i32 = 40;

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an error is about, for programs: all that they need to decide what to do.
///
/// ```
/// use std::io::Error;
///
/// use codec::{About, Class};
///
/// // A disk that fails while a blob is read, and a blob that is larger than a limit.
/// let failed = About::of_reading("blob.io", &Error::from_raw_os_error(5));
/// assert_eq!(failed, About::new("blob.io", Class::Io));
/// let large = About::of_limit("blob.too-large", "manifest");
/// assert_eq!((large.class, large.limit_name), (Class::Limit, Some("manifest")));
/// // The same blob in a root.
/// let damaged = About::new("blob.digest", Class::Input).with_class(Class::Damaged);
/// assert_eq!((damaged.kind, damaged.class), ("blob.digest", Class::Damaged));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// What is wrong, such as `blob.missing`: the error that decides, and its variant. It does not change
    /// between releases.
    pub kind: &'static str,
    /// Its class.
    pub class: Class,
    /// The name on the command line of the exceeded limit, if it can be raised.
    pub limit_name: Option<&'static str>,
}

impl About {
    /// Returns what an error without a limit is about.
    pub const fn new(kind: &'static str, class: Class) -> Self {
        Self { kind, class, limit_name: None }
    }

    /// Returns what an error is about that means an exceeded limit.
    pub const fn of_limit(kind: &'static str, limit: &'static str) -> Self {
        Self { kind, class: Class::Limit, limit_name: Some(limit) }
    }

    /// Returns what an error while reading input is about, see [`Class::of_reading`].
    pub fn of_reading(kind: &'static str, error: &io::Error) -> Self {
        Self::new(kind, Class::of_reading(error))
    }

    /// Returns it with another class: the same error can be about another thing where it occurs.
    #[must_use]
    pub const fn with_class(self, class: Class) -> Self {
        Self { class, ..self }
    }
}

/// An error of an operation, as programs see it.
///
/// The errors of all operations of the libraries implement it.
pub trait Classified {
    /// Returns what the error is about.
    fn about(&self) -> About;

    /// Returns its class.
    fn class(&self) -> Class {
        self.about().class
    }

    /// Returns its [kind](About::kind), a word that does not change between releases.
    fn kind(&self) -> &'static str {
        self.about().kind
    }

    /// Returns the name on the command line of the exceeded limit, if it can be raised.
    fn limit_name(&self) -> Option<&'static str> {
        self.about().limit_name
    }
}

impl<E: Classified + ?Sized> Classified for Box<E> {
    fn about(&self) -> About {
        (**self).about()
    }
}
