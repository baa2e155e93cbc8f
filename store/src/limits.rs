//! Every number of the store.

use std::time::Duration;

/// Files larger than this go to and from a cloud in parts of this size, several at once.
pub const PART_BYTES: u64 = 16 << 20;
/// Clouds take 10,000 parts (Azure 50,000): beyond 140 GiB parts grow.
pub const PARTS_MAX: u64 = 9_000;
/// Bytes of parts in memory, of all transfers of a store together: eight parts.
pub const IN_FLIGHT_BYTES: u64 = 8 * PART_BYTES;
/// A connection to a cloud is made within this.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// One request, with its body: a part of 16 MiB at 280 KB/s.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(60);
/// How often one request is tried again after 408, 429, 5xx or a broken connection, and for how long.
pub const RETRIES: usize = 4;
pub const RETRY_FOR: Duration = Duration::from_secs(30);
/// The pause before a request is tried again: doubles, with jitter, from the first to the second.
pub const RETRY_PAUSE: Duration = Duration::from_millis(200);
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often a part is sent or fetched, each time with the retries of its request.
pub const PART_TRIES: u32 = 3;
/// How often a file is fetched whose bytes arrive with another digest.
pub const FETCH_TRIES: u32 = 2;
/// One call on a small object, with all its retries.
pub const CALL_WITHIN: Duration = Duration::from_secs(120);
/// A transfer of a file has [`CALL_WITHIN`] and what it takes at this rate.
pub const BYTES_PER_SECOND_MIN: u64 = 1 << 20;
/// The probe at the start.
pub const CHECK_WITHIN: Duration = Duration::from_secs(20);
/// A deletion has [`CALL_WITHIN`] and this for each key.
pub const DELETE_WITHIN: Duration = Duration::from_millis(20);
/// Files are copied to and from a directory in pieces of this size.
pub const PIECE_BYTES: usize = 1 << 20;

/// Within which a file of `bytes` is sent or fetched.
#[must_use]
pub fn transfer_within(bytes: u64) -> Duration {
    CALL_WITHIN + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN)
}

/// The size of a file's parts: all alike but the last, as some stores demand.
#[must_use]
pub fn part_bytes(file_bytes: u64) -> u64 {
    file_bytes.div_ceil(PARTS_MAX).max(PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_when_there_would_be_too_many() {
        assert_eq!(part_bytes(0), PART_BYTES);
        assert_eq!(part_bytes(PART_BYTES * PARTS_MAX), PART_BYTES);
        for bytes in [PART_BYTES * PARTS_MAX + 1, 5 << 40] {
            assert!(part_bytes(bytes) > PART_BYTES);
            assert!(bytes.div_ceil(part_bytes(bytes)) <= PARTS_MAX);
        }
    }
}
