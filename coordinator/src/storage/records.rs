//! The records of a file that RocksDB appends to (a write-ahead log, a MANIFEST), each against its checksum.
//!
//! RocksDB's own reader takes a zeroed header for the end of a block and goes on behind it, so a page of zeros swallows the records in
//! it without a word. This one stops there, and says where the last whole record ends.

/// A record is cut by the end of a block.
pub const BLOCK_BYTES: usize = 32 << 10;
/// Checksum, length, kind.
const HEADER_BYTES: usize = 7;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Where a file ends to be what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// Bytes of whole records before it.
    pub offset: usize,
    /// What is there instead.
    pub reason: &'static str,
}

/// Hands each whole record of `bytes` to `each`, with where it begins, until one is not whole or `each` refuses it. Zeros up to the end
/// are an end: a file may be longer than what was written.
///
/// # Errors
/// The first record that is not whole or was refused.
pub fn read(
    bytes: &[u8],
    mut each: impl FnMut(usize, &[u8]) -> Result<(), &'static str>,
) -> Result<(), Broken> {
    // A record that is cut by the end of a block, and where it began.
    let mut parts = Vec::new();
    let mut begun: Option<usize> = None;
    let mut at = 0;
    while at < bytes.len() {
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEADER_BYTES {
            at += left;
            continue;
        }
        let broken = |reason| Err(Broken { offset: begun.unwrap_or(at), reason });
        let Some((header, behind)) = bytes[at..].split_at_checked(HEADER_BYTES) else {
            return broken("it ends in the middle of a record");
        };
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let kind = header[6];
        if kind == 0 && length == 0 {
            if begun.is_none() && bytes[at..].iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            return broken("zeros where records were");
        }
        if HEADER_BYTES + length > left {
            return broken("a record is longer than its block");
        }
        let Some(body) = behind.get(..length) else {
            return broken("it ends in the middle of a record");
        };
        let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if stored != masked(crc32c(kind, body)) {
            return broken("the checksum of a record does not match");
        }
        match (kind, begun) {
            (FULL, None) => each(at, body).map_err(|reason| Broken { offset: at, reason })?,
            (FIRST, None) => {
                parts.clear();
                parts.extend_from_slice(body);
                begun = Some(at);
            }
            (MIDDLE, Some(_)) => parts.extend_from_slice(body),
            (LAST, Some(start)) => {
                parts.extend_from_slice(body);
                each(start, &parts).map_err(|reason| Broken { offset: start, reason })?;
                begun = None;
            }
            (FULL | FIRST | MIDDLE | LAST, _) => return broken("parts of a record are missing"),
            _ => return broken("a record of an unknown kind"),
        }
        at += HEADER_BYTES + length;
    }
    match begun {
        Some(offset) => Err(Broken { offset, reason: "it ends in the middle of a record" }),
        None => Ok(()),
    }
}

/// As it is stored: RocksDB turns and shifts it, since a file may hold checksums of files that hold checksums.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli) over the kind and the body.
fn crc32c(kind: u8, body: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    let step = |sum: u32, byte: u8| TABLE[usize::from(sum.to_le_bytes()[0] ^ byte)] ^ (sum >> 8);
    !body.iter().fold(step(!0, kind), |sum, byte| step(sum, *byte))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        #[allow(clippy::cast_possible_truncation)] // below 256
        let mut sum = at as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
}

/// Adds a record as RocksDB does: cut at the ends of blocks.
#[cfg(test)]
pub fn append(file: &mut Vec<u8>, mut record: &[u8]) {
    let mut is_first = true;
    loop {
        let left = BLOCK_BYTES - file.len() % BLOCK_BYTES;
        if left < HEADER_BYTES {
            file.extend(std::iter::repeat_n(0, left));
            continue;
        }
        let (part, rest) = record.split_at(record.len().min(left - HEADER_BYTES));
        let kind = match (is_first, rest.is_empty()) {
            (true, true) => FULL,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        file.extend(masked(crc32c(kind, part)).to_le_bytes());
        file.extend(u16::try_from(part.len()).expect("length").to_le_bytes());
        file.push(kind);
        file.extend(part);
        if rest.is_empty() {
            return;
        }
        (record, is_first) = (rest, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> (usize, Result<(), Broken>) {
        let mut records = 0;
        let end = read(bytes, |_, _| {
            records += 1;
            Ok(())
        });
        (records, end)
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        // "123456789" has 0xe3069283: kind and body are one stretch of bytes.
        assert_eq!(crc32c(b'1', b"23456789"), 0xe306_9283);
    }

    #[test]
    fn a_cut_a_zeroed_and_a_flipped_byte_are_found_where_their_record_begins() {
        let mut file = Vec::new();
        let mut begins = Vec::new();
        // The second is cut by two ends of blocks, the fourth ends where no header fits into its block any more.
        for length in [100, 70_000, 20, BLOCK_BYTES * 3 - 70_167, 50] {
            let left = BLOCK_BYTES - file.len() % BLOCK_BYTES;
            begins.push(file.len() + if left < HEADER_BYTES { left } else { 0 });
            append(&mut file, &vec![0xa5; length]);
        }
        assert_eq!(begins.last(), Some(&(BLOCK_BYTES * 3)));
        assert_eq!(whole(&file), (5, Ok(())));
        let padded = [&file[..], &[0; 5000]].concat();
        assert_eq!(whole(&padded), (5, Ok(())), "zeros up to the end are an end");
        for (at, begin) in begins.iter().enumerate() {
            let end = begins.get(at + 1).copied().unwrap_or(file.len());
            for place in [*begin, *begin + 3, *begin + 6, *begin + 12, (*begin + end) / 2] {
                let mut flipped = file.clone();
                flipped[place] ^= 1;
                let found = whole(&flipped);
                assert_eq!((found.0, found.1.map_err(|broken| broken.offset)), (at, Err(*begin)), "{place}");
                let cut = whole(&file[..place]);
                let expected = if place == *begin { Ok(()) } else { Err(*begin) };
                assert_eq!((cut.0, cut.1.map_err(|broken| broken.offset)), (at, expected), "{place}");
                let mut hole = padded.clone();
                hole[place..end].fill(0);
                let found = whole(&hole);
                let is_last = end == file.len();
                let expected = if is_last && place == *begin { Ok(()) } else { Err(*begin) };
                assert_eq!((found.0, found.1.map_err(|broken| broken.offset)), (at, expected), "{place}");
            }
        }
    }
}
