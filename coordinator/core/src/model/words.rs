//! The words of a command in one piece of memory: a job may have 100,000 commands, and a piece for each word takes several times
//! the text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

/// A list of texts that never changes: each behind its length in four bytes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Words(Box<[u8]>);

impl Words {
    /// The words in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first_chunk()?;
            let (word, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = tail;
            std::str::from_utf8(word).ok()
        })
    }

    /// The words with `separator` between them.
    #[must_use]
    pub fn join(&self, separator: &str) -> String {
        self.iter().collect::<Vec<_>>().join(separator)
    }
}

impl<S: AsRef<str>> FromIterator<S> for Words {
    fn from_iter<I: IntoIterator<Item = S>>(words: I) -> Self {
        let mut bytes = Vec::new();
        words.into_iter().for_each(|word| push(&mut bytes, word.as_ref()));
        Self(bytes.into())
    }
}

fn push(bytes: &mut Vec<u8>, word: &str) {
    bytes.extend((word.len() as u32).to_le_bytes());
    bytes.extend(word.as_bytes());
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.iter().count()))?;
        self.iter().try_for_each(|word| list.serialize_element(word))?;
        list.end()
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Word<'a>(#[serde(borrow)] Cow<'a, str>);
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Words;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of words")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Words, A::Error> {
                let mut bytes = Vec::new();
                while let Some(Word(word)) = seq.next_element()? {
                    push(&mut bytes, &word);
                }
                Ok(Words(bytes.into()))
            }
        }
        deserializer.deserialize_seq(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_whatever_is_in_them() {
        for list in [vec![], vec![""], vec!["a b", "", "\0", "é", "--x=1"]] {
            let words: Words = list.iter().collect();
            assert_eq!(words.iter().collect::<Vec<_>>(), list);
            let bytes = postcard::to_stdvec(&words).expect("encodes");
            assert_eq!(bytes, postcard::to_stdvec(&list).expect("encodes"));
            assert_eq!(postcard::from_bytes::<Words>(&bytes).expect("decodes"), words);
        }
        assert_eq!(["echo", "hi there"].into_iter().collect::<Words>().join(" "), "echo hi there");
    }
}
