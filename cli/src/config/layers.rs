//! The merging: a TOML table from the file, keys of the environment over it, flags over those; then one strict struct.

use crate::failure::Failure;
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::{Table, Value};

/// How the text of an environment variable or flag is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    /// `true`, `false`, `1`, `0`.
    Switch,
    /// Separated by commas.
    List,
    /// `k=v,k=v`.
    Pairs,
}

/// One key that a daemon knows.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub section: &'static str,
    pub key: &'static str,
    pub kind: Kind,
}

impl Key {
    #[must_use]
    pub const fn new(section: &'static str, key: &'static str, kind: Kind) -> Self {
        Self { section, key, kind }
    }

    fn variable(&self) -> String {
        format!("MUSTER_{}_{}", self.section, self.key).to_uppercase()
    }
}

/// Names of the environment that are not a daemon's keys, and say nothing wrong.
const OTHERS: [&str; 9] = [
    "MUSTER_CONFIG_DIR",
    "MUSTER_CONTEXT",
    "MUSTER_ADDRESS",
    "MUSTER_TOKEN",
    "MUSTER_LOG",
    "MUSTER_TARGET",
    // What a job of Slurm is told that is to become a worker.
    "MUSTER_POOL",
    muster_failpoint::VARIABLE,
    muster_failpoint::ONCE,
];

/// Where keys are that no flag has.
const POOL_TABLES: [&str; 3] = ["pool", "quota", "autoscale"];
const POOL_HINT: &str =
    "docs/src/autoscaling.md lists every key of a pool, docs/src/autoscaling-drivers.md those of drivers";
const FLAG_HINT: &str = "`--help` lists every key: a flag --a-b is the key a_b";

/// Settings and what is odd about them.
#[derive(Debug)]
pub struct Merged<T> {
    pub settings: T,
    pub warnings: Vec<String>,
}

/// Merges the three layers. `flags` are (section, key, text); an empty text list leaves a key alone.
///
/// # Errors
/// An unreadable file, an unknown key, a value of the wrong kind: each with its place.
pub fn merge<T: DeserializeOwned>(
    file: Option<&Path>,
    keys: &[Key],
    flags: &[(&str, &str, Vec<String>)],
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Merged<T>, Failure> {
    let mut table = match file {
        Some(path) => read::<T>(path)?,
        None => Table::new(),
    };
    let mut environment: Vec<(String, String)> =
        environment.filter(|(name, _)| name.starts_with("MUSTER_")).collect();
    environment.sort();
    let mut warnings = Vec::new();
    // Inside a task the names that describe it (MUSTER_JOB_ID, MUSTER_WORKER …) are no configuration.
    let in_task = ["MUSTER_JOB_ID", "MUSTER_ATTEMPT", "MUSTER_FENCING_TOKEN"]
        .iter()
        .all(|name| environment.iter().any(|(known, _)| known == name));
    for (name, text) in &environment {
        match keys.iter().find(|key| key.variable() == *name) {
            Some(key) => {
                put(&mut table, key, value(key.kind, std::slice::from_ref(text)).map_err(|e| bad(name, &e))?)
            }
            None if in_task || OTHERS.contains(&name.as_str()) => {}
            None => warnings.push(unknown(name, keys)),
        }
    }
    for (section, name, texts) in flags.iter().filter(|(_, _, texts)| !texts.is_empty()) {
        let Some(key) = keys.iter().find(|key| key.section == *section && key.key == *name) else { continue };
        put(
            &mut table,
            key,
            value(key.kind, texts).map_err(|e| bad(&format!("--{}", name.replace('_', "-")), &e))?,
        );
    }
    let settings = Value::Table(table)
        .try_into::<T>()
        .map_err(|error| Failure::new("BAD_CONFIG", error.message().to_owned()))?;
    Ok(Merged { settings, warnings })
}

/// The file alone must be sound: its errors have lines.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Table, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::InvalidData {
            Failure::new("BAD_CONFIG", format!("{} is not UTF-8", path.display()))
        } else {
            Failure::io("read", path, &error)
        }
    })?;
    let place = |error: &toml::de::Error| {
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let above = || text.lines().take(line).filter_map(|line| line.trim().strip_prefix('['));
        let in_pool = |header: &str| {
            POOL_TABLES.iter().any(|table| header.trim_start_matches('[').trim().starts_with(table))
        };
        let hint = if above().last().is_some_and(in_pool) { POOL_HINT } else { FLAG_HINT };
        Failure::new("BAD_CONFIG", format!("{}:{line}: {}", path.display(), error.message())).hint(hint)
    };
    toml::from_str::<T>(&text).map_err(|error| place(&error))?;
    toml::from_str::<Table>(&text).map_err(|error| place(&error))
}

