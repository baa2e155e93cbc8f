//! Everything that is wrong with the shape of a job file: unknown keys with the nearest known one, missing keys, wrong types, texts
//! that are no size or duration. Walks the file's tree against its schema; runs only after the typed parser has refused the file,
//! whose own message names one fault and ends there.

use serde_json::Value;

use super::error::{SpecCode, SpecError, nearest};
use super::limits;
use super::request::GpusFile;
use super::tree::{Kind, Node};
use super::value::Cpus;
use crate::model::duration::Millis;
use crate::model::size::Size;

/// All faults of `root`, in the order of the file.
pub(super) fn faults(root: &Node) -> Vec<SpecError> {
    let mut walk = Walk { found: Vec::new() };
    walk.value(root, root.line, &super::schema::inlined(), "");
    walk.found
}

struct Walk {
    found: Vec<SpecError>,
}

impl Walk {
    fn push(&mut self, line: u32, error: SpecError) {
        if self.found.len() < limits::ERRORS {
            self.found.push(SpecError { line: (line > 0).then_some(line), ..error });
        }
    }

    /// Compares `node` with `schema`; `line` is that of its key.
    fn value(&mut self, node: &Node, line: u32, schema: &Value, path: &str) {
        if self.found.len() >= limits::ERRORS {
            return;
        }
        let variants = variants(schema);
        let fitting: Vec<&Value> = variants.iter().copied().filter(|s| accepts_kind(s, &node.kind)).collect();
        let Some(&best) = fitting.first() else {
            let wanted = wanted(&variants);
            if path.is_empty() {
                let message = match node.kind {
                    Kind::Null => "the job file is empty".to_owned(),
                    _ => format!("a job file is a table, this is {}", node.kind.name()),
                };
                self.push(line, SpecError::new(SpecCode::InvalidValue, message).hint("begin with `tasks:`"));
                return;
            }
            self.push(
                line,
                SpecError::at(
                    SpecCode::InvalidValue,
                    path,
                    format!("expected {wanted}, found {}", node.kind.name()),
                ),
            );
            return;
        };
        match &node.kind {
            Kind::Table(_) => self.table(node, line, best, path),
            Kind::List(items) => {
                if let Some(schema) = best.get("items") {
                    for (i, item) in items.iter().enumerate() {
                        self.value(item, item.line, schema, &format!("{path}[{i}]"));
                    }
                }
            }
            _ => self.scalar(node, line, &fitting, path),
        }
    }

    fn table(&mut self, node: &Node, line: u32, schema: &Value, path: &str) {
        let Kind::Table(entries) = &node.kind else { return };
        let none = serde_json::Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let rest = schema.get("additionalProperties");
        for (i, entry) in entries.iter().enumerate() {
            let at = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
            if i < 1_000 && entries[..i].iter().any(|e| e.key == entry.key) {
                self.push(
                    entry.line,
                    SpecError::at(SpecCode::Duplicate, &at, format!("\"{}\" is there twice", entry.key)),
                );
            }
            match (known.get(&entry.key), rest) {
                (Some(schema), _) => self.value(&entry.value, entry.line, schema, &at),
                (None, Some(Value::Bool(false))) => {
                    let error = SpecError::at(
                        SpecCode::UnknownField,
                        &at,
                        format!("unknown field \"{}\"", entry.key),
                    );
                    self.push(entry.line, unknown_hint(error, &entry.key, known));
                }
                (None, Some(schema)) if schema.is_object() => {
                    self.value(&entry.value, entry.line, schema, &at)
                }
                (None, _) => {}
            }
        }
        for required in
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            if !entries.iter().any(|e| e.key == required) {
                let place = if path.is_empty() { "the job".to_owned() } else { format!("\"{path}\"") };
                let error =
                    SpecError::at(SpecCode::MissingField, path, format!("{place} has no \"{required}\""));
                let error = if path.is_empty() { SpecError { field: None, ..error } } else { error };
                self.push(line, error.hint(format!("add \"{required}\"")));
            }
        }
    }

    fn scalar(&mut self, node: &Node, line: u32, fitting: &[&Value], path: &str) {
        let text = match &node.kind {
            Kind::Text(text) => text.clone(),
            Kind::Integer(i) => i.to_string(),
            Kind::Float(f) => f.to_string(),
            _ => return,
        };
        let names: Vec<&str> = fitting.iter().flat_map(|s| allowed(s)).collect();
        if !names.is_empty()
            && fitting.iter().all(|s| !allowed(s).is_empty())
            && !names.contains(&text.as_str())
        {
            let list = names.join(", ");
            let error =
                SpecError::at(SpecCode::InvalidValue, path, format!("\"{text}\" is not one of {list}"));
            self.push(line, error.nearest(&text, names.iter().copied()));
            return;
        }
        let Some(schema) = fitting.first() else { return };
        let number = matches!(node.kind, Kind::Integer(_));
        let fault = match schema.get("format").and_then(Value::as_str) {
            Some("muster-size") if number => {
                (text.starts_with('-')).then(|| format!("`{text}` is no size: it is negative"))
            }
            Some("muster-size") => Size::parse(&text).err().map(|e| e.to_string()),
            Some("muster-duration") => Millis::parse(&text).err().map(|e| e.to_string()),
            Some("muster-cpus") => Cpus::parse(&text).err(),
            Some("muster-gpus") => GpusFile::parse(&text).err(),
            _ => range_fault(node, schema),
        };
        if let Some(message) = fault {
            self.push(line, SpecError::at(SpecCode::InvalidValue, path, message));
        }
    }
}

