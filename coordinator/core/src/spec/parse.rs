//! Bytes → `JobFile`: the one way in for the command line and for members. Fast when the file is right (straight into the structs);
//! when it is not, read again as a tree to name every fault with its line.

use super::diagnose;
use super::error::{SpecCode, SpecError, SpecErrors};
use super::file::JobFile;
use super::limits;
use super::tree;

/// The language of a job file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// TOML 1.
    Toml,
    /// JSON: what programs send each other.
    #[default]
    Json,
}

impl Format {
    /// The format that a file's name promises: `.yaml`, `.yml`, `.toml`, `.json`.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let ending = path.rsplit_once('.')?.1.to_ascii_lowercase();
        match ending.as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// The format of a text without a name (stdin): JSON if it begins like it, else YAML.
    #[must_use]
    pub fn guess(bytes: &[u8]) -> Self {
        match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b'{') => Self::Json,
            _ => Self::Yaml,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Yaml => "YAML",
            Self::Toml => "TOML",
            Self::Json => "JSON",
        }
    }
}

/// Reads the shape of a job file. A job without a name gets that of the file. Nothing is checked yet that needs more than one field.
///
/// # Errors
/// All faults of the shape, with lines: not UTF-8, over 64 MiB, no YAML/TOML/JSON, unknown keys, wrong types.
pub fn parse(bytes: &[u8], format: Format, file: &str) -> Result<JobFile, SpecErrors> {
    let text = text(bytes, file)?;
    let parsed = match format {
        Format::Yaml => serde_saphyr::from_str_with_options::<JobFile>(text, yaml_options(text.len()))
            .map_err(|e| {
                let error = e.without_snippet();
                (error.to_string(), error.location().map(|l| (l.line(), l.column())))
            }),
        // serde would take a list for the struct, field by field.
        Format::Json if !text.trim_start().starts_with('{') => {
            Err(("expected a table in braces".to_owned(), None))
        }
        Format::Json => serde_json::from_str::<JobFile>(text)
            .map_err(|e| (strip_json_place(&e.to_string()), Some((e.line() as u64, e.column() as u64)))),
        Format::Toml => toml::from_str::<JobFile>(text).map_err(|e| {
            (e.message().to_owned(), e.span().map(|s| (u64::from(tree::Lines::of(text).at(s.start)), 0)))
        }),
    };
    match parsed {
        Ok(mut job) => {
            if job.name.is_none() {
                job.name = Some(name_of_file(file));
            }
            job.params.values_mut().for_each(toml_dates_to_text);
            Ok(job)
        }
        Err((message, place)) => Err(faults(text, format, &message, place).in_file(file)),
    }
}

/// The text of a file.
///
/// # Errors
/// Over 64 MiB, or not UTF-8.
pub(super) fn text<'a>(bytes: &'a [u8], file: &str) -> Result<&'a str, SpecErrors> {
    if bytes.len() > limits::FILE_BYTES {
        let message = format!(
            "the file has {} bytes; a job file has at most {} (64 MiB)",
            bytes.len(),
            limits::FILE_BYTES
        );
        let error = SpecError::new(SpecCode::TooLarge, message)
            .hint("write many alike tasks as one task with an `array`");
        return Err(SpecErrors::from(error).in_file(file));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let good = &bytes[..e.valid_up_to()];
        let line = 1 + good.iter().filter(|b| **b == b'\n').count();
        let message = format!(
            "the file is not UTF-8: byte {} is 0x{:02x}",
            good.len(),
            bytes.get(good.len()).copied().unwrap_or(0)
        );
        let error =
            SpecError { line: u32::try_from(line).ok(), ..SpecError::new(SpecCode::NotUtf8, message) };
        SpecErrors::from(error.hint("save the file as UTF-8")).in_file(file)
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Options of the YAML reader for a text of `len` bytes: its budget grows with the file, so that 100,000 tasks pass, and aliases
/// may not grow it (a YAML bomb ends after 10,000 replayed events).
pub(super) fn yaml_options(len: usize) -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 1_000 + len * 2,
            max_nodes: 1_000 + len * 2,
            max_documents: 1,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
            // The readers recurse: 32 levels fit the 2 MiB stack of a thread even without optimisation.
            max_depth: 32,
            flow_nesting_limit: 32,
            alias_anchor_min_aliases: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
            max_alias_expansions_per_anchor: 1_000,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    }
}

/// All faults of a text that was refused with `message` at `place` (line, column).
fn faults(text: &str, format: Format, message: &str, place: Option<(u64, u64)>) -> SpecErrors {
    let found = tree::read(text, format).map(|root| diagnose::faults(&root)).unwrap_or_default();
    if !found.is_empty() {
        return SpecErrors(found);
    }
    let number = |n: u64| u32::try_from(n).ok().filter(|n| *n > 0);
    let (message, code) = match tree::read(text, format) {
        Some(_) => (message.to_owned(), SpecCode::InvalidValue),
        None => (format!("no valid {}: {message}", format.name()), SpecCode::Syntax),
    };
    let code = if message.contains("duplicate") { SpecCode::Duplicate } else { code };
    SpecErrors::from(SpecError {
        line: place.and_then(|p| number(p.0)),
        column: place.and_then(|p| number(p.1)),
        ..SpecError::new(code, message)
    })
}

/// `serde_json` appends its place to the message; the fault carries it as fields.
fn strip_json_place(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(m, _)| m).to_owned()
}

/// `jobs/My Job.yaml` → `my-job`.
pub(super) fn name_of_file(file: &str) -> String {
    let base = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let stem = base.split_once('.').map_or(base, |(stem, _)| stem);
    let mut name = String::new();
    for c in stem.chars().take(limits::JOB_NAME) {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches('-');
    if name.is_empty() { "job".to_owned() } else { name.to_owned() }
}

/// A TOML date arrives as a table of the library's own; as a parameter it is its text.
fn toml_dates_to_text(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            if let (1, Some(serde_json::Value::String(date))) =
                (map.len(), map.get("$__toml_private_datetime"))
            {
                *value = serde_json::Value::String(date.clone());
            } else {
                map.values_mut().for_each(toml_dates_to_text);
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(toml_dates_to_text),
        _ => {}
    }
}
