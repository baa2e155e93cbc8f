//! What a checkpoint of one rank is made of: the JSON object that is stored last, whose digest the log holds.

use super::listing::{FILES_MAX, PATH_MAX};
use muster_core::model::checkpoint::{Sha256, manifest_key, prefix, step_prefix};
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::tree::stays_inside;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use std::collections::BTreeSet;

/// Bytes of a manifest.
pub const MANIFEST_MAX: usize = 64 << 20;
/// The format that this version writes.
const VERSION: u32 = 1;

/// Whose checkpoint, and of which step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Of {
    pub at: IndexRef,
    pub token: Token,
    pub rank: u32,
    pub step: u64,
}

/// The object itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub job: u64,
    /// The task's position in its job file.
    pub task: u32,
    pub index: u32,
    pub attempt: u32,
    pub token: u64,
    pub rank: u32,
    pub step: u64,
    pub files: Vec<FileRow>,
    #[serde(default)]
    pub dirs: Vec<DirRow>,
    #[serde(default)]
    pub links: Vec<LinkRow>,
}

/// A file and where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRow {
    pub path: String,
    pub size: u64,
    pub mode: u32,
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub sha256: Sha256,
    /// In the store.
    pub key: String,
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirRow {
    pub path: String,
    pub mode: u32,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRow {
    pub path: String,
    pub to: String,
}

/// Why bytes are no manifest that may be used.
#[derive(Debug, thiserror::Error)]
pub enum BadManifest {
    #[error("its manifest is not the one that was committed")]
    Digest,
    #[error("its manifest cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("its manifest has version {0}; this program knows {VERSION}")]
    Newer(u32),
    #[error("its manifest is of {found}, not of {expected}")]
    Foreign { found: String, expected: String },
    #[error(
        "its manifest names {0:?}, which is not the plain path of one entry in a directory that is listed"
    )]
    Path(String),
    #[error("its manifest has a link {path:?} that leads out, to {to:?}")]
    Link { path: String, to: String },
    #[error("its manifest names the object {0:?}, which is not the index' own")]
    Key(String),
    #[error("its manifest has {0} entries; at most {FILES_MAX} are allowed")]
    TooMany(usize),
}

impl Of {
    /// Where the manifest is.
    pub fn manifest_key(&self) -> String {
        manifest_key(self.at, self.token, self.step, self.rank)
    }

    /// Where the file at `path` is, if it is this checkpoint that sends it. The same path has the same key in every try, so that what an
    /// interrupted try left is written over.
    pub fn file_key(&self, path: &str) -> String {
        let name = sha256(path.as_bytes()).to_string();
        format!("{}/rank-{}/{}", step_prefix(self.at, self.token, self.step), self.rank, &name[..32])
    }
}

impl Manifest {
    /// A manifest without entries.
    pub fn new(of: Of, attempt: u32) -> Self {
        Self {
            version: VERSION,
            job: of.at.job.0,
            task: of.at.task.0,
            index: of.at.index,
            attempt,
            token: of.token.0,
            rank: of.rank,
            step: of.step,
            files: Vec::new(),
            dirs: Vec::new(),
            links: Vec::new(),
        }
    }

    /// The object's bytes. The same manifest has the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Plain data into memory: there is no way to fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the bytes of the manifest `of`; with a `digest`, they have to have it.
    ///
    /// # Errors
    /// [`BadManifest`]: it is not that manifest, or one that could write outside of a directory.
    pub fn decode(bytes: &[u8], of: Of, digest: Option<Sha256>) -> Result<Self, BadManifest> {
        if digest.is_some_and(|digest| digest != sha256(bytes)) {
            return Err(BadManifest::Digest);
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        manifest.check(of)?;
        Ok(manifest)
    }

    /// The keys of all its files.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.key.as_str())
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }

    fn check(&self, of: Of) -> Result<(), BadManifest> {
        if self.version != VERSION {
            return Err(BadManifest::Newer(self.version));
        }
        let named = Of {
            at: IndexRef::new(self.job.into(), self.task.into(), self.index),
            token: Token(self.token),
            rank: self.rank,
            step: self.step,
        };
        if named != of {
            return Err(BadManifest::Foreign { found: named.manifest_key(), expected: of.manifest_key() });
        }
        let total = self.files.len() + self.dirs.len() + self.links.len();
        if total > FILES_MAX {
            return Err(BadManifest::TooMany(total));
        }
        let dirs: BTreeSet<&str> = self.dirs.iter().map(|dir| dir.path.as_str()).collect();
        let mut seen = BTreeSet::new();
        let paths = self.files.iter().map(|file| &file.path);
        let paths = paths.chain(self.dirs.iter().map(|d| &d.path)).chain(self.links.iter().map(|l| &l.path));
        for path in paths {
            // Below directories of its own alone: nothing is written through a link.
            let parent = path.rsplit_once('/').is_none_or(|(parent, _)| dirs.contains(parent));
            if !is_plain(path) || !parent || !seen.insert(path.as_str()) {
                return Err(BadManifest::Path(path.clone()));
            }
        }
        if let Some(LinkRow { path, to }) = self.links.iter().find(|link| !stays_inside(&link.path, &link.to))
        {
            return Err(BadManifest::Link { path: path.clone(), to: to.clone() });
        }
        let own = format!("{}/", prefix(of.at));
        let is_own = |key: &str| key.strip_prefix(&own).is_some_and(is_plain);
        match self.keys().find(|key| !is_own(key)) {
            Some(key) => Err(BadManifest::Key(key.to_owned())),
            None => Ok(()),
        }
    }
}

