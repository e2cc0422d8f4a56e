//! Classes of errors, for programs.
//!
//! Messages are for people. A program that has to decide what to do next asks an error for its [`Class`]. The
//! classes are the same in all libraries, and new variants of an error do not change them.
//!
//! ```
//! use codec::{Class, Classified};
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
//!     fn class(&self) -> Class {
//!         Class::Limit
//!     }
//!
//!     fn limit_name(&self) -> Option<&'static str> {
//!         Some("manifest")
//!     }
//! }
//! assert_eq!(status(&TooLarge), 413);
//! assert_eq!(TooLarge.limit_name(), Some("manifest"));
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
    /// The input does not exist, cannot be read, is damaged, or is not of the expected kind: a cache, an
    /// image, a key source, a configuration. Another input may work.
    Input,
    /// The input exceeds a limit. If the limit can be raised, [`limit_name`](Classified::limit_name) names
    /// it.
    Limit,
    /// The machine, or a place on it, cannot be used: no space, no permission, a path that is not the root of
    /// a builder or belongs to another one, an output that exists.
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

    /// Returns the class of an error while reading input. Errors of the system about the given path belong to
    /// the [input](Self::Input), and so do errors of decoders about the content. All other errors of the
    /// system belong to the [machine](Self::Io).
    ///
    /// ```
    /// use std::io::{Error, ErrorKind};
    ///
    /// use codec::Class;
    ///
    /// let missing = std::fs::File::open("/nowhere/cache").unwrap_err();
    /// assert_eq!(Class::of_reading(&missing), Class::Input);
    /// let cut_off = Error::from(ErrorKind::UnexpectedEof);
    /// assert_eq!(Class::of_reading(&cut_off), Class::Input);
    /// // EIO: the disk.
    /// assert_eq!(Class::of_reading(&Error::from_raw_os_error(5)), Class::Io);
    /// ```
    pub fn of_reading(error: &io::Error) -> Self {
        let is_of_path = matches!(
            error.kind(),
            ErrorKind::NotFound
                | ErrorKind::PermissionDenied
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                | ErrorKind::InvalidFilename
        );
        // Errors of decoders have no number. ELOOP has no kind in stable Rust.
        match error.raw_os_error() {
            None | Some(ELOOP) => Self::Input,
            Some(_) if is_of_path => Self::Input,
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

/// An error with a class.
///
/// The errors of all operations of the libraries implement it.
pub trait Classified {
    /// Returns the class of the error.
    fn class(&self) -> Class;

    /// Returns the name on the command line of the exceeded limit, if it can be raised.
    fn limit_name(&self) -> Option<&'static str> {
        None
    }
}

impl<E: Classified + ?Sized> Classified for Box<E> {
    fn class(&self) -> Class {
        (**self).class()
    }

    fn limit_name(&self) -> Option<&'static str> {
        (**self).limit_name()
    }
}
