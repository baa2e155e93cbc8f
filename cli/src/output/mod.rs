//! stdout is data, stderr is talk. Tables for people, documents for programs.

pub mod money;
pub mod progress;
pub mod table;
pub mod time;

use crate::failure::{Failure, REFUSED};
use clap::ValueEnum;
use std::ffi::OsString;
use std::io::Write;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// The document, for programs.
    Json,
}

/// `--output`, for every verb that prints data.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct OutputArgs {
    /// How to print data.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

impl OutputArgs {
    #[must_use]
    pub fn is_json(self) -> bool {
        self.output == Format::Json
    }
}

/// Whether errors are wanted as documents: `--output json` (or `-o json`) before any `--`. Asked of the raw arguments, so that it holds
/// for wrong usage too.
#[must_use]
pub fn json_wanted(raw: &[OsString]) -> bool {
    let args: Vec<&str> =
        raw.iter().map_while(|a| if a == "--" { None } else { Some(a.to_str().unwrap_or("")) }).collect();
    args.iter().any(|a| matches!(*a, "--output=json" | "-ojson" | "-o=json"))
        || args.windows(2).any(|pair| matches!(pair[0], "--output" | "-o") && pair[1] == "json")
}

/// Writes bytes to stdout at once.
///
/// # Errors
/// A reader that went away ends the verb silently with success; a full disk is said.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| stdout_failure(&error))
}

/// Writes one line or block of data to stdout.
///
/// # Errors
/// As [`bytes`].
pub fn data(text: &str) -> Result<(), Failure> {
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    bytes(format!("{text}{newline}").as_bytes())
}

/// Writes a document to stdout, indented.
///
/// # Errors
/// As [`bytes`].
pub fn document(json: &str) -> Result<(), Failure> {
    data(&pretty(json))
}

/// Says one line to people, on stderr. Nobody listening is no failure.
pub fn talk(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn stdout_failure(error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::silent(0),
        _ => Failure::new("IO", format!("cannot write to stdout: {error}")).exit(REFUSED),
    }
}

/// JSON text indented by two spaces, fields in their order, unknown ones too: the document as it was received.
#[must_use]
pub fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    let mut chars = json.chars().filter(|c| *c != '\0').peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_text = true;
                out.push(c);
            }
            '{' | '[' => {
                while chars.peek().is_some_and(|c| c.is_ascii_whitespace()) {
                    chars.next();
                }
                out.push(c);
                if chars.peek().is_some_and(|next| matches!(next, '}' | ']')) {
                    out.extend(chars.next());
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_its_order_and_its_unknown_fields() {
        let json = r#"{"z": [1,{"b\":{":"x, y:[\\"}], "a": {}, "l":[ ],"n":null}"#;
        let shown = pretty(json);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            serde_json::from_str::<serde_json::Value>(json).unwrap()
        );
        assert_eq!(shown.lines().next(), Some("{"));
        assert!(shown.find("\"z\"") < shown.find("\"a\""), "{shown}");
        assert!(shown.contains("\"a\": {}") && shown.contains("\"l\": []"), "{shown}");
    }

    #[test]
    fn programs_are_known_by_their_arguments() {
        let wanted = |line: &str| json_wanted(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(
            wanted("muster ps --output json")
                && wanted("muster ps --output=json")
                && wanted("muster ps -o json")
        );
        assert!(!wanted("muster ps --output table") && !wanted("muster run -- x --output json"));
    }
}
