//! What is left of a log after a power failure, in every shape: it ends at the first hole, and all that was synced before is there.

use super::*;
use crate::storage::{Change, DirLock, Disk, Kind, RocksDisk, Table};
use std::sync::Arc;

/// Batches before the last sync, and after it.
const SYNCED: u32 = 40;
const LATE: u32 = 30;

fn key(n: u32) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn write(disk: &RocksDisk, n: u32) {
    // Of many lengths, so that records end in all places of a block.
    let value = vec![7; 100 + (n as usize * 1_237) % 5_000];
    disk.write(vec![Change::Put(Table::Data, key(n), value)]).expect("write");
}

/// A directory with one log of two hundred batches, not yet in a table.
fn written(dir: &Path) -> PathBuf {
    let path = dir.join("state");
    let disk = RocksDisk::open(&path, Kind::State).expect("open");
    for n in 0..200_u32 {
        disk.write(vec![Change::Put(Table::Data, key(n), vec![7; 500])]).expect("write");
    }
    disk.sync().expect("sync");
    drop(disk);
    path
}

fn newest(path: &Path) -> PathBuf {
    let logs = fs::read_dir(path).expect("list").filter_map(|entry| numbered(entry.expect("entry").path()));
    logs.filter(|(_, path)| fs::metadata(path).expect("file").len() > 0).max().expect("a log").1
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copy");
    }
}

#[test]
fn whole_logs_pass_and_a_zeroed_page_is_found_wherever_it_is() {
    let dir = tempfile::tempdir().expect("dir");
    let path = written(dir.path());
    check(&path).expect("whole");
    let log = newest(&path);
    let whole = fs::read(&log).expect("read");
    for page in 0..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        fs::write(&log, &bytes).expect("write");
        assert!(
            RocksDisk::open(&path, Kind::State).is_err(),
            "page {page} of {} is zero and nobody minds",
            whole.len() / 4096
        );
    }
    fs::write(&log, &whole).expect("write");
    RocksDisk::open(&path, Kind::State).expect("whole again");
}

/// What is left of a database that lost its power: its directory, how long its log was at the last sync, and where each batch begins.
struct Left {
    dir: PathBuf,
    synced: usize,
    begins: Vec<usize>,
    log: Vec<u8>,
}

fn power_lost(dir: &Path, kind: Kind) -> Left {
    let path = dir.join("live");
    let disk = RocksDisk::open(&path, kind).expect("open");
    (0..SYNCED).for_each(|n| write(&disk, n));
    disk.sync().expect("sync");
    let synced = fs::metadata(newest(&path)).expect("log").len() as usize;
    (SYNCED..SYNCED + LATE).for_each(|n| write(&disk, n));
    let left = dir.join("left");
    copy(&path, &left);
    let log = fs::read(newest(&left)).expect("read");
    let mut begins = Vec::new();
    records::read(&log, |at, _| {
        begins.push(at);
        Ok(())
    })
    .expect("whole");
    assert_eq!(begins.len() as u32, SYNCED + LATE);
    Left { dir: left, synced, begins, log }
}

/// The ways in which bytes from `at` on may not be what was written.
fn damaged(log: &[u8], at: usize, way: usize) -> Vec<u8> {
    let mut bytes = log.to_vec();
    let garbage = |from: usize, to: usize, bytes: &mut Vec<u8>| {
        blake3::Hasher::new().update(&from.to_le_bytes()).finalize_xof().fill(&mut bytes[from..to]);
    };
    let some = (at + 600).min(log.len());
    match way {
        0 => bytes.truncate(at),
        1 => bytes[at..].fill(0),
        // Whole records behind it.
        2 => bytes[at..some].fill(0),
        3 => garbage(at, log.len(), &mut bytes),
        4 => garbage(at, some, &mut bytes),
        // Blocks that were allocated, with what an older file left there.
        _ => {
            bytes.truncate(at);
            bytes.extend(vec![0; 5_000]);
            bytes.extend_from_slice(&log[..at.min(70_000)]);
        }
    }
    bytes
}
const WAYS: usize = 6;

