//! A file copied and hashed at once: one thread reads and writes, another hashes what it has read.

use crate::limits::PIECE_BYTES;
use muster_core::model::checkpoint::Sha256;
use sha2::{Digest, Sha256 as Hasher};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel};

/// Pieces that are read and not yet hashed.
const AHEAD: usize = 4;

/// Why a copy is not complete.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
    /// The source is shorter or longer.
    Length,
    Stopped,
}

/// Copies `from`, which has to have exactly `size` bytes, from its beginning. Blocks, until `stop` at most.
pub(crate) fn copy_hashed(
    from: &mut File,
    to: &mut File,
    size: u64,
    stop: &AtomicBool,
) -> Result<Sha256, CopyError> {
    let mut from = from.take(size);
    let digest = if size <= PIECE_BYTES as u64 {
        let mut piece = Vec::new();
        from.read_to_end(&mut piece).map_err(CopyError::Read)?;
        to.write_all(&piece).map_err(CopyError::Write)?;
        Hasher::digest(&piece)
    } else {
        std::thread::scope(|scope| {
            let (give, take) = sync_channel::<Vec<u8>>(AHEAD);
            let (give_back, used) = channel::<Vec<u8>>();
            let hashing = scope.spawn(move || {
                let mut hasher = Hasher::new();
                for piece in take {
                    hasher.update(&piece);
                    // Nobody takes it back when all is read.
                    let _ = give_back.send(piece);
                }
                hasher.finalize()
            });
            loop {
                if stop.load(Ordering::Relaxed) {
                    return Err(CopyError::Stopped);
                }
                let mut piece = used.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES));
                piece.clear();
                let read = from.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece);
                if read.map_err(CopyError::Read)? == 0 {
                    break;
                }
                to.write_all(&piece).map_err(CopyError::Write)?;
                if give.send(piece).is_err() {
                    break;
                }
            }
            drop(give);
            hashing.join().or_else(|panic| std::panic::resume_unwind(panic))
        })?
    };
    let whole = from.limit() == 0;
    let longer = from.into_inner().read(&mut [0]).map_err(CopyError::Read)? > 0;
    if whole && !longer { Ok(Sha256(digest.into())) } else { Err(CopyError::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    fn copied(bytes: &[u8], size: u64) -> Result<(Sha256, Vec<u8>), CopyError> {
        let (mut from, mut to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all(bytes).unwrap();
        from.rewind().unwrap();
        let digest = copy_hashed(&mut from, &mut to, size, &AtomicBool::new(false))?;
        to.rewind().unwrap();
        let mut got = Vec::new();
        to.read_to_end(&mut got).unwrap();
        Ok((digest, got))
    }

    #[test]
    fn what_is_copied_is_what_is_hashed() {
        for size in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 7] {
            let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let (digest, got) = copied(&bytes, size as u64).unwrap();
            assert!(got == bytes && digest.0 == *Hasher::digest(&bytes), "{size}");
        }
    }

    #[test]
    fn a_file_of_another_length_and_an_order_to_stop_are_seen() {
        for (bytes, size) in
            [(5, 6), (5, 4), (2 * PIECE_BYTES + 1, 2 * PIECE_BYTES), (PIECE_BYTES, 2 * PIECE_BYTES)]
        {
            assert!(matches!(copied(&vec![7; bytes], size as u64), Err(CopyError::Length)), "{bytes}");
        }
        let (mut from, mut to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.set_len(8 << 20).unwrap();
        let stopped = copy_hashed(&mut from, &mut to, 8 << 20, &AtomicBool::new(true));
        assert!(matches!(stopped, Err(CopyError::Stopped)));
    }
}
