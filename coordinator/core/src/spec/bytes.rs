//! `SpecBytes`: a resolved job on the wire, in the log and on disk: one version byte, then postcard compressed by lz4. An array of a
//! million indices is some hundred bytes; 100,000 explicit tasks about a megabyte.

use serde::{Deserialize, Serialize};

use crate::model::job_spec::JobSpec;

/// The version written today.
const VERSION: u8 = 1;
/// No job that `check` accepts comes near it; beyond, the length in front of the data is a lie.
const DECODED_BYTES: usize = 512 << 20;

/// An encoded [`JobSpec`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpecBytes(#[serde(with = "as_bytes")] pub Vec<u8>);

/// Why bytes are no job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecBytesError {
    /// There are none.
    #[error("the specification is empty")]
    Empty,
    /// Another version wrote them.
    #[error("the specification has version {0}; this program reads 1")]
    Version(u8),
    /// They say that they are longer than any job.
    #[error("the specification would have {0} bytes; the most is {DECODED_BYTES}")]
    TooLarge(usize),
    /// They are not lz4.
    #[error("the specification can't be decompressed")]
    Compression,
    /// They are no job.
    #[error("the specification can't be decoded")]
    Encoding,
    /// Numbers in it point nowhere.
    #[error("the specification contradicts itself")]
    Unsound,
}

impl SpecBytes {
    /// Encodes a job.
    ///
    /// # Panics
    /// Never: every field of a job has an encoding.
    #[must_use]
    pub fn encode(spec: &JobSpec) -> Self {
        let plain = postcard::to_stdvec(spec).expect("a job encodes");
        let mut bytes = vec![VERSION];
        bytes.extend(lz4_flex::block::compress_prepend_size(&plain));
        Self(bytes)
    }

    /// Decodes the job and checks that it is sound.
    ///
    /// # Errors
    /// Bytes that `encode` did not make. Never panics.
    pub fn decode(&self) -> Result<JobSpec, SpecBytesError> {
        let (&version, rest) = self.0.split_first().ok_or(SpecBytesError::Empty)?;
        if version != VERSION {
            return Err(SpecBytesError::Version(version));
        }
        let (size, data) =
            lz4_flex::block::uncompressed_size(rest).map_err(|_| SpecBytesError::Compression)?;
        // lz4 never packs tighter than 255 to 1: a small message can't make a large allocation.
        if size > DECODED_BYTES || size / 256 > data.len() {
            return Err(SpecBytesError::TooLarge(size));
        }
        let plain = lz4_flex::block::decompress(data, size).map_err(|_| SpecBytesError::Compression)?;
        let mut spec: JobSpec = postcard::from_bytes(&plain).map_err(|_| SpecBytesError::Encoding)?;
        // It stays for as long as the job: without the room for twice as many tasks that reading left.
        spec.tasks.shrink_to_fit();
        if spec.is_sound() { Ok(spec) } else { Err(SpecBytesError::Unsound) }
    }
}

impl std::fmt::Debug for SpecBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SpecBytes({} bytes)", self.0.len())
    }
}

/// A vector of bytes as one byte string instead of a sequence of numbers.
mod as_bytes {
    use serde::{Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct V;
        impl<'de> de::Visitor<'de> for V {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<Vec<u8>, E> {
                Ok(v.to_vec())
            }
            fn visit_byte_buf<E: de::Error>(self, v: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(v)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_bytes_are_refused_by_kind() {
        assert_eq!(SpecBytes(vec![]).decode(), Err(SpecBytesError::Empty));
        assert_eq!(SpecBytes(vec![9, 1, 2]).decode(), Err(SpecBytesError::Version(9)));
        assert_eq!(SpecBytes(vec![1, 1, 2]).decode(), Err(SpecBytesError::Compression));
        let mut bomb = vec![1];
        bomb.extend(u32::MAX.to_le_bytes());
        bomb.extend([0; 8]);
        assert!(matches!(SpecBytes(bomb).decode(), Err(SpecBytesError::TooLarge(_))));
        let mut noise = vec![1];
        noise.extend(lz4_flex::block::compress_prepend_size(&[255; 40]));
        assert_eq!(SpecBytes(noise).decode(), Err(SpecBytesError::Encoding));
    }
}
