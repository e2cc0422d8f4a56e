//! Devices of RUN: `--device=…`.

use crate::error::Reason;
use crate::value::{boolean, fields};

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) required: bool,
}

/// Reads a device (`ParseDevice` in `instructions/commands_rundevice.go`).
pub(crate) fn parse(text: &str) -> Result<Device, Reason> {
    let wrong = |problem| Reason::value(text, problem);
    let mut device = Device::default();
    for field in fields(text).ok_or_else(|| wrong("it is not a list"))? {
        let (key, value) = field.split_once('=').map_or((&*field, None), |(k, v)| (k, Some(v)));
        match (&*key.to_lowercase(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => {
                device.required =
                    boolean(value).ok_or_else(|| wrong("required is not a truth value"))?;
            }
            ("name", Some(value)) if device.name.is_empty() => value.clone_into(&mut device.name),
            ("name", Some(_)) => return Err(wrong("device name already set")),
            _ if device.name.is_empty() => device.name = field,
            _ => return Err(wrong("unexpected key")),
        }
    }
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_an_equals_sign() {
        let device = |name: &str, required| Ok(Device { name: name.to_owned(), required });
        assert_eq!(parse("v.com/gpu=a,required"), device("v.com/gpu=a", true));
        assert_eq!(parse("name=v.com/gpu,required=false"), device("v.com/gpu", false));
        for text in ["a,b", "name=a,name=b", "a,required=x", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
