//! Values of the job file that may be written in more than one way: a command as text or list, a need as name or table. Each has one visitor, whose `expecting` is the error a person sees.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A map that keeps the order of the file: tasks are numbered by it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Ordered<T> {
    /// The entries in file order.
    pub fn iter(&self) -> std::slice::Iter<'_, (String, T)> {
        self.0.iter()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of names and their values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(V(PhantomData))
    }
}

/// What a task executes.
#[derive(Clone, Debug, PartialEq)]
pub enum RunFile {
    /// A text for `/bin/sh -c`.
    Shell(String),
    /// Words, executed as they are.
    Exec(Vec<String>),
}

impl Serialize for RunFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Shell(text) => serializer.serialize_str(text),
            Self::Exec(words) => words.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RunFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = RunFile;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command: a text for /bin/sh, or a list of words")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<RunFile, E> {
                Ok(RunFile::Shell(v.to_owned()))
            }
            fn visit_string<E: de::Error>(self, v: String) -> Result<RunFile, E> {
                Ok(RunFile::Shell(v))
            }
            /// `run: true` in YAML is the program, not the truth value.
            fn visit_bool<E: de::Error>(self, v: bool) -> Result<RunFile, E> {
                Ok(RunFile::Shell(v.to_string()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RunFile, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = seq.next_element()? {
                    words.push(word);
                }
                Ok(RunFile::Exec(words))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// One text or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_many(deserializer, "a text or a list of texts").map(Self)
    }
}

/// A need: the name of a task, or a table with `task` and `when`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedFile {
    /// The task.
    pub task: String,
    /// The end of it that counts; none = the rule alone decides.
    pub when: Option<WhenEnd>,
}

/// The end of a needed task that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenEnd {
    /// It succeeded.
    Succeeded,
    /// It failed or was cancelled.
    Failed,
    /// It ended in any way.
    Finished,
    /// It was skipped.
    Skipped,
}

/// The table form of a need.
#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NeedTable {
    /// The task.
    task: String,
    /// The end of it that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    when: Option<WhenEnd>,
}

impl Serialize for NeedFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.when {
            None => serializer.serialize_str(&self.task),
            when => NeedTable { task: self.task.clone(), when }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for NeedFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = NeedFile;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a task, or a table with task and when")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<NeedFile, E> {
                Ok(NeedFile { task: v.to_owned(), when: None })
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<NeedFile, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NeedFile, A::Error> {
                let table = NeedTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(NeedFile { task: table.task, when: table.when })
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// Needs: one or a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeedsFile(pub Vec<NeedFile>);

impl Serialize for NeedsFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NeedsFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_many(deserializer, "the name of a task, or a list of needs").map(Self)
    }
}

/// CPUs in thousandths: `2`, `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus(pub u64);

impl Cpus {
    /// Reads `2` or `0.5`.
    ///
    /// # Errors
    /// The message, if the text is no number of CPUs.
    pub fn parse(text: &str) -> Result<Self, String> {
        let milli = crate::model::size::scaled(text.trim(), 1_000).ok().filter(|m| *m <= 1_000_000_000);
        milli.map(Self).ok_or_else(|| format!("`{text}` is no number of CPUs: write `2` or `0.5`"))
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1_000) {
            serializer.serialize_u64(self.0 / 1_000)
        } else {
            serializer.collect_str(&format_args!("{}.{:03}", self.0 / 1_000, self.0 % 1_000))
        }
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Cpus;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of CPUs such as 2 or 0.5")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Cpus, E> {
                Cpus::parse(v).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Cpus, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Cpus, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Cpus, E> {
                self.visit_str(&v.to_string())
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// The working directory: a path, or a table with `path` and `ignore`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkdirFile {
    /// Relative to the job file.
    pub path: String,
    /// Globs of what is not shipped.
    pub ignore: Vec<String>,
}

/// The table form of a working directory.
#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkdirTable {
    /// Relative to the job file.
    path: String,
    /// Globs of what is not shipped.
    #[serde(default)]
    ignore: Vec<String>,
}

impl Serialize for WorkdirFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.ignore.is_empty() {
            serializer.serialize_str(&self.path)
        } else {
            WorkdirTable { path: self.path.clone(), ignore: self.ignore.clone() }.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for WorkdirFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = WorkdirFile;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or a table with path and ignore")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<WorkdirFile, E> {
                Ok(WorkdirFile { path: v.to_owned(), ignore: Vec::new() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WorkdirFile, A::Error> {
                let table = WorkdirTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(WorkdirFile { path: table.path, ignore: table.ignore })
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// Reads one `T` or a list of them; `expecting` is the error a person sees.
fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    expecting: &'static str,
) -> Result<Vec<T>, D::Error> {
    struct V<T>(&'static str, PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: de::Error>(self, v: &str) -> Result<Vec<T>, E> {
            T::deserialize(de::value::StrDeserializer::new(v)).map(|t| vec![t])
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(|t| vec![t])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = seq.next_element()? {
                all.push(one);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(V(expecting, PhantomData))
}