#[test]
fn what_was_synced_is_there_whatever_became_of_the_rest() {
    let all = std::env::var("MUSTER_SCALE").is_ok_and(|scale| scale == "full");
    let (mut round, mut cuts) = (0, 0);
    for kind in [Kind::Log, Kind::State] {
        let top = tempfile::tempdir().expect("dir");
        let left = power_lost(top.path(), kind);
        // Borders of batches and of blocks, and beside them; in the synced part too.
        let mut places = vec![left.synced, left.synced + 1, left.log.len() - 1];
        for n in [3, SYNCED - 1, SYNCED + 1, SYNCED + 7, SYNCED + LATE - 1] {
            let begin = left.begins[n as usize];
            places.extend([begin, begin + 3, begin + 9]);
        }
        for border in (records::BLOCK_BYTES..left.log.len()).step_by(records::BLOCK_BYTES) {
            places.extend([border - 7, border - 1, border, border + 1]);
        }
        for at in places {
            for way in 0..WAYS {
                round += 1;
                if !all && (round + way) % 3 != 0 {
                    continue;
                }
                cuts += u32::from(recovers(&left, top.path(), kind, at, way));
            }
        }
    }
    assert!(cuts > 30, "{cuts} cuts: most of it was no damage");
}

/// Damages a copy, opens it and looks at what is there. Whether something was cut off.
fn recovers(left: &Left, top: &Path, kind: Kind, at: usize, way: usize) -> bool {
    let what = format!("{kind:?}, byte {at} of {}, {} synced, way {way}", left.log.len(), left.synced);
    let dir = top.join("now");
    fs::create_dir(&dir).expect("make");
    let path = dir.join("db");
    copy(&left.dir, &path);
    let (log, bytes) = (newest(&path), damaged(&left.log, at, way));
    fs::write(&log, &bytes).expect("write");

    let lock = DirLock::take(&dir).expect("free");
    let disk = RocksDisk::recover(&path, kind, &lock).expect(&what);
    let has = |disk: &RocksDisk, n: u32| disk.get(Table::Data, &key(n)).expect("read").is_some();
    let there = (0..SYNCED + LATE).take_while(|n| has(&disk, *n)).count();
    assert!(
        (0..SYNCED + LATE).skip(there).all(|n| !has(&disk, n)),
        "{what}: later batches, but not all before"
    );
    let whole = left.begins.iter().skip(1).chain([&left.log.len()]).filter(|end| **end <= at).count();
    assert!(there >= whole, "{what}: {whole} batches were whole, {there} are there");
    if at >= left.synced {
        assert!(there as u32 >= SYNCED, "{what}: {there} of what was synced");
    }
    let cut = disk.cut().cloned();
    if let Some(cut) = &cut {
        assert_eq!(cut.hole.path, log, "{what}");
        assert_eq!(fs::read(&cut.kept).expect("kept"), bytes[cut.hole.offset as usize..], "{what}");
        assert_eq!(cut.bytes, bytes.len() as u64 - cut.hole.offset, "{what}");
    }
    // It goes on from there, and the next start finds nothing wrong.
    write(&disk, 1_000);
    disk.sync().expect("sync");
    drop(disk);
    let disk = RocksDisk::open(&path, kind).expect(&what);
    assert!(has(&disk, 1_000) && (0..there as u32).all(|n| has(&disk, n)), "{what}: lost by the next start");
    drop((disk, lock));
    fs::remove_dir_all(&dir).expect("remove");
    cut.is_some()
}

fn batch(sequence: u64, count: u32, bytes: usize) -> Vec<u8> {
    let mut batch = sequence.to_le_bytes().to_vec();
    batch.extend(count.to_le_bytes());
    batch.resize(bytes, 7);
    batch
}

fn log_of(batches: &[(u64, u32)]) -> Vec<u8> {
    let mut log = Vec::new();
    batches.iter().for_each(|(sequence, count)| records::append(&mut log, &batch(*sequence, *count, 100)));
    log
}

/// Found by muster-chaos: a member that had done nothing wrong did not start again, because of its batch's first 12 bytes only 2 were
/// in front of the end of a block.
#[test]
fn a_batch_may_be_cut_anywhere_by_the_end_of_a_block() {
    for left in 0..60 {
        let mut log = Vec::new();
        records::append(&mut log, &batch(1, 2, records::BLOCK_BYTES - 7 - left));
        records::append(&mut log, &batch(3, 5, 100));
        for (sequence, is_next) in [(8, true), (9, false), (7, false), (u64::MAX, false)] {
            let mut log = log.clone();
            records::append(&mut log, &batch(sequence, 1, 100));
            let mut next = None;
            assert_eq!(walk(&log, &mut next).is_ok(), is_next, "{left} bytes are left, {sequence} follows");
            assert_eq!(next, Some(if is_next { 9 } else { 8 }));
        }
    }
    // The last number that there is does not overflow.
    let mut next = None;
    walk(&log_of(&[(u64::MAX - 1, u32::MAX)]), &mut next).expect("whole");
    assert_eq!(next, Some(u64::MAX));
}

