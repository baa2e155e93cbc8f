//! Core types as bytes: one format byte, then postcard.

use serde::{Serialize, de::DeserializeOwned};

/// The format that this version writes.
const FORMAT: u8 = 1;

/// The bytes are not of a known format, or not of this type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBytes {
    #[error("empty message")]
    Empty,
    #[error("message format {0} is newer than {FORMAT}: upgrade this program")]
    Newer(u8),
    #[error("unreadable message: {0}")]
    Unreadable(postcard::Error),
}

/// `value` as bytes.
///
/// # Panics
/// Never for the types of the core: their serialisation cannot fail.
#[must_use]
pub fn pack<T: Serialize>(value: &T) -> bytes::Bytes {
    let bytes = postcard::to_extend(value, vec![FORMAT]).expect("core types always serialise");
    bytes.into()
}

/// The value in `bytes`.
///
/// # Errors
/// [`BadBytes`] when the format is unknown or the bytes are of another type.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadBytes> {
    match bytes.split_first() {
        None => Err(BadBytes::Empty),
        Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(BadBytes::Unreadable),
        Some((&format, _)) => Err(BadBytes::Newer(format)),
    }
}
