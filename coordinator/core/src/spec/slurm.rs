//! `#SBATCH` options → our options. What has no meaning here is listed; what would change the run if left out is refused.

use super::error::{SpecCode, SpecError};
use super::options::RunOptions;
use super::script::words;
use crate::model::size::Size;

/// Short options and their long names.
const SHORT: [(&str, &str); 18] = [
    ("J", "job-name"),
    ("c", "cpus-per-task"),
    ("t", "time"),
    ("a", "array"),
    ("G", "gpus"),
    ("N", "nodes"),
    ("n", "ntasks"),
    ("p", "partition"),
    ("o", "output"),
    ("e", "error"),
    ("D", "chdir"),
    ("d", "dependency"),
    ("A", "account"),
    ("q", "qos"),
    ("C", "constraint"),
    ("w", "nodelist"),
    ("x", "exclude"),
    ("H", "hold"),
];

/// Options without a value.
const SWITCHES: [&str; 8] =
    ["exclusive", "requeue", "no-requeue", "hold", "contiguous", "overcommit", "oversubscribe", "parsable"];

/// Applies one line of `#SBATCH` options; `ignored` hears each option that is not followed.
pub(super) fn apply(
    options: &mut RunOptions,
    line: &str,
    ignored: &mut dyn FnMut(String),
) -> Result<(), SpecError> {
    let mut words = words(line)?.into_iter();
    let mut memory_per_cpu = None;
    while let Some(word) = words.next() {
        let (name, value) =
            split(&word).ok_or_else(|| fault(format!("\"{word}\" is no option of sbatch")))?;
        let value = match value {
            Some(value) => Some(value),
            None if SWITCHES.contains(&name.as_str()) => None,
            None => Some(words.next().ok_or_else(|| fault(format!("option \"{word}\" has no value")))?),
        };
        let text = value.as_deref().unwrap_or_default();
        match name.as_str() {
            "job-name" => options.name = Some(super::parse::name_of_file(text)),
            "cpus-per-task" => options.cpus = Some(text.to_owned()),
            "array" => options.array = Some(text.to_owned()),
            "mem" => options.memory = Some(memory(text)?),
            "mem-per-cpu" => memory_per_cpu = Some(memory(text)?),
            "time" => options.time = Some(time(text)?),
            "gpus" | "gpus-per-node" | "gpus-per-task" => options.gpus = Some(gpus(text)?),
            "gres" if text == "gpu" || text.starts_with("gpu:") => {
                options.gpus = Some(gpus(text.trim_start_matches("gpu").trim_start_matches(':'))?)
            }
            "nodes" if text != "1" => options.workers = Some(text.to_owned()),
            "nodes" => {}
            "ntasks" | "ntasks-per-node" if text == "1" => {}
            "dependency" => {
                let error =
                    fault("`--dependency` can't be followed: left out, the job would start too early".into());
                return Err(error.hint("write the jobs as tasks of one job file, joined by `needs`"));
            }
            _ => ignored(format!("--{name}")),
        }
    }
    if let Some(each) = memory_per_cpu {
        let cpus: u64 = options.cpus.as_deref().and_then(|c| c.parse().ok()).unwrap_or(1);
        let bytes = Size::parse(&each).map_err(|e| fault(e.to_string()))?.bytes();
        options.memory = Some(Size(bytes.saturating_mul(cpus)).to_string());
    }
    Ok(())
}

fn fault(message: String) -> SpecError {
    SpecError::new(SpecCode::InvalidDirective, message)
}

/// `--mem=8G`, `--mem`, `-c4`, `-c`: long name and value.
fn split(word: &str) -> Option<(String, Option<String>)> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v.to_owned())));
        return (!name.is_empty()).then(|| (name.to_owned(), value));
    }
    let rest = word.strip_prefix('-')?;
    let short = rest.get(..1)?;
    let long = SHORT.iter().find(|(s, _)| *s == short).map_or(short, |(_, long)| long);
    let value = rest[1..].trim_start_matches('=');
    Some((long.to_owned(), (!value.is_empty()).then(|| value.to_owned())))
}