#[test]
fn a_log_that_ends_early_ends_those_behind_it_however_often_the_cut_is_begun() {
    let dir = tempfile::tempdir().expect("dir");
    let [first, second, third] = ["000900.log", "000901.log", "000902.log"].map(|name| dir.path().join(name));
    let write = |path: &Path, batches: &[(u64, u32)]| fs::write(path, log_of(batches)).expect("write");
    write(&first, &[(1, 1), (2, 2)]);
    write(&second, &[(4, 1)]);
    write(&third, &[(5, 1)]);
    check(dir.path()).expect("they go on");
    // The first lost its last batch: the second does not follow.
    write(&first, &[(1, 1)]);
    let error = check(dir.path()).expect_err("a gap");
    assert!(
        matches!(&error, StorageError::DamagedFile { path, offset: 0, .. } if *path == second),
        "{error}"
    );
    // Found here, the hole is in the first: what is behind it goes, newest first; a crash in between changes nothing.
    let torn = log_of(&[(1, 1), (2, 2)]);
    fs::write(&first, &torn[..torn.len() - 1]).expect("write");
    let hole = find(dir.path()).expect("read").expect("a hole");
    let begun = kept_as(&third, 1);
    fs::rename(&third, &begun).expect("rename");
    let again = find(dir.path()).expect("read").expect("a hole");
    assert_eq!((&again.path, again.offset), (&first, hole.offset));
    let done = cut(dir.path(), again).expect("cut");
    assert!(
        !second.exists() && kept_as(&second, 2).exists() && begun.exists() && done.kept == kept_as(&first, 2)
    );
    assert_eq!(
        done.bytes,
        fs::metadata(kept_as(&second, 2)).expect("kept").len() + torn.len() as u64 / 2 - 1
    );
    assert_eq!(find(dir.path()).expect("read"), None);

    // What was kept is bounded.
    for number in 3..9 {
        fs::write(&first, &torn[..torn.len() - 1]).expect("write");
        let hole = find(dir.path()).expect("read").expect("a hole");
        assert_eq!(cut(dir.path(), hole).expect("cut").kept, kept_as(&first, number));
        let kept = fs::read_dir(dir.path())
            .expect("list")
            .filter(|entry| entry.as_ref().expect("entry").file_name().to_string_lossy().contains(CUT));
        assert!(kept.count() <= 4, "number {number}");
    }
    assert!(!begun.exists() && kept_as(&first, 8).exists());
}

/// Nobody reads a log older than those that the MANIFEST counts: a process that ended while it removed such logs may have left a gap.
#[test]
fn logs_that_are_done_with_do_not_count() {
    let dir = tempfile::tempdir().expect("dir");
    let path = written(dir.path());
    let lock = DirLock::take(dir.path()).expect("free");
    for _ in 0..2 {
        let disk = RocksDisk::recover(&path, Kind::State, &lock).expect("open");
        disk.write(vec![Change::Put(Table::Data, key(900), vec![1])]).expect("write");
        disk.sync().expect("sync");
    }
    fs::write(path.join("000001.log"), log_of(&[(1, 1), (7, 1)])).expect("write");
    let disk = RocksDisk::recover(&path, Kind::State, &lock).expect("open");
    assert!(disk.cut().is_none());
    assert!(disk.get(Table::Data, &key(900)).expect("read").is_some());
    drop(disk);
    assert_eq!(Arc::strong_count(&lock), 1, "a closed database lets go of the lock");
}

/// A record is flushed in one go, however large it is: a copy that is made meanwhile, for a snapshot or a check, ends with a record.
#[test]
fn a_copy_that_is_made_while_large_records_are_written_is_whole() {
    let dir = tempfile::tempdir().expect("dir");
    let disk = RocksDisk::open(&dir.path().join("state"), Kind::State).expect("open");
    let large = |n: u32| {
        let mut value = vec![0; 4_000_000];
        blake3::Hasher::new().update(&n.to_be_bytes()).finalize_xof().fill(&mut value);
        value
    };
    let mut copies = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..24 {
                disk.write(vec![Change::Put(Table::Data, key(n % 4), large(n))]).expect("write");
            }
        });
        while !writer.is_finished() || copies == 0 {
            let copy = disk.links().expect("copy");
            check(copy.path()).unwrap_or_else(|error| panic!("copy {copies}: {error}"));
            copies += 1;
        }
    });
}
