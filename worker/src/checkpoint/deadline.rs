//! `$MUSTER_DEADLINE_FILE`: when everything will be over, as a task reads it.

use crate::shim::clock::{boot_ms, wall_ms};
use std::io;
use std::path::Path;

/// Writes that at `deadline` (boot-time clock, ms) nothing of the task runs any more, as RFC 3339 in UTC with its line's end. A reader sees
/// the whole of it, or what was there before.
///
/// # Errors
/// As the file system says.
pub fn write(file: &Path, deadline: u64) -> io::Result<()> {
    let left = deadline.saturating_sub(boot_ms());
    let at = i64::try_from(wall_ms().saturating_add(left)).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(at).map_err(io::Error::other)?;
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, format!("{at:.3}\n"))?;
    std::fs::rename(&fresh, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_time_of_day_and_is_replaced_as_a_whole() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("deadline");
        let before = i64::try_from(wall_ms()).unwrap();
        write(&file, boot_ms() + 90_000).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let at: jiff::Timestamp = text.trim_end().parse().unwrap();
        let ms = at.as_millisecond() - before;
        assert!(text.ends_with("Z\n") && text.len() == "2026-01-01T00:00:00.000Z\n".len(), "{text}");
        assert!((89_000..200_000).contains(&ms), "{ms}");
        // One that has passed is now.
        write(&file, 0).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.trim_end().parse::<jiff::Timestamp>().unwrap() < at);
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 1);
    }
}
