//! Reads job files and scripts: which format, how large, UTF-8, and what is in them, by the coordinator's own code.

use crate::failure::Failure;
use crate::output;
use clap::ValueEnum;
use muster_core::model::job_spec::JobSpec;
use muster_core::spec::{self, Format, SpecWarning};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of one job file (SPEC section 3).
const FILE_BYTES_MAX: u64 = 64 << 20;

/// How a job is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    Yaml,
    Toml,
    Json,
    /// A program with #MUSTER lines.
    Script,
}

/// What `submit` and `validate` take.
#[derive(Debug, clap::Args)]
pub struct InputArgs {
    /// Override a parameter of the job file.
    #[arg(long = "param", short, value_name = "K=V")]
    params: Vec<String>,
    /// How the file is written; by its name or its first bytes when unsaid.
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<InputFormat>,
    /// Read #SBATCH lines of scripts too; what is ignored is listed.
    #[arg(long, value_name = "SYSTEM", value_parser = ["slurm"])]
    compat: Option<String>,
}

/// A checked job, ready to be sent.
#[derive(Debug)]
pub struct Loaded {
    /// As named on the command line.
    pub source: String,
    /// JSON text of the public schema, params set.
    pub json: String,
    pub spec: JobSpec,
    pub warnings: Vec<SpecWarning>,
    /// Directives of other systems that mean nothing here.
    pub ignored: Vec<String>,
    /// The directory to ship.
    pub workdir: Option<PathBuf>,
    pub ignore: Vec<String>,
}

impl Loaded {
    /// Says on stderr what is odd but no error.
    pub fn say_warnings(&self) {
        for warning in &self.warnings {
            output::talk(&format!("warning: {}: {}", warning.field, warning.message));
        }
        for line in &self.ignored {
            output::talk(&format!("warning: ignored: {line}"));
        }
    }
}

/// Reads and checks one file, or stdin for `-`.
///
/// # Errors
/// A directory, an absent, too large, non-UTF-8 or invalid file, each with what to do.
pub fn load(source: &str, args: &InputArgs) -> Result<Loaded, Failure> {
    let bytes = read(source)?;
    if let Err(error) = std::str::from_utf8(&bytes) {
        let line = bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        return Err(Failure::new(
            "NOT_UTF8",
            format!("{source}:{line}: byte {} is not UTF-8", error.valid_up_to()),
        )
        .hint("save the job file as UTF-8"));
    }
    let format = args.format.map_or_else(|| format_of(source, &bytes), Ok)?;
    let (job, checked, ignored) = match format {
        InputFormat::Script => {
            let script = spec::script::parse_script(
                &bytes,
                source,
                args.compat.is_some(),
                &spec::RunOptions::default(),
            )?;
            let mut job = script.job;
            job.set_params(&args.params)?;
            let checked = spec::check(&job, None)?;
            (job, checked, script.ignored)
        }
        InputFormat::Yaml => with(&bytes, Format::Yaml, source, args)?,
        InputFormat::Toml => with(&bytes, Format::Toml, source, args)?,
        InputFormat::Json => with(&bytes, Format::Json, source, args)?,
    };
    let base =
        if source == "-" { Path::new(".") } else { Path::new(source).parent().unwrap_or(Path::new(".")) };
    Ok(Loaded {
        source: source.to_owned(),
        workdir: job.workdir_path().map(|dir| base.join(dir)),
        ignore: job.ignore_globs(),
        json: job.to_json(),
        spec: checked.spec,
        warnings: checked.warnings,
        ignored,
    })
}

fn with(
    bytes: &[u8],
    format: Format,
    source: &str,
    args: &InputArgs,
) -> Result<(spec::JobFile, spec::Checked, Vec<String>), Failure> {
    let (job, checked) = spec::load(bytes, format, source, &args.params)?;
    Ok((job, checked, Vec::new()))
}

fn read(source: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    if source == "-" {
        std::io::stdin()
            .lock()
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::new("IO", format!("cannot read stdin: {error}")))?;
    } else {
        let path = Path::new(source);
        let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::new("NO_FILE", format!("there is no file {source}"))
                .hint("give the path of a job file, or - for stdin"),
            _ => Failure::io("read", path, &error),
        })?;
        if meta.is_dir() {
            return Err(Failure::new("IS_DIRECTORY", format!("{source} is a directory, not a job file"))
                .hint(format!("for example {}/job.yaml", source.trim_end_matches('/'))));
        }
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| Failure::io("read", path, &error))?;
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::new(
            "FILE_TOO_LARGE",
            format!("{source} is larger than 64 MiB, the most that one job file may have"),
        )
        .hint("write many alike as an array, and data as files of the workdir"));
    }
    Ok(bytes)
}

fn format_of(source: &str, bytes: &[u8]) -> Result<InputFormat, Failure> {
    let by_name = if source == "-" { None } else { Format::of_path(source) };
    match by_name {
        Some(Format::Yaml) => return Ok(InputFormat::Yaml),
        Some(Format::Toml) => return Ok(InputFormat::Toml),
        Some(Format::Json) => return Ok(InputFormat::Json),
        None if spec::is_script(bytes) => return Ok(InputFormat::Script),
        None => {}
    }
    if source != "-" {
        return Err(Failure::new("UNKNOWN_FORMAT", format!("{source} is neither a job file nor a script"))
            .hint("name it .yaml, .toml or .json, begin a script with #!, or say --format"));
    }
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    Ok(match text.trim_start().chars().next() {
        Some('{') => InputFormat::Json,
        Some(_) if toml::from_str::<toml::Table>(text).is_ok() => InputFormat::Toml,
        _ => InputFormat::Yaml,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_known_by_name_or_first_bytes() {
        for (source, bytes, format) in [
            ("a.yml", "", InputFormat::Yaml),
            ("a.toml", "", InputFormat::Toml),
            ("a.json", "", InputFormat::Json),
            ("a.sh", "#!/bin/sh\n", InputFormat::Script),
            ("-", "#!/bin/sh\n", InputFormat::Script),
            ("-", " {\"name\": \"x\"}", InputFormat::Json),
            ("-", "name = \"x\"\n", InputFormat::Toml),
            ("-", "name: x\n", InputFormat::Yaml),
        ] {
            assert_eq!(format_of(source, bytes.as_bytes()), Ok(format), "{source} {bytes}");
        }
        assert_eq!(format_of("a.txt", b"name: x").unwrap_err().code, "UNKNOWN_FORMAT");
    }
}
