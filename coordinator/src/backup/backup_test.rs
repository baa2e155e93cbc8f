//! The file: what is written reads back, and nothing that differs from it in any byte does.

use super::{BackupError, Head, verify, write};
use crate::storage::{Change, Disk, Kind, RocksDisk, Table};
use std::path::{Path, PathBuf};

fn head() -> Head {
    Head { cluster_id: "c0ffee".into(), member: 3, index: 42, term: 7, ..Head::default() }
}

/// A backup of a small store, as bytes, and a place for files.
fn backup(dir: &Path) -> Vec<u8> {
    let disk = RocksDisk::open(&dir.join("state"), Kind::State).expect("open");
    disk.write(vec![Change::Put(Table::Data, b"key".to_vec(), vec![7; 1000])]).expect("write");
    let copy = disk.checkpoint().expect("checkpoint");
    let (mut bytes, mut about) = (Vec::new(), 0);
    write(&copy, head(), |total, part| {
        about = total;
        bytes.extend_from_slice(&part);
        true
    })
    .expect("write");
    let close = bytes.len() as u64 <= about + 4096 && about <= bytes.len() as u64 + 4096;
    assert!(close, "said {about}, is {}", bytes.len());
    bytes
}

fn file(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("b.backup");
    std::fs::write(&path, bytes).expect("write");
    path
}

#[test]
fn a_whole_backup_says_what_it_holds() {
    let dir = tempfile::tempdir().expect("dir");
    let bytes = backup(dir.path());
    let mut seen = 0;
    let verified = verify(&file(dir.path(), &bytes), |at| seen = at).expect("whole");
    assert_eq!(verified.head, Head { files: verified.head.files, size: verified.head.size, ..head() });
    assert!(verified.head.files > 2 && verified.head.size > 1000);
    assert_eq!((verified.bytes, seen), (bytes.len() as u64, bytes.len() as u64));
    assert!(bytes.ends_with(blake3::Hash::from_hex(&verified.checksum).expect("hex").as_bytes()));
}

#[test]
fn any_flipped_bit_any_cut_and_any_tail_is_refused_with_its_place() {
    let dir = tempfile::tempdir().expect("dir");
    let bytes = backup(dir.path());
    // Every byte of the first records, then samples: the rest is alike.
    let places = || (0..400).chain((400..bytes.len()).step_by(97)).chain(bytes.len() - 80..bytes.len());
    for at in places() {
        let mut bent = bytes.clone();
        bent[at] ^= 1 << (at % 8);
        let error = verify(&file(dir.path(), &bent), |_| {}).expect_err("refused");
        let named = match &error {
            BackupError::NotABackup { .. } => at < 14,
            BackupError::NewerFormat { .. } => (14..18).contains(&at),
            // A length that grew reads beyond the end.
            BackupError::Damaged { at: found, .. } => *found <= at as u64,
            BackupError::Cut { .. } => true,
            _ => false,
        };
        assert!(named, "byte {at}: {error}");
    }
    for end in places() {
        let error = verify(&file(dir.path(), &bytes[..end]), |_| {}).expect_err("refused");
        let named = match &error {
            BackupError::NotABackup { .. } => end < 18,
            BackupError::Cut { at, .. } => *at == end as u64,
            _ => false,
        };
        assert!(named, "cut at {end}: {error}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(
        matches!(verify(&file(dir.path(), &longer), |_| {}), Err(BackupError::Trailing { at, .. }) if at == bytes.len() as u64)
    );
    let twice = [&bytes[..], &bytes[..]].concat();
    assert!(matches!(verify(&file(dir.path(), &twice), |_| {}), Err(BackupError::Trailing { .. })));
}