/// The digest of bytes.
pub fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// Relative, without empty names, `.`, `..` and zero bytes.
fn is_plain(path: &str) -> bool {
    path.len() <= PATH_MAX
        && !path.contains('\0')
        && path.split('/').all(|name| !matches!(name, "" | "." | ".."))
}

/// As 64 hexadecimal digits.
pub fn to_hex<S: Serializer>(digest: &Sha256, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(digest)
}

/// From 64 hexadecimal digits.
pub fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sha256, D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut digest = [0; 32];
    let digits = text.as_bytes();
    let is_hex = digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit);
    if !is_hex {
        return Err(serde::de::Error::custom("a digest is 64 hexadecimal digits"));
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(serde::de::Error::custom)?;
        *byte = u8::from_str_radix(pair, 16).map_err(serde::de::Error::custom)?;
    }
    Ok(Sha256(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of() -> Of {
        Of { at: IndexRef::new(7.into(), 1.into(), 3), token: Token(99), rank: 0, step: 500 }
    }

    fn manifest() -> Manifest {
        let file = |path: &str| FileRow {
            path: path.into(),
            size: 5,
            mode: 0o644,
            sha256: sha256(path.as_bytes()),
            key: of().file_key(path),
        };
        Manifest {
            files: vec![file("a"), file("d/b")],
            dirs: vec![DirRow { path: "d".into(), mode: 0o755 }],
            links: vec![LinkRow { path: "l".into(), to: "d/b".into() }],
            ..Manifest::new(of(), 2)
        }
    }

    #[test]
    fn a_manifest_comes_back_and_says_digests_in_hex() {
        let bytes = manifest().encode();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let start = r#"{"version":1,"job":7,"task":1,"index":3,"attempt":2,"token":99,"rank":0,"step":500,"files":[{"path":"a","size":5,"mode":420,"sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","key":"checkpoints/7/1/3/99/500/rank-0/ca978112ca1bbdcafac231b39a23dc4d"}"#;
        assert!(text.starts_with(start), "{text}");
        assert_eq!(Manifest::decode(&bytes, of(), Some(sha256(&bytes))).unwrap(), manifest());
        assert_eq!(manifest().size(), 10);
    }

    #[test]
    fn every_flipped_byte_is_seen() {
        let bytes = manifest().encode();
        let digest = sha256(&bytes);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(matches!(Manifest::decode(&bad, of(), Some(digest)), Err(BadManifest::Digest)), "{at}");
            // Without the digest it is still never a panic.
            let _ = Manifest::decode(&bad, of(), None);
            let _ = Manifest::decode(&bytes[..at], of(), None);
        }
    }

    #[test]
    fn one_of_something_else_is_foreign() {
        let other = |change: fn(&mut Of)| {
            let mut other = of();
            change(&mut other);
            Manifest::decode(&manifest().encode(), other, None)
        };
        let changes: [fn(&mut Of); 6] = [
            |of| of.at.job.0 += 1,
            |of| of.at.task.0 += 1,
            |of| of.at.index += 1,
            |of| of.token.0 += 1,
            |of| of.rank += 1,
            |of| of.step += 1,
        ];
        for change in changes {
            assert!(matches!(other(change), Err(BadManifest::Foreign { .. })));
        }
        let newer = Manifest { version: 2, ..manifest() };
        assert!(matches!(Manifest::decode(&newer.encode(), of(), None), Err(BadManifest::Newer(2))));
    }

    #[test]
    fn one_that_could_write_or_read_elsewhere_is_refused() {
        let refused = |change: &dyn Fn(&mut Manifest)| {
            let mut bad = manifest();
            change(&mut bad);
            Manifest::decode(&bad.encode(), of(), None).unwrap_err()
        };
        for path in
            ["", "/etc/passwd", "..", "d/../../x", "./a", "d//b", "d/", "a\0", "x/b", "a/b", "l/b", "a"]
        {
            let error = refused(&|m| m.files[1].path = path.into());
            assert!(matches!(error, BadManifest::Path(_)), "{path:?}: {error}");
        }
        for to in ["/etc/passwd", "../x", "d/../..", ""] {
            let error = refused(&|m| m.links[0].to = to.into());
            assert!(matches!(error, BadManifest::Link { .. }), "{to:?}: {error}");
        }
        for key in [
            "checkpoints/7/1/4/99/500/x",
            "blobs/aa",
            "checkpoints/7/1/3/../4/x",
            "checkpoints/7/1/3/",
            "checkpoints/7/1/33/x",
        ] {
            let error = refused(&|m| m.files[0].key = key.into());
            assert!(matches!(error, BadManifest::Key(_)), "{key:?}: {error}");
        }
    }
}
