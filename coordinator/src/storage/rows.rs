//! Values of the state's rows: a version byte, then postcard. Another version stops the member: a row is never guessed.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that this binary writes.
const VERSION: u8 = 2;

/// The bytes of a value.
///
/// # Panics
/// Never for the types of the core: their serialisation cannot fail.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("rows always serialise")
}

/// The value in `bytes`.
///
/// # Errors
/// Why they are no such value, in words.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
        Some((version, _)) => Err(format!("written in version {version}, this binary knows {VERSION}")),
        None => Err("empty".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_named() {
        assert_eq!(decode::<u32>(&encode(&7_u32)), Ok(7));
        let newer = VERSION + 1;
        let said = format!("written in version {newer}, this binary knows {VERSION}");
        assert_eq!(decode::<u32>(&[newer, 1]), Err(said));
        assert_eq!(decode::<u32>(&[]), Err("empty".into()));
    }
}