/// The hint for an unknown key: the nearest known one, or all of them when they are few.
fn unknown_hint(error: SpecError, key: &str, known: &serde_json::Map<String, Value>) -> SpecError {
    if nearest(key, known.keys().map(String::as_str)).is_some() {
        return error.nearest(key, known.keys().map(String::as_str));
    }
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    error.hint(format!("known here: {}", names.join(", ")))
}

/// The alternatives of a schema.
fn variants(schema: &Value) -> Vec<&Value> {
    let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    alternatives.map_or_else(|| vec![schema], |list| list.iter().flat_map(variants).collect())
}

/// Whether values of this kind are allowed. A scalar is allowed where a text is: YAML gives `1.10` its text back.
fn accepts_kind(schema: &Value, kind: &Kind) -> bool {
    if schema.as_bool() == Some(true) {
        return true;
    }
    let is = |wanted: &str| {
        matches!(
            (wanted, kind),
            ("null", Kind::Null)
                | ("boolean", Kind::Bool)
                | ("integer", Kind::Integer(_))
                | ("number", Kind::Integer(_) | Kind::Float(_))
                | ("string", Kind::Text(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Bool)
                | ("array", Kind::List(_))
                | ("object", Kind::Table(_))
        )
    };
    match schema.get("type") {
        Some(Value::String(name)) => is(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is),
        _ => schema.get("const").is_none_or(|_| is("string")),
    }
}

/// The only texts that are allowed; empty = any.
fn allowed(schema: &Value) -> Vec<&str> {
    let list = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    list.chain(schema.get("const")).filter_map(Value::as_str).collect()
}

/// What a schema wants, in words.
fn wanted(variants: &[&Value]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for schema in variants {
        let names: Vec<&str> = match schema.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => vec!["string"],
        };
        for name in names {
            let word = match (name, schema.get("format").and_then(Value::as_str)) {
                (_, Some("muster-size")) => "a size such as 4GiB",
                (_, Some("muster-duration")) => "a duration such as 30s",
                ("boolean", _) => "true or false",
                ("integer", _) => "an integer",
                ("number", _) => "a number",
                ("array", _) => "a list",
                ("object", _) => "a table",
                ("null", _) => continue,
                _ => "a text",
            };
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    match words.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// A number outside the bounds of its schema.
fn range_fault(node: &Node, schema: &Value) -> Option<String> {
    let Kind::Integer(value) = node.kind else { return None };
    let bound = |name: &str, format: Option<i128>| {
        schema.get(name).and_then(Value::as_f64).map(|f| f as i128).or(format)
    };
    let (low, high) = match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => (Some(0), Some(i128::from(u32::MAX))),
        Some("int32") => (Some(i128::from(i32::MIN)), Some(i128::from(i32::MAX))),
        _ => (None, None),
    };
    match (bound("minimum", low), bound("maximum", high)) {
        (Some(low), _) if value < low => Some(format!("{value} is too small: at least {low}")),
        (_, Some(high)) if value > high => Some(format!("{value} is too large: at most {high}")),
        _ => None,
    }
}
