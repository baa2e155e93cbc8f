//! Prints captured output, as it is or as it grows; goes on where it was after a broken connection.

use super::watch::{Ended, retry_or};
use super::{Client, is_transient};
use crate::failure::Failure;
use muster_proto::api::{LogChunk, LogsRequest};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Whose output a chunk is: task, index, attempt, stderr, rank.
type Source = (String, Option<u32>, u32, bool, Option<u32>);

/// Where chunks go.
pub struct Printer {
    /// Everything to stdout (`logs --stderr`), instead of each stream to its own.
    pub all_to_stdout: bool,
    /// `train[7] | `, of a gang `train rank 0 | `, before each line.
    pub prefix: bool,
    seen: HashMap<Source, u64>,
    /// The source of the last, unfinished line.
    open_line: Option<Source>,
}

impl Printer {
    #[must_use]
    pub fn new(all_to_stdout: bool, prefix: bool) -> Self {
        Self { all_to_stdout, prefix, seen: HashMap::new(), open_line: None }
    }

    /// Whether stdout is a person's.
    #[must_use]
    pub fn for_people() -> bool {
        std::io::stdout().is_terminal()
    }

    /// Prints what of the chunk was not printed before.
    ///
    /// # Errors
    /// stdout is gone (silently) or full.
    pub fn print(&mut self, chunk: &LogChunk) -> Result<(), Failure> {
        if !chunk.note.is_empty() {
            crate::output::talk(&chunk.note);
        }
        if chunk.bytes.is_empty() {
            return Ok(());
        }
        let source: Source = (chunk.task.clone(), chunk.index, chunk.attempt, chunk.stderr, chunk.rank);
        let end = chunk.offset + chunk.bytes.len() as u64;
        let seen = self.seen.entry(source.clone()).or_insert(chunk.offset);
        if end <= *seen {
            return Ok(());
        }
        let skip = usize::try_from(seen.saturating_sub(chunk.offset)).unwrap_or(0);
        *seen = end;
        let fresh = &chunk.bytes[skip..];
        let out = if self.prefix { self.prefixed(&source, fresh) } else { fresh.to_vec() };
        if chunk.stderr && !self.all_to_stdout {
            let mut stderr = std::io::stderr().lock();
            let _ = stderr.write_all(&out).and_then(|()| stderr.flush());
            return Ok(());
        }
        crate::output::bytes(&out)
    }

    fn prefixed(&mut self, source: &Source, bytes: &[u8]) -> Vec<u8> {
        let index = source.1.map_or(String::new(), |index| format!("[{index}]"));
        let rank = source.4.map_or(String::new(), |rank| format!(" rank {rank}"));
        let name = format!("{}{index}{rank} | ", source.0);
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let goes_on = self.open_line.as_ref() == Some(source);
        if self.open_line.is_some() && !goes_on {
            out.push(b'\n');
        }
        for (n, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
            if n > 0 || !goes_on {
                out.extend_from_slice(name.as_bytes());
            }
            out.extend_from_slice(line);
        }
        self.open_line = (bytes.last() != Some(&b'\n')).then(|| source.clone());
        out
    }
}

/// Prints until the stream ends; `Some` when the job's end came with it.
///
/// # Errors
/// No such job; the cluster stays away; stdout is gone.
pub async fn follow(
    client: &mut Client,
    mut request: LogsRequest,
    printer: &mut Printer,
) -> Result<Option<Ended>, Failure> {
    let mut broken_since: Option<Instant> = None;
    loop {
        let opened = client.call(async |api| api.logs(request.clone()).await).await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(failure) => {
                retry_or(&mut broken_since, failure).await?;
                continue;
            }
        };
        loop {
            match stream.message().await {
                Ok(Some(chunk)) => {
                    broken_since = None;
                    printer.print(&chunk)?;
                    if chunk.terminal {
                        return Ok(Some(Ended::new(chunk.state, chunk.exit_code)));
                    }
                }
                Ok(None) if !request.follow => return Ok(None),
                Ok(None) => break,
                Err(status) if is_transient(&status) => break,
                Err(status) => return Err(status.into()),
            }
        }
        // What was printed is known by its offset, so the next stream may begin at the beginning.
        request.tail = None;
        broken_since.get_or_insert_with(Instant::now);
        client.turn();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(task: &str, index: Option<u32>) -> Source {
        (task.into(), index, 1, false, None)
    }

    #[test]
    fn lines_of_several_tasks_are_told_apart() {
        let mut printer = Printer::new(false, true);
        let mut shown = printer.prefixed(&source("a", None), b"one\ntw");
        shown.extend(printer.prefixed(&source("a", None), b"o\nth"));
        shown.extend(printer.prefixed(&source("b", Some(7)), b"x\n"));
        assert_eq!(String::from_utf8(shown).unwrap(), "a | one\na | two\na | th\nb[7] | x\n");
    }
}
