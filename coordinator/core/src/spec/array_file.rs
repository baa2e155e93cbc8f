//! `array:` as it is written: a range, a list, or a matrix. What it means is `array`'s.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::value::Ordered;

/// Indices of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum ArrayFile {
    /// `"0-99%10"`, `"0-99:2"`, `"1,5,9-12"`.
    Range(String),
    /// `[1, 5, 9]`.
    List(Vec<u32>),
    /// `{matrix: {…}, max_running: 4}`.
    Matrix(MatrixFile),
}

/// A matrix: the product of its axes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatrixFile {
    /// Axes by name, in file order; the last varies fastest.
    pub matrix: Ordered<AxisFile>,
    /// Most indices that run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
}

/// The values of an axis.
#[derive(Clone, Debug, PartialEq)]
pub enum AxisFile {
    /// The values themselves, scalars.
    Values(Vec<serde_json::Value>),
    /// `"{{ params.NAME }}"`, which must be a list.
    Template(String),
}

impl Serialize for ArrayFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Range(text) => serializer.serialize_str(text),
            Self::List(list) => list.serialize(serializer),
            Self::Matrix(matrix) => matrix.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ArrayFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = ArrayFile;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a range such as \"0-99%10\", a list of indices, or a table with matrix and max_running",
                )
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<ArrayFile, E> {
                Ok(ArrayFile::Range(v.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ArrayFile, A::Error> {
                let mut list = Vec::new();
                while let Some(index) = seq.next_element()? {
                    list.push(index);
                }
                Ok(ArrayFile::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ArrayFile, A::Error> {
                MatrixFile::deserialize(MapAccessDeserializer::new(map)).map(ArrayFile::Matrix)
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl Serialize for AxisFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Values(values) => values.serialize(serializer),
            Self::Template(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for AxisFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = AxisFile;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of values, or a template such as \"{{ params.seeds }}\"")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<AxisFile, E> {
                Ok(AxisFile::Template(v.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AxisFile, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(AxisFile::Values(values))
            }
        }
        deserializer.deserialize_any(V)
    }
}
