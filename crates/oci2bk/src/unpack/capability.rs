//! The capabilities of files, for a user namespace that this process is not in.
//!
//! In the namespace, the kernel notes its root beside the capabilities, so that they do not count outside
//! (Linux `security/commoncap.c` `cap_convert_nscap`, `include/uapi/linux/capability.h`):
//!
//! | bytes | version 2 | version 3 |
//! |---|---|---|
//! | 0-3 | 0x02000000, and 1 if they are effective | 0x03000000, and 1 |
//! | 4-19 | permitted and inheritable, each in two words | the same |
//! | 20-23 | | the user who is root in the namespace |

use std::borrow::Cow;

use super::error::Refusal;

/// The extended attribute.
pub(crate) const NAME: &[u8] = b"security.capability";

const VERSION_2: u32 = 0x0200_0000;
const VERSION_3: u32 = 0x0300_0000;
const VERSION: u32 = 0xff00_0000;
const LENGTH_2: usize = 20;

/// Returns the value for a namespace whose root is `root`.
///
/// # Errors
/// Returns an error if it has the root of a namespace already.
pub(super) fn within(value: &[u8], root: u32) -> Result<Cow<'_, [u8]>, Refusal> {
    let Some((magic, words)) = value.split_first_chunk() else { return Ok(value.into()) };
    let magic = u32::from_le_bytes(*magic);
    match magic & VERSION {
        VERSION_2 if value.len() == LENGTH_2 => {
            let magic = VERSION_3 | magic & !VERSION;
            Ok([&magic.to_le_bytes(), words, &root.to_le_bytes()].concat().into())
        }
        VERSION_3 => Err(Refusal::CapabilityOfNamespace),
        // The kernel refuses it.
        _ => Ok(value.into()),
    }
}

/// Returns the value as a layer has it, of a file for a namespace whose root is `root`; `None` if it is for
/// another namespace.
pub(crate) fn without(value: &[u8], root: u32) -> Option<Cow<'_, [u8]>> {
    let Some((magic, rest)) = value.split_first_chunk() else { return Some(value.into()) };
    let magic = u32::from_le_bytes(*magic);
    let Some((words, of)) = rest.split_last_chunk() else { return Some(value.into()) };
    if magic & VERSION != VERSION_3 {
        return Some(value.into());
    }
    let magic = VERSION_2 | magic & !VERSION;
    (u32::from_le_bytes(*of) == root).then(|| [&magic.to_le_bytes(), words].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cap_net_raw=ep`.
    const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn the_root_of_the_namespace_is_added() {
        let expected =
            [1, 0, 0, 3, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe8, 3, 0, 0];
        assert_eq!(within(&NET_RAW, 1000).unwrap(), &expected[..]);
        assert_eq!(without(&expected, 1000).unwrap(), &NET_RAW[..]);
        assert_eq!(without(&expected, 1001), None);
        let error = within(&expected, 1000).unwrap_err();
        assert!(matches!(error, Refusal::CapabilityOfNamespace), "{error}");
        assert_eq!(
            error.to_string(),
            "the capabilities of the file are those of another user namespace"
        );
    }

    #[test]
    fn what_is_no_capability_is_left_to_the_kernel() {
        for value in [&b""[..], b"abc", &NET_RAW[..19], &[0; 20], &[1, 0, 0, 1, 0, 0, 0, 0]] {
            assert_eq!(within(value, 1000).unwrap(), value);
            assert_eq!(without(value, 1000).unwrap(), value);
        }
    }
}
