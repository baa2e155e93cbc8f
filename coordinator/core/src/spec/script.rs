//! A script that submits as it is: its `#MUSTER` lines are options, and with `--compat slurm` its `#SBATCH` lines too. The script
//! becomes the command, first line included; the worker runs a text that begins with `#!` as a file.

use super::error::{SpecCode, SpecError, SpecErrors};
use super::file::{CompatFile, JobFile};
use super::options::RunOptions;
use super::parse::{name_of_file, text};
use super::slurm;
use super::value::RunFile;

/// A script and what its directives say.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// The job; still to be checked.
    pub job: JobFile,
    /// Directives that were not followed, each with its line, for the user to see.
    pub ignored: Vec<String>,
}

/// Whether bytes are a script and no YAML, TOML or JSON: they begin with `#!`, or have a `#MUSTER` or `#SBATCH` line before the first
/// line that is no comment.
#[must_use]
pub fn is_script(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(1 << 16)];
    if head.starts_with(b"#!") {
        return true;
    }
    String::from_utf8_lossy(head)
        .lines()
        .take_while(|l| l.trim().is_empty() || l.starts_with('#'))
        .any(|l| directive(l).is_some())
}

/// Which directive a line is, and its text.
fn directive(line: &str) -> Option<(&'static str, &str)> {
    ["#MUSTER", "#SBATCH"].into_iter().find_map(|mark| {
        let rest = line.strip_prefix(mark)?;
        (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some((mark, rest))
    })
}

/// Reads a script. Options in `flags` (of the command line) go before its directives.
///
/// # Errors
/// Not UTF-8, too large, or directives that can't be read, each with its line.
pub fn parse_script(
    bytes: &[u8],
    file: &str,
    compat_slurm: bool,
    flags: &RunOptions,
) -> Result<Script, SpecErrors> {
    let text = text(bytes, file)?;
    let mut options = RunOptions::default();
    let (mut faults, mut ignored, mut unread) = (Vec::new(), Vec::new(), 0);
    let mut in_head = true;
    for (number, line) in (1_u32..).zip(text.lines()) {
        let blank = line.trim().is_empty();
        in_head &= blank || line.starts_with('#');
        let Some((mark, rest)) = directive(line) else { continue };
        if !in_head {
            ignored.push(format!("line {number}: `{}` comes after the first command", line.trim()));
            continue;
        }
        let result = match mark {
            "#MUSTER" => apply(&mut options, rest),
            _ if compat_slurm => slurm::apply(&mut options, rest, &mut |what| {
                ignored.push(format!("line {number}: #SBATCH {what}"))
            }),
            _ => {
                unread += 1;
                Ok(())
            }
        };
        if let Err(error) = result {
            faults.push(SpecError { line: Some(number), ..error });
        }
    }
    if unread > 0 {
        ignored.push(format!("{unread} #SBATCH lines: pass --compat slurm to read them"));
    }
    if !faults.is_empty() {
        return Err(SpecErrors(faults).in_file(file));
    }
    let mut job = over(flags, options).job(RunFile::Shell(text.to_owned())).map_err(|e| e.in_file(file))?;
    if job.name.is_none() {
        job.name = Some(name_of_file(file));
    }
    if compat_slurm {
        job.compat = Some(CompatFile::Slurm);
    }
    Ok(Script { job, ignored })
}

/// `flags` where they say something, else `script`; lists are joined, the flags' last.
fn over(flags: &RunOptions, script: RunOptions) -> RunOptions {
    let pick = |flag: &Option<String>, own: Option<String>| flag.clone().or(own);
    let join = |flag: &[String], own: Vec<String>| [own.as_slice(), flag].concat();
    RunOptions {
        name: pick(&flags.name, script.name),
        queue: pick(&flags.queue, script.queue),
        priority: pick(&flags.priority, script.priority),
        cpus: pick(&flags.cpus, script.cpus),
        memory: pick(&flags.memory, script.memory),
        disk: pick(&flags.disk, script.disk),
        gpus: pick(&flags.gpus, script.gpus),
        array: pick(&flags.array, script.array),
        workers: pick(&flags.workers, script.workers),
        time: pick(&flags.time, script.time),
        attempts: pick(&flags.attempts, script.attempts),
        container: pick(&flags.container, script.container),
        workdir: pick(&flags.workdir, script.workdir),
        spot: pick(&flags.spot, script.spot),
        compat: pick(&flags.compat, script.compat),
        env: join(&flags.env, script.env),
        label: join(&flags.label, script.label),
        constraint: join(&flags.constraint, script.constraint),
        ignore: join(&flags.ignore, script.ignore),
    }
}

fn apply(options: &mut RunOptions, text: &str) -> Result<(), SpecError> {
    let words = words(text)?;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix("--") else {
            let error = SpecError::new(SpecCode::InvalidDirective, format!("\"{word}\" is no option"));
            return Err(error.hint("write #MUSTER --gpus 1 --time 30m"));
        };
        if let Some((name, value)) = option.split_once('=') {
            options.set(name, value)?;
            continue;
        }
        // An unknown name is the better error than its missing value.
        RunOptions::default().set(option, "")?;
        let missing =
            || SpecError::new(SpecCode::InvalidDirective, format!("option \"--{option}\" has no value"));
        options.set(option, &words.next().ok_or_else(missing)?)?;
    }
    Ok(())
}

