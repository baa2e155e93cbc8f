//! `array:` → `ArraySpec`: ranges, lists and matrices. A million indices are one range here and everywhere.

use super::array_file::{ArrayFile, AxisFile, MatrixFile};
use super::error::{SpecCode, SpecError};
use super::limits;
use super::params::is_identifier;
use crate::model::job_spec::{ArraySpec, Axis, IndexRange, Indices, JsonText};
use serde_json::Value;
use std::collections::BTreeMap;

/// What an array is.
///
/// # Errors
/// One fault at `path`: not readable, empty, overlapping, or over the limit.
pub(super) fn resolve(
    file: &ArrayFile,
    params: &BTreeMap<String, Value>,
    path: &str,
) -> Result<ArraySpec, SpecError> {
    let fault = |message: String| SpecError::at(SpecCode::InvalidArray, path, message);
    let (indices, max_running) = match file {
        ArrayFile::Range(text) => {
            let (ranges, max_running) = ranges(text).map_err(fault)?;
            (Indices::Ranges(ordered(ranges).map_err(fault)?), max_running)
        }
        ArrayFile::List(list) => {
            let ranges = list.iter().map(|&first| IndexRange { first, count: 1, step: 1 }).collect();
            (Indices::Ranges(ordered(ranges).map_err(fault)?), None)
        }
        ArrayFile::Matrix(matrix) => (Indices::Matrix(axes(matrix, params, path)?), matrix.max_running),
    };
    if max_running == Some(0) {
        return Err(fault("max_running is 0: nothing would ever run".into()));
    }
    let count = match &indices {
        Indices::Ranges(ranges) => ranges.iter().map(|r| u64::from(r.count)).sum(),
        Indices::Matrix(axes) => axes.iter().fold(1_u64, |n, a| n.saturating_mul(a.values.len() as u64)),
    };
    if count > limits::INDICES {
        let message = format!("the array has {count} indices; a job has at most {}", limits::INDICES);
        return Err(
            SpecError::at(SpecCode::TooLarge, path, message).hint("let each index do more, or split the job")
        );
    }
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    if count == 0 {
        return Err(fault("the array has no index".into()));
    }
    Ok(ArraySpec { count, indices, max_running })
}

const HINT: &str =
    "write a range such as 0-99, 0-99:2 (every second), 1,5,9-12, with %10 at the end for at most 10 at once";

/// Reads `0-99%10`, `0-99:2`, `1,5,9-12`.
fn ranges(text: &str) -> Result<(Vec<IndexRange>, Option<u32>), String> {
    let refused = |part: &str| format!("\"{part}\" is no range of indices: {HINT}");
    let (list, limit) = match text.split_once('%') {
        Some((list, limit)) => (list, Some(limit.trim().parse::<u32>().map_err(|_| refused(text))?)),
        None => (text, None),
    };
    let mut ranges = Vec::new();
    for part in list.split(',').map(str::trim) {
        let (bounds, step) = part.split_once(':').unwrap_or((part, "1"));
        let number = |s: &str| s.trim().parse::<u32>().map_err(|_| refused(part));
        let step = number(step)?;
        let (first, last) = match bounds.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => {
                let first = number(bounds)?;
                (first, first)
            }
        };
        if step == 0 {
            return Err(format!("\"{part}\" has step 0: the step is at least 1"));
        }
        if last < first {
            return Err(format!("\"{part}\" ends before it begins: write {last}-{first}"));
        }
        let count = (last - first) / step;
        // u32::MAX indices and more are over the limit of indices by far; saturating keeps the sum right.
        ranges.push(IndexRange { first, count: count.saturating_add(1), step });
    }
    Ok((ranges, limit))
}

/// The ranges in ascending order, neighbours joined.
fn ordered(mut ranges: Vec<IndexRange>) -> Result<Vec<IndexRange>, String> {
    ranges.sort_by_key(|r| r.first);
    let mut joined: Vec<IndexRange> = Vec::new();
    for range in ranges {
        if let Some(last) = joined.last_mut() {
            let end = u64::from(last.first) + u64::from(last.count - 1) * u64::from(last.step);
            if u64::from(range.first) <= end {
                return Err(format!(
                    "index {} is there twice, or two ranges run into each other",
                    range.first
                ));
            }
            let gap = u64::from(range.first) - end;
            let single = |r: &IndexRange| r.count == 1;
            if single(last) && single(&range) && gap <= u64::from(u32::MAX) {
                *last = IndexRange { first: last.first, count: 2, step: u32::try_from(gap).unwrap_or(1) };
                continue;
            }
            if gap == u64::from(last.step) && (single(&range) || range.step == last.step) {
                last.count += range.count;
                continue;
            }
        }
        joined.push(range);
    }
    Ok(joined)
}

