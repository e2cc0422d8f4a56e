//! Structs are read from objects only.

/// Makes types readable from objects only. `serde`'s derived code also accepts an array of the members'
/// values, which no other reader of these documents does.
///
/// The types derive `Deserialize` with `#[serde(remote = "Self")]`. The calling crate must depend on `serde`.
///
/// ```
/// use codec::from_objects;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// #[serde(remote = "Self")]
/// struct Input {
///     digest: String,
/// }
/// from_objects!(Input);
///
/// let input: Input = serde_json::from_str(r#"{"digest": "sha256:…"}"#)?;
/// assert_eq!(input.digest, "sha256:…");
/// // A plain derive accepts this.
/// let error = serde_json::from_str::<Input>(r#"["sha256:…"]"#).err().expect("it is a list");
/// assert!(error.to_string().starts_with("invalid type: sequence, expected an object"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[macro_export]
macro_rules! from_objects {
    ($($type:ty),+ $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        map: A,
                    ) -> Result<$type, A::Error> {
                        <$type>::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    }
                }
                deserializer.deserialize_map(Visitor)
            }
        }
    )+};
}
