//! A job file as a tree of values with their lines: read a second time only when something is wrong, to say where. Never the way to
//! a job; that is `JobFile`.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::parse::Format;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Line from 1; 0 = not known.
    pub line: u32,
    /// The value.
    pub kind: Kind,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Bool,
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// An entry of a table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    /// Line of the key.
    pub line: u32,
    pub value: Node,
}

impl Kind {
    /// What a person calls it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool => "true or false",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// The entry or element at `path` (`tasks.train.needs[0]`), or the nearest one above it.
    pub fn line_of(&self, path: &str) -> u32 {
        let (mut node, mut line) = (self, self.line);
        for step in steps(path) {
            let next = match (&node.kind, step) {
                (Kind::Table(entries), Step::Key(key)) => {
                    entries.iter().find(|e| e.key == key).map(|e| (e.line, &e.value))
                }
                (Kind::List(items), Step::Index(i)) => items.get(i).map(|item| (item.line, item)),
                _ => None,
            };
            let Some((at, value)) = next else { break };
            if at > 0 {
                line = at;
            }
            node = value;
        }
        line
    }
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split('.').flat_map(|part| {
        let (key, rest) = part.split_once('[').unwrap_or((part, ""));
        let key = (!key.is_empty()).then_some(Step::Key(key));
        key.into_iter()
            .chain(rest.split('[').filter_map(|i| i.strip_suffix(']')?.parse().ok().map(Step::Index)))
    })
}

/// The tree of `text`; `None` if it is no text of that format.
pub(super) fn read(text: &str, format: Format) -> Option<Node> {
    match format {
        // JSON is YAML but for its pairs of surrogates, and only the YAML parser knows lines: what it can't read is told about without them.
        Format::Json => {
            read(text, Format::Yaml).or_else(|| serde_json::from_str(text).ok().map(|json| json_node(&json)))
        }
        Format::Yaml => serde_saphyr::from_str_with_options::<serde_saphyr::Spanned<Yaml>>(
            text,
            super::parse::yaml_options(text.len()),
        )
        .ok()
        .map(|s| {
            let line = line(s.referenced);
            Node { line, kind: s.value.0 }
        }),
        Format::Toml => {
            let table = toml::de::DeTable::parse(text).ok()?;
            let lines = Lines::of(text);
            Some(Node { line: 1, kind: toml_table(table.get_ref(), &lines) })
        }
    }
}

fn json_node(value: &serde_json::Value) -> Node {
    use serde_json::Value;
    let kind = match value {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Bool,
        Value::Number(n) => {
            n.as_i128().map_or_else(|| Kind::Float(n.as_f64().unwrap_or(f64::NAN)), Kind::Integer)
        }
        Value::String(text) => Kind::Text(text.clone()),
        Value::Array(items) => Kind::List(items.iter().map(json_node).collect()),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| Entry {
                key: key.clone(),
                line: 0,
                value: json_node(value),
            };
            Kind::Table(map.iter().map(entry).collect())
        }
    };
    Node { line: 0, kind }
}

fn line(location: serde_saphyr::Location) -> u32 {
    u32::try_from(location.line()).unwrap_or(0)
}

