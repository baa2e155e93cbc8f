//! The store against a real S3-compatible server (moto) with faults in between, against a directory, and the shape of what is asked of
//! Google and Azure, of which there is no server to test with.

#![allow(clippy::print_stderr)] // a test that is skipped says why

mod directory;
mod faults;
mod moto;
mod s3;
mod server;
mod shape;

use moto::Moto;
use muster_core::model::checkpoint::Sha256;
use muster_store::{Store, StoreOptions};
use server::Server;
use sha2::{Digest, Sha256 as Hasher};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Three parts: two of 16 MiB and a rest.
pub const LARGE: usize = (32 << 20) + 12_345;

/// A bucket with our server before it.
pub struct Rig {
    pub server: Server,
    pub store: Store,
    pub dir: tempfile::TempDir,
    moto: Moto,
}

impl Rig {
    /// None where there is no server to be had.
    pub async fn new() -> Option<Self> {
        // For the clients of the tests themselves; a store has seen to it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let moto = Moto::start()?;
        let server = Server::start(Some(moto.address)).await;
        let made =
            reqwest::Client::new().put(format!("http://{}/bucket", moto.address)).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
        let store = open(&format!("s3://bucket/some/prefix?endpoint=http://{}", server.address));
        Some(Self { server, store, dir: tempfile::tempdir().unwrap(), moto })
    }

    /// A file with bytes that repeat nowhere near, and their digest.
    pub fn file(&self, bytes: usize) -> (File, Sha256) {
        file(self.dir.path(), bytes)
    }

    /// What nobody else has.
    pub fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the server knows of uploads that were neither completed nor given up.
    pub async fn open_uploads(&self) -> usize {
        let url = format!("http://{}/bucket?uploads", self.moto.address);
        reqwest::get(url).await.unwrap().text().await.unwrap().matches("<Upload>").count()
    }

    /// Files that are no longer being written, without the given ones.
    pub fn left_in_dir(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

pub fn credentials() -> Vec<(String, String)> {
    let pairs = [("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "testing-secret")];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

pub fn open(url: &str) -> Store {
    Store::open_in(url, &StoreOptions::default(), &credentials()).unwrap()
}

pub fn file(dir: &Path, bytes: usize) -> (File, Sha256) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(bytes);
    let mut file = tempfile::tempfile_in(dir).unwrap();
    std::io::Write::write_all(&mut file, &all).unwrap();
    (file, Sha256(Hasher::digest(&all).into()))
}

pub fn digest(path: &Path) -> Sha256 {
    Sha256(Hasher::digest(std::fs::read(path).unwrap()).into())
}
