//! Reading a stream that the shim wrote (see `shim::logs` for the files): one logical stream of bytes with offsets that never change,
//! so that a follower asks again where it stopped. Where the cap has removed something, the reader says how much.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::shim::logs::{head_bytes, segment_bytes, segment_path};

/// A piece of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Logical offset of the first byte.
    pub offset: u64,
    /// The bytes; empty when there is nothing there (yet).
    pub bytes: Vec<u8>,
    /// Bytes between the offset asked for and `offset` that the cap removed.
    pub skipped: u64,
}

impl Chunk {
    /// Where to go on.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// Reads up to `max` bytes from the logical `offset` of the log at `path`, which was written under `cap`. A stream that does not exist
/// is empty: a silent task has no file.
///
/// # Errors
/// As the file system says.
pub fn read(path: &Path, cap: u64, offset: u64, max: usize) -> io::Result<Chunk> {
    let name = path.to_string_lossy();
    let segments = segments(&name, cap)?;
    for segment in &segments {
        if offset >= segment.end() {
            continue;
        }
        let start = offset.max(segment.start);
        let want = usize::try_from(segment.end() - start).unwrap_or(usize::MAX).min(max);
        let mut bytes = vec![0; want];
        let file = match File::open(segment_path(&name, segment.number)) {
            Ok(file) => file,
            // Rotated away since it was listed: the next one is the first now.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        file.read_exact_at(&mut bytes, start - segment.start)?;
        return Ok(Chunk { offset: start, bytes, skipped: start - offset });
    }
    Ok(Chunk { offset, ..Chunk::default() })
}

/// The logical offset at which the last `bytes` of the stream begin.
///
/// # Errors
/// As the file system says.
pub fn tail(path: &Path, cap: u64, bytes: u64) -> io::Result<u64> {
    let end = segments(&path.to_string_lossy(), cap)?.last().map_or(0, Segment::end);
    Ok(end.saturating_sub(bytes))
}

struct Segment {
    number: u64,
    start: u64,
    length: u64,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// What is there, in order.
fn segments(path: &str, cap: u64) -> io::Result<Vec<Segment>> {
    let head = head_bytes(cap);
    let mut all = Vec::new();
    // The mark behind the head is no part of the stream.
    if let Some(length) = length(path, 0)? {
        all.push(Segment { number: 0, start: 0, length: length.min(head) });
    }
    if all.first().is_none_or(|s| s.length < head) {
        return Ok(all);
    }
    let size = segment_bytes(cap);
    for number in numbers(path) {
        if let Some(length) = length(path, number)? {
            all.push(Segment { number, start: head + (number - 1) * size, length: length.min(size) });
        }
    }
    Ok(all)
}

fn length(path: &str, number: u64) -> io::Result<Option<u64>> {
    match std::fs::metadata(segment_path(path, number)) {
        Ok(meta) => Ok(Some(meta.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn numbers(path: &str) -> Vec<u64> {
    let path = Path::new(path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let number = |file: &str| file.strip_prefix(name)?.strip_prefix('.')?.parse().ok();
    let mut all: Vec<u64> = entries.filter_map(|e| number(e.file_name().to_str()?)).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::logs::{CAP_MIN, CUT_MARK};

    #[test]
    fn a_stream_is_read_across_its_files_and_the_gap_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout.log");
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        write("stdout.log", "a".repeat(2048) + CUT_MARK);
        write("stdout.log.3", "d".repeat(1024));
        write("stdout.log.4", "e".repeat(10));
        write("stdout.log.tmp", "no".into());

        let (mut at, mut text, mut skipped) = (0, String::new(), 0);
        loop {
            let chunk = read(&path, CAP_MIN, at, 700).unwrap();
            if chunk.bytes.is_empty() {
                break;
            }
            (at, skipped) = (chunk.next(), skipped + chunk.skipped);
            text.push_str(std::str::from_utf8(&chunk.bytes).unwrap());
        }
        assert_eq!(text, "a".repeat(2048) + &"d".repeat(1024) + &"e".repeat(10));
        assert_eq!((at, skipped), (2048 + 3 * 1024 + 10, 2 * 1024));
        assert_eq!(tail(&path, CAP_MIN, 5).unwrap(), at - 5);
    }

    #[test]
    fn a_silent_stream_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("stdout.log"), CAP_MIN, 0, 10).unwrap(), Chunk::default());
    }
}
