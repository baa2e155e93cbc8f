//! One output stream of a task, from its pipe into files, with a cap.
//!
//! On disk: `stdout.log` takes the first half of the cap and is never rotated. What follows goes to `stdout.log.1`, `stdout.log.2` …
//! of a quarter of the cap each, of which the newest two are kept. So the beginning and the end survive, `cat`-ed in that order they
//! read right, and at the first removal the line [`CUT_MARK`] is added to `stdout.log`, where the gap is. Logical offsets of the
//! stream follow from names and sizes alone (`executor::logs` reads them). A silent task gets no file.
//!
//! A stream may pass [`RATE_BYTES_PER_S`] on average, with a burst; beyond that its pipe is left full, and the task waits in `write`. One turn of
//! the loop takes one buffer from each stream, so a flood starves neither timers nor neighbours.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;

/// The line that marks the gap, at the end of the first file.
pub const CUT_MARK: &str = "\n[muster] output cut here: the log reached its cap, the newest part follows\n";

/// Sustained rate of one stream.
pub const RATE_BYTES_PER_S: u64 = 32 << 20;
/// What a stream may write at once before the rate counts.
pub const BURST_BYTES: u64 = 16 << 20;

/// Smallest useful cap: below it the segments would be shorter than a line.
pub const CAP_MIN: u64 = 4 << 10;

/// Bytes of the first file under `cap`.
#[must_use]
pub fn head_bytes(cap: u64) -> u64 {
    cap.max(CAP_MIN) / 2
}

/// Bytes of each later file under `cap`.
#[must_use]
pub fn segment_bytes(cap: u64) -> u64 {
    cap.max(CAP_MIN) / 4
}

/// The file of segment `number` (0 is the head) of the log at `path`.
#[must_use]
pub fn segment_path(path: &str, number: u64) -> PathBuf {
    if number == 0 { PathBuf::from(path) } else { PathBuf::from(format!("{path}.{number}")) }
}

/// What came of one [`Stream::pump`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// There may be more.
    More,
    /// Nothing there now.
    Dry,
    /// Over its rate: to be asked again after this many milliseconds.
    Wait(u64),
    /// Nobody can write any more.
    End,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    pipe: OwnedFd,
    log: Log,
    budget: u64,
    filled_ms: u64,
}

impl Stream {
    /// Reads from `pipe` (non-blocking) into the log at `path`.
    #[must_use]
    pub fn new(pipe: OwnedFd, path: String, cap: u64, now_ms: u64) -> Self {
        Self { pipe, log: Log::new(path, cap), budget: BURST_BYTES, filled_ms: now_ms }
    }

    /// The read end.
    #[must_use]
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Moves at most one `buffer` from the pipe to the log.
    pub fn pump(&mut self, buffer: &mut [u8], now_ms: u64) -> Pumped {
        let earned = now_ms.saturating_sub(self.filled_ms) * (RATE_BYTES_PER_S / 1_000);
        self.budget = (self.budget + earned).min(BURST_BYTES);
        self.filled_ms = now_ms;
        let want = buffer.len() as u64;
        if self.budget < want {
            return Pumped::Wait((want - self.budget) / (RATE_BYTES_PER_S / 1_000) + 1);
        }
        match rustix::io::read(&self.pipe, &mut *buffer) {
            Ok(0) => Pumped::End,
            Ok(n) => {
                self.budget -= n as u64;
                self.log.write(&buffer[..n]);
                if n < buffer.len() { Pumped::Dry } else { Pumped::More }
            }
            Err(Errno::AGAIN | Errno::INTR) => Pumped::Dry,
            Err(_) => Pumped::End,
        }
    }