/// A value of YAML; its line is known to whoever wraps it in `Spanned`.
struct Yaml(Kind);

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Yaml;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Yaml, E> {
                Ok(Yaml(Kind::Null))
            }
            fn visit_none<E: de::Error>(self) -> Result<Yaml, E> {
                Ok(Yaml(Kind::Null))
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Yaml, D::Error> {
                Yaml::deserialize(deserializer)
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Yaml, E> {
                Ok(Yaml(Kind::Bool))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Yaml, E> {
                Ok(Yaml(Kind::Integer(v.into())))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Yaml, E> {
                Ok(Yaml(Kind::Integer(v.into())))
            }
            fn visit_i128<E: de::Error>(self, v: i128) -> Result<Yaml, E> {
                Ok(Yaml(Kind::Integer(v)))
            }
            fn visit_u128<E: de::Error>(self, v: u128) -> Result<Yaml, E> {
                Ok(Yaml(Kind::Integer(i128::try_from(v).unwrap_or(i128::MAX))))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Yaml, E> {
                Ok(Yaml(Kind::Float(v)))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Yaml, E> {
                Ok(Yaml(Kind::Text(v.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Yaml, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<serde_saphyr::Spanned<Yaml>>()? {
                    items.push(Node { line: line(item.referenced), kind: item.value.0 });
                }
                Ok(Yaml(Kind::List(items)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Yaml, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<serde_saphyr::Spanned<String>>()? {
                    let value = map.next_value::<serde_saphyr::Spanned<Yaml>>()?;
                    entries.push(Entry {
                        line: line(key.referenced),
                        key: key.value,
                        value: Node { line: line(value.referenced), kind: value.value.0 },
                    });
                }
                Ok(Yaml(Kind::Table(entries)))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// Offsets at which lines begin.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect())
    }

    /// Line (from 1) of a byte offset.
    pub fn at(&self, offset: usize) -> u32 {
        u32::try_from(self.0.partition_point(|&start| start <= offset)).unwrap_or(0)
    }
}

fn toml_table(table: &toml::de::DeTable<'_>, lines: &Lines) -> Kind {
    let mut entries: Vec<(usize, Entry)> = table
        .iter()
        .map(|(key, value)| {
            let at = key.span().start;
            let node = Node { line: lines.at(value.span().start), kind: toml_value(value.get_ref(), lines) };
            (at, Entry { key: key.get_ref().to_string(), line: lines.at(at), value: node })
        })
        .collect();
    entries.sort_by_key(|(at, _)| *at);
    Kind::Table(entries.into_iter().map(|(_, e)| e).collect())
}

fn toml_value(value: &toml::de::DeValue<'_>, lines: &Lines) -> Kind {
    use toml::de::DeValue;
    match value {
        DeValue::String(s) => Kind::Text(s.to_string()),
        DeValue::Integer(i) => {
            i128::from_str_radix(&i.as_str().replace('_', ""), i.radix()).map_or(Kind::Null, Kind::Integer)
        }
        DeValue::Float(f) => f.as_str().replace('_', "").parse().map_or(Kind::Null, Kind::Float),
        DeValue::Boolean(_) => Kind::Bool,
        DeValue::Datetime(d) => Kind::Text(d.to_string()),
        DeValue::Array(items) => Kind::List(
            items
                .iter()
                .map(|item| Node {
                    line: lines.at(item.span().start),
                    kind: toml_value(item.get_ref(), lines),
                })
                .collect(),
        ),
        DeValue::Table(table) => toml_table(table, lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_in_every_format() {
        let yaml = "name: x\ntasks:\n  train:\n    run: a\n    needs:\n      - b\n      - {task: c}\n";
        let json = "{\n \"name\": \"x\",\n \"tasks\": {\n  \"train\": {\n   \"run\": \"a\",\n   \"needs\": [\n    \"b\"]}}}";
        let toml = "name = \"x\"\n\n[tasks.train]\nrun = \"a\"\nneeds = [\n  \"b\",\n]\n";
        let find = |text, format, path| read(text, format).expect("tree").line_of(path);
        for (path, line) in [
            ("name", 1),
            ("tasks", 2),
            ("tasks.train", 3),
            ("tasks.train.run", 4),
            ("tasks.train.needs[1]", 7),
            ("tasks.nobody", 2),
        ] {
            assert_eq!(find(yaml, Format::Yaml, path), line, "{path}");
        }
        assert_eq!(find(json, Format::Json, "tasks.train.needs[0]"), 7);
        assert_eq!(find(toml, Format::Toml, "tasks.train.needs[0]"), 6);
        assert_eq!(find(toml, Format::Toml, "tasks.train.run"), 4);
    }
}