/// The words of a line, as a shell splits them: quotes keep spaces, ` #` begins a comment.
pub(super) fn words(line: &str) -> Result<Vec<String>, SpecError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(SpecError::new(
            SpecCode::InvalidDirective,
            format!("a quote is not closed in \"{}\"", line.trim()),
        ));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str, slurm: bool) -> Result<Script, SpecErrors> {
        parse_script(text.as_bytes(), "jobs/eval.sh", slurm, &RunOptions::default())
    }

    #[test]
    fn a_script_submits_as_it_is() {
        let text = "#!/bin/bash\n#MUSTER --name eval --gpus 1 --time=30m  # a comment\n#MUSTER --env 'A=b c'\n\npython eval.py\n#MUSTER --gpus 2\n";
        assert!(is_script(text.as_bytes()));
        let script = script(text, false).expect("script");
        let (name, task) = &script.job.tasks.0[0];
        assert_eq!((script.job.name.as_deref(), name.as_str()), (Some("eval"), "main"));
        assert_eq!(task.run, Some(RunFile::Shell(text.to_owned())));
        assert_eq!(task.env["A"], "b c");
        assert_eq!(task.timeout, Some(Millis(1_800_000)));
        assert_eq!(script.ignored, ["line 6: `#MUSTER --gpus 2` comes after the first command"]);
    }

    use crate::model::duration::Millis;

    #[test]
    fn flags_go_before_directives() {
        let flags =
            RunOptions { name: Some("other".into()), env: vec!["B=2".into()], ..RunOptions::default() };
        let script = parse_script(b"#!/bin/sh\n#MUSTER --name eval --env A=1\ntrue\n", "x.sh", false, &flags)
            .expect("script");
        assert_eq!(script.job.name.as_deref(), Some("other"));
        assert_eq!(script.job.tasks.0[0].1.env.len(), 2);
    }

    #[test]
    fn what_is_no_script() {
        for text in [
            "name: x\ntasks: {}\n",
            "# a comment\nname: x\n",
            "{\"tasks\": {}}",
            "",
            "name: x\n#MUSTER --gpus 1\n",
        ] {
            assert!(!is_script(text.as_bytes()), "{text}");
        }
        assert!(is_script(b"# a comment\n#SBATCH -n 1\nsrun x\n"));
    }

    #[test]
    fn wrong_directives_say_where() {
        for (line, part, hint) in [
            ("#MUSTER --gpu 1", "unknown option \"--gpu\"", Some("did you mean \"gpus\"?")),
            ("#MUSTER --gpus", "option \"--gpus\" has no value", None),
            ("#MUSTER gpus=1", "\"gpus=1\" is no option", Some("write #MUSTER --gpus 1 --time 30m")),
            ("#MUSTER --name 'x", "a quote is not closed", None),
        ] {
            let errors = script(&format!("#!/bin/sh\n{line}\ntrue\n"), false).expect_err(line);
            let error = errors.first();
            assert!(error.message.contains(part), "{line}: {error}");
            assert_eq!((error.line, error.hint.as_deref()), (Some(2), hint), "{line}");
        }
    }

    #[test]
    fn sbatch_lines_are_read_under_compat_and_listed_otherwise() {
        let text = "#!/bin/bash\n#SBATCH -J sim -c 4 --mem=8G -t 1:30:00\n#SBATCH --gres=gpu:a100:2 -a 0-9%3 --mail-user=x@y\nsrun ./sim\n";
        let read = script(text, true).expect("script");
        let checked = super::super::check(&read.job, None).expect("checked");
        let task = &checked.spec.tasks[0];
        let common = checked.spec.common(task);
        assert_eq!((checked.spec.name.as_str(), checked.spec.compat_slurm, task.count()), ("sim", true, 10));
        assert_eq!(
            (common.resources.cpu_milli, common.resources.memory, common.timeout_ms),
            (4_000, 8 << 30, Some(5_400_000))
        );
        let gpus = common.resources.gpus.as_ref().expect("gpus");
        assert_eq!((gpus.amount.devices(), gpus.model.as_slice()), (2, &["a100".to_owned()][..]));
        assert_eq!(read.ignored, ["line 3: #SBATCH --mail-user"]);
        assert_eq!(
            script(text, false).expect("script").ignored,
            ["2 #SBATCH lines: pass --compat slurm to read them"]
        );
    }
}