    /// Takes what the pipe still holds, now that the group is empty. Bounded, in case a stranger holds the write end.
    pub fn drain(&mut self, buffer: &mut [u8]) {
        let mut left = 4u64 << 20;
        while left > 0 {
            match rustix::io::read(&self.pipe, &mut *buffer) {
                Ok(0) => return,
                Ok(n) => {
                    self.log.write(&buffer[..n]);
                    left = left.saturating_sub(n as u64);
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// The files of one stream. A write that fails (a full disk) loses output, never the task.
#[derive(Debug)]
struct Log {
    path: String,
    cap: u64,
    file: Option<File>,
    number: u64,
    /// Bytes that the current file may still take.
    room: u64,
    marked: bool,
}

impl Log {
    fn new(path: String, cap: u64) -> Self {
        Self { path, cap, file: None, number: 0, room: head_bytes(cap), marked: false }
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.room == 0 {
                self.rotate();
            }
            let take = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
            let (now, rest) = bytes.split_at(take);
            if self.file.is_none() {
                let path = segment_path(&self.path, self.number);
                self.file = OpenOptions::new().create(true).append(true).open(path).ok();
            }
            if let Some(file) = &mut self.file {
                let _ = file.write_all(now);
            }
            self.room -= take as u64;
            bytes = rest;
        }
    }

    fn rotate(&mut self) {
        self.number += 1;
        self.room = segment_bytes(self.cap);
        self.file = None;
        if self.number > 2 {
            let _ = std::fs::remove_file(segment_path(&self.path, self.number - 2));
            if !self.marked {
                self.marked = true;
                if let Ok(mut head) = OpenOptions::new().append(true).open(segment_path(&self.path, 0)) {
                    let _ = head.write_all(CUT_MARK.as_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn files(dir: &std::path::Path) -> Vec<(String, String)> {
        let mut all: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), std::fs::read_to_string(e.path()).unwrap()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn head_and_tail_survive_with_a_mark_between() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::new(dir.path().join("stdout.log").to_str().unwrap().to_owned(), CAP_MIN);
        for byte in *b"abcdefg" {
            log.write(&vec![byte; 1024]);
        }
        let (c, d) = ("f".repeat(1024), "g".repeat(1024));
        let head = "a".repeat(1024) + &"b".repeat(1024) + CUT_MARK;
        assert_eq!(
            files(dir.path()),
            [("stdout.log".into(), head), ("stdout.log.4".into(), c), ("stdout.log.5".into(), d)]
        );
    }

    #[test]
    fn a_short_log_is_one_file_and_a_silent_one_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::new(dir.path().join("stdout.log").to_str().unwrap().to_owned(), 1 << 20);
        log.write(b"");
        assert_eq!(files(dir.path()), []);
        log.write(b"hi\n");
        assert_eq!(files(dir.path()), [("stdout.log".to_owned(), "hi\n".to_owned())]);
    }

    #[test]
    fn a_stream_over_its_rate_waits_until_it_has_earned_more() {
        let dir = tempfile::tempdir().unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let mut stream = Stream::new(read, dir.path().join("o").to_str().unwrap().to_owned(), 1 << 20, 0);
        let mut buffer = vec![0u8; 64 << 10];
        let mut passed = 0;
        let waited = loop {
            while rustix::io::write(&write, &[b'x'; 4096]).is_ok() {}
            match stream.pump(&mut buffer, 0) {
                Pumped::More | Pumped::Dry => passed += 1,
                other => break other,
            }
        };
        assert!(passed >= BURST_BYTES / (64 << 10));
        let Pumped::Wait(ms) = waited else { panic!("{waited:?}") };
        assert!(matches!(stream.pump(&mut buffer, ms), Pumped::More | Pumped::Dry));
    }

    #[test]
    fn the_end_of_the_pipe_is_the_end() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let mut stream = Stream::new(read, "/nonexistent/o".to_owned(), 1 << 20, 0);
        assert_eq!(stream.pump(&mut [0; 16], 0), Pumped::Dry);
        drop(write);
        assert_eq!(stream.pump(&mut [0; 16], 0), Pumped::End);
    }
}
