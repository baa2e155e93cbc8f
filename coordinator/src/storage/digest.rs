//! A digest of all rows of the state, kept up to date row by row and stored with them in the same write.
//!
//! Checksums of blocks find a flipped bit; they do not find rows that are missing, as after a log or a manifest that ends early. The
//! digest does, at every start and before a snapshot is installed. Members that applied the same entries have the same one (I15).
//! It is a sum, so that the order of the rows does not matter and a change costs two hashes, not a pass over everything.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Names of rows live in this process only, under a key of its own: users choose parts of row keys, and whoever could make two of them meet
/// could make members refuse to start.
static NAMES: std::sync::LazyLock<[u8; 32]> = std::sync::LazyLock::new(rand::random);

/// Hashes of what is a hash already.
#[derive(Debug, Default, Clone, Copy)]
pub struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// The digest of a set of rows.
#[derive(Debug, Default, Clone)]
pub struct Digest {
    sum: u128,
    /// What each row adds, by the hash of its key: 28 to 58 bytes a row, instead of reading the old row for every change. In halves, as a
    /// u128 would be padded to 32 bytes with its key.
    rows: HashMap<u64, [u64; 2], BuildHasherDefault<Same>>,
}

impl Digest {
    /// The row has this value now; none: it is gone.
    pub fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        let name = low(&blake3::keyed_hash(&NAMES, key));
        let old = match value {
            Some(value) => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&(key.len() as u64).to_be_bytes());
                hasher.update(key);
                hasher.update(value);
                let new = wide(&hasher.finalize());
                self.sum = self.sum.wrapping_add(new);
                self.rows.insert(name, halves(new))
            }
            None => self.rows.remove(&name),
        };
        self.sum = self.sum.wrapping_sub(old.map_or(0, whole));
    }

    /// The digest and the number of rows, as they are stored.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.sum.to_be_bytes().to_vec();
        bytes.extend((self.rows.len() as u64).to_be_bytes());
        bytes
    }
}

fn halves(number: u128) -> [u64; 2] {
    #[allow(clippy::cast_possible_truncation)] // the lower half is meant
    [(number >> 64) as u64, number as u64]
}

fn whole([high, low]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

fn low(hash: &blake3::Hash) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(bytes)
}

fn wide(hash: &blake3::Hash) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_rows_are_counts_not_how_they_came() {
        let mut a = Digest::default();
        a.set(b"k", Some(b"old"));
        a.set(b"gone", Some(b"x"));
        a.set(b"k", Some(b"new"));
        a.set(b"l", Some(b"1"));
        a.set(b"gone", None);
        a.set(b"never", None);
        let mut b = Digest::default();
        b.set(b"l", Some(b"1"));
        b.set(b"k", Some(b"new"));
        assert_eq!(a.bytes(), b.bytes());
        for (key, value) in [(b"k", None), (b"k", Some(&b"old"[..])), (b"m", Some(&b"new"[..]))] {
            let mut other = b.clone();
            other.set(key, value);
            assert_ne!(other.bytes(), b.bytes());
        }
        // The border between key and value counts.
        let (mut c, mut d) = (Digest::default(), Digest::default());
        c.set(b"ab", Some(b"c"));
        d.set(b"a", Some(b"bc"));
        assert_ne!(c.bytes(), d.bytes());
    }
}