/// Slurm's memory: a number of MiB, or with K, M, G, T (1024).
fn memory(text: &str) -> Result<String, SpecError> {
    let (number, unit) = text.find(|c: char| !c.is_ascii_digit()).map_or((text, "M"), |i| text.split_at(i));
    let unit = match unit.to_ascii_uppercase().trim_end_matches('B') {
        "K" => "KiB",
        "M" => "MiB",
        "G" => "GiB",
        "T" => "TiB",
        _ => return Err(fault(format!("\"{text}\" is no memory of Slurm: write 8G"))),
    };
    Ok(format!("{number}{unit}"))
}

/// Slurm's time: `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours[:minutes[:seconds]]`.
fn time(text: &str) -> Result<String, SpecError> {
    let refused =
        || fault(format!("\"{text}\" is no time of Slurm: write minutes, or hours:minutes:seconds"));
    let (days, rest) = text.split_once('-').map_or((None, text), |(d, r)| (Some(d), r));
    let number = |t: &str| t.parse::<u64>().ok().filter(|n| *n < 10_000_000).ok_or_else(refused);
    let parts: Vec<u64> = rest.split(':').map(number).collect::<Result<_, _>>()?;
    let (hours, minutes, seconds) = match (days.is_some(), parts.as_slice()) {
        (false, [m]) => (0, *m, 0),
        (false, [m, s]) => (0, *m, *s),
        (true, [h]) => (*h, 0, 0),
        (true, [h, m]) => (*h, *m, 0),
        (_, [h, m, s]) => (*h, *m, *s),
        _ => return Err(refused()),
    };
    let days = days.map_or(Ok(0), number)?;
    Ok(format!("{}s", ((days * 24 + hours) * 60 + minutes) * 60 + seconds))
}

/// Slurm's GPUs: `2`, `a100:2`, `a100`, or nothing for one.
fn gpus(text: &str) -> Result<String, SpecError> {
    let (model, count) = match text.rsplit_once(':') {
        Some((model, count)) => (Some(model), count),
        None if text.is_empty() => (None, "1"),
        None if text.chars().all(|c| c.is_ascii_digit()) => (None, text),
        None => (Some(text), "1"),
    };
    if count.is_empty() || !count.chars().all(|c| c.is_ascii_digit()) {
        return Err(fault(format!("\"{text}\" is no number of GPUs: write gpu:2 or gpu:a100:2")));
    }
    Ok(model.map_or_else(|| count.to_owned(), |model| format!("{count}x{model}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<(RunOptions, Vec<String>), String> {
        let (mut options, mut ignored) = (RunOptions::default(), Vec::new());
        apply(&mut options, line, &mut |what| ignored.push(what)).map_err(|e| e.message)?;
        Ok((options, ignored))
    }

    #[test]
    fn times_and_memories_of_slurm() {
        for (text, seconds) in [
            ("30", 1_800),
            ("30:10", 1_810),
            ("1:30:00", 5_400),
            ("2-12", 216_000),
            ("1-0:30", 88_200),
            ("1-1:1:1", 90_061),
        ] {
            assert_eq!(time(text), Ok(format!("{seconds}s")), "{text}");
        }
        assert!(time("soon").is_err() && time("").is_err() && time("1:2:3:4").is_err());
        for (text, size) in
            [("4000", "4000MiB"), ("8G", "8GiB"), ("8GB", "8GiB"), ("1T", "1TiB"), ("512k", "512KiB")]
        {
            assert_eq!(memory(text), Ok(size.to_owned()), "{text}");
        }
        for (text, gpus_text) in [("2", "2"), ("a100:2", "2xa100"), ("h100", "1xh100"), ("", "1")] {
            assert_eq!(gpus(text), Ok(gpus_text.to_owned()), "{text}");
        }
    }

    #[test]
    fn options_are_followed_listed_or_refused() {
        let (options, ignored) =
            read("--nodes=1 -n1 -c 4 --mem-per-cpu 2G --exclusive -p gpu --requeue").expect("line");
        assert_eq!(
            (options.cpus.as_deref(), options.memory.as_deref(), options.workers),
            (Some("4"), Some("8GiB"), None)
        );
        assert_eq!(ignored, ["--exclusive", "--partition", "--requeue"]);
        assert!(read("--dependency=afterok:12").expect_err("dependency").contains("can't be followed"));
        assert!(read("-c").expect_err("no value").contains("has no value"));
        assert!(read("-é").is_err() && read("-").is_err() && read("--").is_err() && read("x").is_err());
    }
}