fn axes(matrix: &MatrixFile, params: &BTreeMap<String, Value>, path: &str) -> Result<Vec<Axis>, SpecError> {
    let mut axes = Vec::new();
    for (name, values) in matrix.matrix.iter() {
        let path = format!("{path}.matrix.{name}");
        if !is_identifier(name) {
            let message = format!(
                "axis \"{name}\" is no name that templates can use: letters, digits and _, not beginning with a digit"
            );
            return Err(SpecError::at(SpecCode::InvalidName, path, message));
        }
        let values: Vec<Value> = match values {
            AxisFile::Values(values) => values.clone(),
            AxisFile::Template(text) => from_param(text, params, &path)?,
        };
        if values.is_empty() {
            return Err(SpecError::at(SpecCode::InvalidArray, path, format!("axis \"{name}\" has no value")));
        }
        if let Some(bad) = values.iter().find(|v| v.is_null() || v.is_array() || v.is_object()) {
            let message =
                format!("axis \"{name}\" has the value {bad}: an axis takes texts, numbers, true and false");
            return Err(SpecError::at(SpecCode::InvalidArray, path, message));
        }
        axes.push(Axis { name: name.clone(), values: values.iter().map(JsonText::of).collect() });
    }
    if axes.is_empty() {
        return Err(SpecError::at(SpecCode::InvalidArray, path, "the matrix has no axis"));
    }
    Ok(axes)
}

/// The list that `{{ params.NAME }}` names.
fn from_param(text: &str, params: &BTreeMap<String, Value>, path: &str) -> Result<Vec<Value>, SpecError> {
    let name = text
        .trim()
        .strip_prefix("{{")
        .and_then(|t| t.strip_suffix("}}"))
        .and_then(|t| t.trim().strip_prefix("params."));
    let Some(name) = name.filter(|n| is_identifier(n)) else {
        let message = format!("\"{text}\" is neither a list of values nor one parameter");
        return Err(SpecError::at(SpecCode::InvalidArray, path, message)
            .hint("write a list, or \"{{ params.NAME }}\" where the parameter is a list"));
    };
    match params.get(name) {
        Some(Value::Array(values)) => Ok(values.clone()),
        Some(other) => {
            let message = format!("parameter \"{name}\" is {other}, not a list");
            Err(SpecError::at(SpecCode::InvalidArray, path, message)
                .hint(format!("pass --param {name}='[1, 2, 3]'")))
        }
        None => {
            let message = format!("the job has no parameter \"{name}\"");
            Err(SpecError::at(SpecCode::UnknownParam, path, message)
                .nearest(name, params.keys().map(String::as_str)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn range(text: &str) -> Result<(Vec<u32>, Option<u32>), String> {
        let array =
            resolve(&ArrayFile::Range(text.into()), &BTreeMap::new(), "array").map_err(|e| e.message)?;
        Ok(((0..array.count.min(20)).filter_map(|p| array.index(p)).collect(), array.max_running))
    }

    #[test]
    fn ranges_are_read() {
        for (text, indices, limit) in [
            ("0-4", vec![0, 1, 2, 3, 4], None),
            ("0-4%2", vec![0, 1, 2, 3, 4], Some(2)),
            ("0-9:3", vec![0, 3, 6, 9], None),
            ("7", vec![7], None),
            ("1,5,9-11", vec![1, 5, 9, 10, 11], None),
            ("9-10, 1", vec![1, 9, 10], None),
        ] {
            assert_eq!(range(text), Ok((indices, limit)), "{text}");
        }
    }

    #[test]
    fn what_is_no_range_says_why() {
        for (text, part) in [
            ("", "is no range of indices"),
            ("a-b", "is no range of indices"),
            ("5-1", "write 1-5"),
            ("0-9:0", "step 0"),
            ("0-9%0", "nothing would ever run"),
            ("0-9%", "is no range of indices"),
            ("1,1", "twice"),
            ("0-10,5", "twice"),
            ("-5", "is no range of indices"),
            ("0-1000000", "has 1000001 indices; a job has at most 1000000"),
            ("0-4294967295", "at most 1000000"),
        ] {
            let error = range(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_million_indices_are_one_range() {
        let array =
            resolve(&ArrayFile::Range("0-999999%50".into()), &BTreeMap::new(), "array").expect("array");
        assert_eq!((array.count, array.max_running), (1_000_000, Some(50)));
        assert_eq!(array.indices, Indices::Ranges(vec![IndexRange { first: 0, count: 1_000_000, step: 1 }]));
    }

    #[test]
    fn a_long_list_becomes_few_ranges() {
        let array = resolve(&ArrayFile::List((0..1_000).map(|i| i * 2).collect()), &BTreeMap::new(), "array")
            .expect("array");
        assert_eq!(array.indices, Indices::Ranges(vec![IndexRange { first: 0, count: 1_000, step: 2 }]));
    }

    #[test]
    fn an_axis_may_be_a_parameter() {
        let params = BTreeMap::from([("seeds".to_owned(), json!([1, 2, 3])), ("n".to_owned(), json!(4))]);
        let matrix = |text: &str| {
            let axes = vec![
                ("seed".to_owned(), AxisFile::Template(text.into())),
                ("lr".to_owned(), AxisFile::Values(vec![json!(0.1), json!("auto")])),
            ];
            let file = MatrixFile { matrix: crate::spec::Ordered(axes), max_running: None };
            resolve(&ArrayFile::Matrix(file), &params, "tasks.t.array")
        };
        let array = matrix("{{ params.seeds }}").expect("array");
        assert_eq!(array.count, 6);
        assert_eq!(array.value(3)["seed"].plain(), "2");
        assert_eq!(array.value(3)["lr"].plain(), "auto");
        assert_eq!(
            matrix("{{ params.seed }}").expect_err("unknown").hint.as_deref(),
            Some("did you mean \"seeds\"?")
        );
        assert!(matrix("{{ params.n }}").expect_err("no list").message.contains("is 4, not a list"));
        assert!(matrix("seeds").is_err());
    }
}
