//! What an error is about, for programs.
//!
//! Messages are for people. A program that has to decide what to do next asks an error for its [`Class`]: it
//! is the same for all libraries, and new variants of an error do not change it.
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

/// What an error is about.
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
    /// The input is not there, may not be read, is damaged, or is not of the expected kind: a cache, an
    /// image, a key source, a configuration. Another input may do.
    Input,
    /// The input has more of something than it may have. If the limit can be raised,
    /// [`limit_name`](Classified::limit_name) names it.
    Limit,
    /// The machine, or a place on it, cannot be used: no space, no permission, a path that is not the root of
    /// a builder or is that of another one, an output that exists.
    Io,
    /// Somebody else uses the root or the layout. It may work later.
    InUse,
    /// The state in the root is damaged, or a new one failed its check and was not published.
    Damaged,
    /// Somebody asked for the end of the work.
    Cancelled,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 6] =
        [Self::Input, Self::Limit, Self::Io, Self::InUse, Self::Damaged, Self::Cancelled];

    /// Its name, which stays.
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

    /// Whether the input is to blame, rather than the machine, the place or somebody else.
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

    /// That of an error while an input was read: what the system says of the path that was named is about the
    /// [input](Self::Input), and so is what a decoder says of the content. Whatever else the system says is
    /// about the [machine](Self::Io).
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
        // Decoders make errors without a number. ELOOP has no kind in stable Rust.
        match error.raw_os_error() {
            None | Some(ELOOP) => Self::Input,
            Some(_) if is_of_path => Self::Input,
            Some(_) => Self::Io,
        }
    }
}

/// Too many symbolic links, or one where none may be (Linux `include/uapi/asm-generic/errno.h`).
const ELOOP: i32 = 40;

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that says what it is about.
///
/// Each operation of the libraries fails with one.
pub trait Classified {
    /// What it is about.
    fn class(&self) -> Class;

    /// The limit that was reached, by its name on the command line, if it can be raised.
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
