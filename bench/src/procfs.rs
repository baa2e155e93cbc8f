//! What the kernel counted for processes: CPU with that of waited children, resident memory, bytes written.

use anyhow::{Context, Result, anyhow};
use std::fs;
use std::io;

/// Milliseconds of CPU of a process and of its children that were waited for; none when it is gone.
///
/// # Errors
/// A line that is not as proc(5) says.
pub fn cpu_ms(pid: u32) -> Result<Option<f64>> {
    let text = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound)
                || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let ticks = ticks(&text).ok_or_else(|| anyhow!("/proc/{pid}/stat is not readable"))?;
    // SAFETY: sysconf only reads.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(Some(ticks as f64 * 1000.0 / per_second as f64))
}

/// utime + stime + cutime + cstime: fields 14 to 17. The name in field 2 may hold spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    (0..4).try_fold(0, |sum, _| Some(sum + fields.next()?.parse::<u64>().ok()?))
}

/// Resident bytes.
///
/// # Errors
/// The process is gone.
pub fn rss(pid: u32) -> Result<u64> {
    let kib = field(pid, "status", "VmRSS:")?;
    Ok(kib * 1024)
}

/// Bytes that the process made dirty in files, whatever the kernel merged later.
///
/// # Errors
/// The process is gone.
pub fn written(pid: u32) -> Result<u64> {
    field(pid, "io", "write_bytes:")
}

fn field(pid: u32, file: &str, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| anyhow!("{path} has no {name}"))
}

/// Processes whose environment holds `NAME=value`, exactly.
#[must_use]
pub fn marked(mark: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_move_the_fields() {
        let stat = "12 (a) (b c) S 1 12 12 0 -1 4194560 100 200 0 0 7 8 9 10 20 0 1 0 100 1000 50";
        assert_eq!(ticks(stat), Some(34));
        assert_eq!(ticks("12"), None);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(rss(pid).is_ok_and(|bytes| bytes > 0));
        assert!(cpu_ms(pid).is_ok_and(|ms| ms.is_some()));
        assert!(written(pid).is_ok());
    }
}
