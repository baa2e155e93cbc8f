//! What a point does, and how that is written.

use crate::Point;
use std::time::Duration;

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process dies as by SIGKILL.
    Abort,
    /// The step fails, with this error number; 0 is none of the kernel's.
    Error(i32),
    /// The step waits.
    Sleep(Duration),
    /// So many bytes are written, then the process dies.
    Torn(usize),
}

/// One armed point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub point: Point,
    pub action: Action,
    /// How often; without it, always.
    pub count: Option<u32>,
    /// How many hits pass first.
    pub skip: u32,
}

/// Why a specification is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("`{0}` is no failpoint")]
    UnknownPoint(String),
    #[error("`{0}` is no action of a failpoint: write NAME=ACTION[*COUNT][@SKIP]")]
    BadRule(String),
}

/// Reads `NAME=ACTION[*COUNT][@SKIP];…`.
///
/// # Errors
/// The first part that is none.
pub fn parse(spec: &str) -> Result<Vec<Rule>, SpecError> {
    spec.split(';').map(str::trim).filter(|part| !part.is_empty()).map(rule).collect()
}

fn rule(text: &str) -> Result<Rule, SpecError> {
    let bad = || SpecError::BadRule(text.to_owned());
    let (name, rest) = text.split_once('=').ok_or_else(bad)?;
    let point = Point::find(name.trim()).ok_or_else(|| SpecError::UnknownPoint(name.trim().to_owned()))?;
    let (rest, skip) = match rest.split_once('@') {
        Some((rest, skip)) => (rest, skip.trim().parse().map_err(|_| bad())?),
        None => (rest, 0),
    };
    let (rest, count) = match rest.split_once('*') {
        Some((rest, count)) => (rest, Some(count.trim().parse().map_err(|_| bad())?)),
        None => (rest, None),
    };
    Ok(Rule { point, action: action(rest.trim()).ok_or_else(bad)?, count, skip })
}

fn action(text: &str) -> Option<Action> {
    let (verb, argument) = match text.split_once('(') {
        Some((verb, rest)) => (verb, Some(rest.strip_suffix(')')?)),
        None => (text, None),
    };
    match (verb, argument) {
        ("abort", None) => Some(Action::Abort),
        ("error", None) => Some(Action::Error(0)),
        ("error", Some("eio")) => Some(Action::Error(libc::EIO)),
        ("error", Some("enospc")) => Some(Action::Error(libc::ENOSPC)),
        ("sleep", Some(ms)) => ms.parse().ok().map(|ms| Action::Sleep(Duration::from_millis(ms))),
        ("torn", Some(bytes)) => bytes.parse().ok().map(Action::Torn),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_nonsense_is_named() {
        let rules = parse("log.write.before=abort; promised.write=torn(7)*1@3;apply.before=sleep(20)")
            .expect("parse");
        assert_eq!(rules.len(), 3);
        assert_eq!(
            rules[1],
            Rule { point: Point::PromisedWrite, action: Action::Torn(7), count: Some(1), skip: 3 }
        );
        assert_eq!(rules[2].action, Action::Sleep(Duration::from_millis(20)));
        assert_eq!(parse("no.such=abort"), Err(SpecError::UnknownPoint("no.such".into())));
        for bad in [
            "apply.before",
            "apply.before=die",
            "apply.before=torn",
            "apply.before=abort*x",
            "apply.before=abort@",
        ] {
            assert_eq!(parse(bad), Err(SpecError::BadRule(bad.into())), "{bad}");
        }
    }
}
