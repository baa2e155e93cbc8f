//! The store as it truly is: files and manifests of checkpoints, which outlive every machine. A file is one of two of a checkpoint: number
//! 0 is another one each step, number 1 seldom changes and is named again by the manifests after it. Now and then something decays.

use muster_core::model::checkpoint::{Checkpoint, Sha256};
use muster_core::model::ids::{IndexRef, Token};
use std::collections::{BTreeMap, BTreeSet};

/// Which manifest of an index: the token, the step, the rank.
pub type Place = (Token, u64, u32);
/// Which file: where it was written, and its number.
pub type File = (Place, u8);

/// What lies under the prefix of one index.
#[derive(Debug, Default)]
pub struct Shelf {
    pub manifests: BTreeMap<Place, BTreeSet<File>>,
    pub files: BTreeSet<File>,
    /// What decayed.
    lost_manifests: BTreeSet<Place>,
    lost_files: BTreeSet<File>,
}

/// What is there of a checkpoint's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    Whole,
    /// Something of it decayed: nobody's mistake.
    Decayed,
    /// It was never whole, or somebody removed what is still named.
    Torn,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Store {
    pub shelves: BTreeMap<IndexRef, Shelf>,
}

/// What the bytes of the manifest at this place add up to.
#[must_use]
pub fn digest(at: IndexRef, place: Place) -> Sha256 {
    let text = format!("{at:?} {place:?}");
    Sha256(*blake3::hash(text.as_bytes()).as_bytes())
}

impl Shelf {
    /// What is there of the part at this place.
    #[must_use]
    pub fn there(&self, place: Place) -> There {
        let Some(files) = self.manifests.get(&place) else {
            return if self.lost_manifests.contains(&place) { There::Decayed } else { There::Torn };
        };
        let missing: Vec<&File> = files.iter().filter(|file| !self.files.contains(file)).collect();
        if missing.is_empty() {
            There::Whole
        } else if missing.iter().all(|file| self.lost_files.contains(file)) {
            There::Decayed
        } else {
            There::Torn
        }
    }

    /// Removes what is not kept any more, as the head of `model/checkpoint.rs` allows: whoever cannot read a manifest that is kept knows
    /// too little to remove anything.
    pub fn collect(&mut self, kept: &[Checkpoint]) {
        let Some(newest) = kept.last().map(|c| (c.token, c.step)) else { return };
        let mut named = BTreeSet::new();
        for checkpoint in kept {
            for rank in 0..checkpoint.parts.len() as u32 {
                let Some(files) = self.manifests.get(&(checkpoint.token, checkpoint.step, rank)) else {
                    return;
                };
                named.extend(files.iter().copied());
            }
        }
        let is_kept = |(token, step)| kept.iter().any(|c| (c.token, c.step) == (token, step));
        self.manifests.retain(|(token, step, _), _| (*token, *step) >= newest || is_kept((*token, *step)));
        self.files.retain(|file| {
            let ((token, step, _), _) = *file;
            (token, step) >= newest || named.contains(file)
        });
    }

    /// A file, or the manifest itself, is gone.
    pub fn decay(&mut self, place: Place, file: Option<u8>) {
        match file {
            Some(number) => {
                let named = self.manifests.get(&place).into_iter().flatten().find(|file| file.1 == number);
                if let Some(file) = named.copied() {
                    self.files.remove(&file);
                    self.lost_files.insert(file);
                }
            }
            None => {
                self.manifests.remove(&place);
                self.lost_manifests.insert(place);
            }
        }
    }
}
