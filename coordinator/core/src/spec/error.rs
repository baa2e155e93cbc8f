//! What is wrong with a job file: a stable code, what and why, the next step, and where. Collected, so that one run of
//! `muster validate` names everything.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a fault, stable for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SpecCode {
    /// The bytes are not UTF-8.
    NotUtf8,
    /// The file or a part of it is over a limit.
    TooLarge,
    /// The text is no YAML, TOML or JSON.
    Syntax,
    /// A key that no version knows here.
    UnknownField,
    /// A field that must be there is not.
    MissingField,
    /// A value of the wrong type or outside its range.
    InvalidValue,
    /// A name with characters that are not allowed, or too long.
    InvalidName,
    /// A field whose feature this version does not run.
    Unsupported,
    /// A task that does not exist is named.
    UnknownTask,
    /// An output that does not exist is named.
    UnknownOutput,
    /// A parameter that does not exist is named, or one has no value.
    UnknownParam,
    /// Something is there twice.
    Duplicate,
    /// Tasks wait for each other in a circle.
    Cycle,
    /// A `{{ … }}` that does not compile or names something unknown.
    InvalidTemplate,
    /// A CEL expression that does not compile or names something unknown.
    InvalidExpression,
    /// An array that is no array.
    InvalidArray,
    /// A `#MUSTER` or `#SBATCH` line that can't be read.
    InvalidDirective,
}

impl SpecCode {
    /// The code as programs see it, such as `UNKNOWN_FIELD`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "NOT_UTF8",
            Self::TooLarge => "TOO_LARGE",
            Self::Syntax => "SYNTAX",
            Self::UnknownField => "UNKNOWN_FIELD",
            Self::MissingField => "MISSING_FIELD",
            Self::InvalidValue => "INVALID_VALUE",
            Self::InvalidName => "INVALID_NAME",
            Self::Unsupported => "UNSUPPORTED",
            Self::UnknownTask => "UNKNOWN_TASK",
            Self::UnknownOutput => "UNKNOWN_OUTPUT",
            Self::UnknownParam => "UNKNOWN_PARAM",
            Self::Duplicate => "DUPLICATE",
            Self::Cycle => "CYCLE",
            Self::InvalidTemplate => "INVALID_TEMPLATE",
            Self::InvalidExpression => "INVALID_EXPRESSION",
            Self::InvalidArray => "INVALID_ARRAY",
            Self::InvalidDirective => "INVALID_DIRECTIVE",
        }
    }
}

/// One fault. `Display` gives `job.yaml:12: tasks.train.cpus: …` without the hint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecError {
    /// The kind.
    pub code: SpecCode,
    /// What is wrong, and why.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    /// The file, as the caller named it.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
    /// Path of the field, such as `tasks.train.needs[0]`.
    pub field: Option<String>,
}

impl SpecError {
    /// A fault of the whole file.
    #[must_use]
    pub fn new(code: SpecCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, file: None, line: None, column: None, field: None }
    }

    /// A fault of the field at `path`.
    #[must_use]
    pub fn at(code: SpecCode, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(path.into()), ..Self::new(code, message) }
    }

    /// The same with a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with the hint `did you mean …`, if `known` has a name near `name`.
    #[must_use]
    pub fn nearest<'a>(mut self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        if let Some(near) = nearest(name, known) {
            self.hint = Some(format!("did you mean \"{near}\"?"));
        }
        self
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        } else if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for SpecError {}

/// All faults that were found; never empty. `Display` prints each with its hint, as the command line does after `error: `.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecErrors(pub Vec<SpecError>);

impl SpecErrors {
    /// The first fault.
    ///
    /// # Panics
    /// If built empty, which nothing here does.
    #[must_use]
    pub fn first(&self) -> &SpecError {
        &self.0[0]
    }

    /// Names the file in every fault.
    #[must_use]
    pub fn in_file(mut self, file: &str) -> Self {
        for error in &mut self.0 {
            error.file = Some(file.to_owned());
        }
        self
    }
}

impl From<SpecError> for SpecErrors {
    fn from(error: SpecError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\nerror: ")?;
            }
            write!(f, "{error}")?;
            if let Some(hint) = &error.hint {
                write!(f, "\nhint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}

/// Something accepted that does less than it says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpecWarning {
    /// Path of the field.
    pub field: String,
    /// What is not done.
    pub message: String,
}

impl fmt::Display for SpecWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The known name nearest to `name`, if one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let limit = (name.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&name, &k.to_lowercase()), k))
        .filter(|&(distance, _)| distance <= limit)
        .min()
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["resources", "retry", "run", "needs"];
        assert_eq!(nearest("resuorces", known), Some("resources"));
        assert_eq!(nearest("Retry", known), Some("retry"));
        assert_eq!(nearest("need", known), Some("needs"));
        assert_eq!(nearest("command", known), None);
    }

    #[test]
    fn a_fault_says_where_what_and_what_next() {
        let error = SpecError::at(SpecCode::UnknownField, "tasks.a.rnu", "unknown field \"rnu\"")
            .nearest("rnu", ["run", "needs"]);
        let mut errors = SpecErrors::from(error).in_file("job.yaml");
        errors.0[0].line = Some(3);
        assert_eq!(
            errors.to_string(),
            "job.yaml:3: tasks.a.rnu: unknown field \"rnu\"\nhint: did you mean \"run\"?"
        );
    }

    #[test]
    fn codes_are_the_same_in_json_and_in_text() {
        for code in [SpecCode::NotUtf8, SpecCode::UnknownField, SpecCode::InvalidTemplate, SpecCode::TooLarge]
        {
            assert_eq!(serde_json::to_value(code).expect("json"), code.as_str());
        }
    }
}
