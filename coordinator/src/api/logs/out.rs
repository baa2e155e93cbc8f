//! What a reader gets of one stream: in order, nothing twice, or only the last lines.

use super::{LogItem, Sink};
use crate::api::error::ApiError;
use bytes::Bytes;
use std::sync::Arc;

/// One message to the reader, bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Kept of an output of which only the last lines are wanted, bytes.
const TAIL_BYTES: usize = 8 << 20;

/// One stream on its way to the reader.
pub(super) struct Out<'a> {
    pub sink: &'a Sink,
    pub task: Arc<str>,
    pub index: Option<u32>,
    pub attempt: u32,
    pub rank: Option<u32>,
    pub stderr: bool,
    /// What was taken.
    pub offset: u64,
    /// Lines wanted, and what may hold them.
    pub tail: Option<(u64, Vec<u8>)>,
}

impl Out<'_> {
    pub async fn take(&mut self, offset: u64, mut bytes: Bytes) -> Result<(), ApiError> {
        // What was sent before is not sent again; what a rotation cut away is skipped.
        if offset < self.offset {
            let known = usize::try_from(self.offset - offset).unwrap_or(usize::MAX).min(bytes.len());
            bytes = bytes.slice(known..);
        }
        let from = offset.max(self.offset);
        self.offset = from + bytes.len() as u64;
        match &mut self.tail {
            Some((_, kept)) => {
                kept.extend_from_slice(&bytes);
                let extra = kept.len().saturating_sub(TAIL_BYTES);
                kept.drain(..extra);
                Ok(())
            }
            None => self.send(from, bytes).await,
        }
    }

    async fn send(&self, mut offset: u64, mut bytes: Bytes) -> Result<(), ApiError> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(CHUNK_BYTES));
            let length = part.len() as u64;
            let item = LogItem::Chunk {
                task: self.task.clone(),
                index: self.index,
                attempt: self.attempt,
                rank: self.rank,
                stderr: self.stderr,
                offset,
                bytes: part,
            };
            self.sink
                .send(Ok(item))
                .await
                .map_err(|_| ApiError::Stopped("nobody reads any more".to_owned()))?;
            offset += length;
        }
        Ok(())
    }

    pub async fn finish_tail(&mut self) -> Result<(), ApiError> {
        let Some((lines, kept)) = self.tail.take() else { return Ok(()) };
        let from = last_lines(&kept, lines);
        let at = self.offset - (kept.len() - from) as u64;
        self.send(at, Bytes::from(kept).slice(from..)).await
    }

    pub async fn finish(mut self) -> Result<(), ApiError> {
        self.finish_tail().await
    }

    pub async fn note(&self, text: String) {
        let _ = self.sink.send(Ok(LogItem::Note(text))).await;
    }
}

/// Where the last `lines` lines begin.
fn last_lines(text: &[u8], lines: u64) -> usize {
    if lines == 0 {
        return text.len();
    }
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let nth = usize::try_from(lines - 1).unwrap_or(usize::MAX);
    ends.map(|(at, _)| at + 1).nth(nth).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[test]
    fn last_lines_are_counted_with_and_without_a_final_newline() {
        for (text, lines, rest) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 9, "a\nb\n"),
            ("", 3, ""),
            ("a\n", 0, ""),
            ("a\n\nb\n", 2, "\nb\n"),
        ] {
            assert_eq!(&text[last_lines(text.as_bytes(), lines)..], rest, "{text:?} {lines}");
        }
    }

    #[tokio::test]
    async fn what_was_sent_is_not_sent_again() {
        let (sink, mut items) = mpsc::channel(8);
        let mut out = Out {
            sink: &sink,
            task: "t".into(),
            index: None,
            attempt: 1,
            rank: None,
            stderr: false,
            offset: 0,
            tail: None,
        };
        out.take(0, Bytes::from_static(b"hello")).await.expect("taken");
        out.take(3, Bytes::from_static(b"lo world")).await.expect("taken");
        drop(out);
        drop(sink);
        let mut text = Vec::new();
        while let Some(Ok(LogItem::Chunk { bytes, offset, .. })) = items.recv().await {
            assert_eq!(offset, text.len() as u64);
            text.extend_from_slice(&bytes);
        }
        assert_eq!(text, b"hello world");
    }
}
