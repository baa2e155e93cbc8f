//! `attempts/TOKEN/sent`: which files of the step that is being stored are in the store, and the newest committed step. An agent that is
//! started again goes on from there.
//!
//! Never synced: after a boot there is no attempt. A line that cannot be read ends it, and what it would have said is sent again.

use super::known::KnownFile;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// The first line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    /// The step that is being stored.
    step: Option<u64>,
    /// The newest step that this attempt committed.
    committed: Option<u64>,
}

/// The file, in memory.
#[derive(Debug)]
pub struct Sent {
    path: PathBuf,
    file: Option<File>,
    head: Head,
    /// Of `head.step`, by path.
    files: HashMap<String, KnownFile>,
}

impl Sent {
    /// What an earlier agent left of the attempt in `root`.
    pub fn load(root: &Path) -> Self {
        let path = root.join("sent");
        let mut sent = Self { file: None, head: Head::default(), files: HashMap::new(), path };
        let Ok(file) = File::open(&sent.path) else { return sent };
        let mut lines = BufReader::new(file).lines().map_while(Result::ok);
        if let Some(head) = lines.next().and_then(|line| serde_json::from_str(&line).ok()) {
            sent.head = head;
            let files = lines.map_while(|line| serde_json::from_str::<KnownFile>(&line).ok());
            sent.files = files.map(|known| (known.path.clone(), known)).collect();
        }
        sent
    }

    /// The newest step that this attempt committed.
    pub fn committed(&self) -> Option<u64> {
        self.head.committed
    }

    /// The step is committed: what was sent of it is known by its manifest.
    pub fn commit(&mut self, step: u64) {
        self.restart(Head { step: None, committed: Some(step) });
    }

    /// `step` is being stored; what was sent of another one is not looked at any more.
    pub fn begin(&mut self, step: u64) {
        if self.head.step != Some(step) {
            self.restart(Head { step: Some(step), ..self.head });
        }
    }

    /// What an earlier try sent from `path`.
    pub fn get(&self, path: &str) -> Option<&KnownFile> {
        self.files.get(path)
    }

    /// A file is in the store.
    pub fn add(&mut self, known: KnownFile) {
        let written = self.append(&known);
        self.files.insert(known.path.clone(), known);
        self.said(written);
    }

    fn restart(&mut self, head: Head) {
        self.head = head;
        self.files.clear();
        self.file = None;
        let fresh = self.path.with_extension("new");
        let written = File::create(&fresh)
            .and_then(|mut file| write_line(&mut file, &head))
            .and_then(|()| std::fs::rename(&fresh, &self.path));
        if written.is_err() {
            // What is there speaks of another step.
            let _ = std::fs::remove_file(&self.path);
        }
        self.said(written);
    }

    fn append(&mut self, known: &KnownFile) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        }
        self.file.as_mut().map_or(Ok(()), |file| write_line(file, known))
    }

    /// It is a convenience: on a full disk nothing is lost but time after a restart.
    fn said(&self, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "what was sent of a checkpoint is not noted");
        }
    }
}

fn write_line(file: &mut File, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::checkpoint::Sha256;

    fn known(path: &str) -> KnownFile {
        KnownFile {
            path: path.into(),
            size: 3,
            stamp: None,
            sample: Sha256([1; 32]),
            sha256: Sha256([2; 32]),
            key: format!("k/{path}"),
        }
    }

    #[test]
    fn what_was_sent_of_the_step_outlives_the_agent_and_a_torn_line_ends_it() {
        let top = tempfile::tempdir().unwrap();
        let mut sent = Sent::load(top.path());
        sent.begin(5);
        sent.commit(5);
        sent.begin(6);
        sent.add(known("a"));
        sent.begin(6);
        sent.add(known("b"));
        let again = Sent::load(top.path());
        assert_eq!(
            (again.committed(), again.get("a"), again.get("b")),
            (Some(5), Some(&known("a")), Some(&known("b")))
        );
        let file = top.path().join("sent");
        let bytes = std::fs::read(&file).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&file, &bytes[..cut]).unwrap();
            let torn = Sent::load(top.path());
            assert!(torn.get("b").is_none() || cut == bytes.len() - 1, "{cut}");
            assert!(torn.committed().is_none_or(|step| step == 5), "{cut}");
        }
        std::fs::write(&file, &bytes).unwrap();
        let mut next = Sent::load(top.path());
        next.begin(7);
        assert_eq!((next.get("a"), Sent::load(top.path()).get("a")), (None, None));
    }
}