fn put(table: &mut Table, key: &Key, value: Value) {
    let section = table.entry(key.section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = section {
        section.insert(key.key.to_owned(), value);
    }
}

fn value(kind: Kind, texts: &[String]) -> Result<Value, String> {
    let last = texts.last().map_or("", String::as_str);
    let split =
        || texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty());
    Ok(match kind {
        Kind::Text => Value::String(last.to_owned()),
        Kind::Number => match (last.parse(), last.parse::<f64>()) {
            (Ok(whole), _) => Value::Integer(whole),
            (_, Ok(number)) if number.is_finite() => Value::Float(number),
            _ => return Err(format!("`{last}` is no number")),
        },
        Kind::Switch => Value::Boolean(match last {
            "true" | "1" => true,
            "false" | "0" | "" => false,
            _ => return Err(format!("`{last}` is neither true nor false")),
        }),
        Kind::List => Value::Array(split().map(|text| Value::String(text.to_owned())).collect()),
        Kind::Pairs => {
            let mut pairs = Table::new();
            for pair in split() {
                let (k, v) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not k=v"))?;
                pairs.insert(k.to_owned(), Value::String(v.to_owned()));
            }
            Value::Table(pairs)
        }
    })
}

fn bad(name: &str, why: &str) -> Failure {
    Failure::new("BAD_CONFIG", format!("{name}: {why}"))
}

fn unknown(name: &str, keys: &[Key]) -> String {
    let known: Vec<String> = keys.iter().map(Key::variable).collect();
    match muster_core::spec::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => {
            format!("the environment variable {name} is no setting of this daemon; did you mean {near}?")
        }
        None => format!("the environment variable {name} is no setting of this daemon"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        worker: Section,
    }
    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Section {
        name: String,
        cpus: Option<u32>,
        spot: bool,
        join: Vec<String>,
        labels: BTreeMap<String, String>,
    }
    const KEYS: [Key; 5] = [
        Key::new("worker", "name", Kind::Text),
        Key::new("worker", "cpus", Kind::Number),
        Key::new("worker", "spot", Kind::Switch),
        Key::new("worker", "join", Kind::List),
        Key::new("worker", "labels", Kind::Pairs),
    ];

    fn env(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn flags_win_over_environment_over_file() {
        let file = std::env::temp_dir().join(format!("muster-layers-{}.toml", std::process::id()));
        std::fs::write(&file, "[worker]\nname = \"file\"\ncpus = 1\nspot = true\n").unwrap();
        let flags = [
            ("worker", "name", vec!["flag".to_owned()]),
            ("worker", "labels", vec!["zone=eu1".to_owned(), "a=b".to_owned()]),
        ];
        let environment = env(&[
            ("MUSTER_WORKER_NAME", "env"),
            ("MUSTER_WORKER_CPUS", "2"),
            ("MUSTER_WORKER_JOIN", "a:1, b:2"),
        ]);
        let merged = merge::<Settings>(Some(&file), &KEYS, &flags, environment).unwrap();
        std::fs::remove_file(&file).unwrap();
        let labels = BTreeMap::from([("zone".into(), "eu1".into()), ("a".into(), "b".into())]);
        let worker = Section {
            name: "flag".into(),
            cpus: Some(2),
            spot: true,
            join: vec!["a:1".into(), "b:2".into()],
            labels,
        };
        assert_eq!(merged.settings, Settings { worker });
        assert_eq!(merged.warnings, Vec::<String>::new());
    }

    #[test]
    fn an_unknown_variable_warns_but_not_inside_a_task() {
        let warn = |pairs: &[(&str, &str)]| merge::<Settings>(None, &KEYS, &[], env(pairs)).unwrap().warnings;
        assert_eq!(
            warn(&[("MUSTER_WORKER_NAM", "x"), ("MUSTER_TOKEN", "t"), ("HOME", "/")]),
            [
                "the environment variable MUSTER_WORKER_NAM is no setting of this daemon; did you mean MUSTER_WORKER_NAME?"
            ]
        );
        let task = [
            ("MUSTER_JOB_ID", "1"),
            ("MUSTER_ATTEMPT", "1"),
            ("MUSTER_FENCING_TOKEN", "9"),
            ("MUSTER_WORKER", "w1"),
        ];
        assert!(warn(&task).is_empty());
    }

    #[test]
    fn bad_values_name_their_place() {
        let error =
            |pairs: &[(&str, &str)]| merge::<Settings>(None, &KEYS, &[], env(pairs)).unwrap_err().message;
        assert_eq!(error(&[("MUSTER_WORKER_CPUS", "many")]), "MUSTER_WORKER_CPUS: `many` is no number");
        let file = std::env::temp_dir().join(format!("muster-layers-bad-{}.toml", std::process::id()));
        std::fs::write(&file, "[worker]\nname = \"x\"\ncolour = \"red\"\n").unwrap();
        let failure = merge::<Settings>(Some(&file), &KEYS, &[], env(&[])).unwrap_err();
        std::fs::remove_file(&file).unwrap();
        assert!(failure.message.contains(":3: unknown field `colour`"), "{}", failure.message);
    }
}
