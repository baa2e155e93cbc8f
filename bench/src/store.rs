//! `muster bench store`: files to the store and back, beside the plainest way to do the same: `cp` for a directory, one stream of PUT and GET
//! for a cloud. Both move the same bytes in the same run, in turns.

use crate::cli::Env;
use crate::report::{Recorder, say};
use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::future::try_join_all;
use muster_core::model::checkpoint::Sha256;
use muster_core::model::size::Size;
use muster_store::Store;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// How long a plain client may use the URL that it is given.
const SIGNED_FOR: Duration = Duration::from_secs(3_600);
/// What a plain client reads and writes at once.
const PIECE: usize = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster bench store --size 2GiB\n  muster bench store --url 's3://bucket/prefix?endpoint=http://127.0.0.1:9000' --files 4"
)]
pub struct StoreArgs {
    /// The store, with its settings in the query. Default: a directory in --dir.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Bytes of all files together.
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    size: Size,
    /// How many files they are, moved at once by us.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    files: u32,
    /// How often; figures are medians.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
}

pub async fn run(args: StoreArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    let dir = tempfile::tempdir_in(&env.dir).with_context(|| format!("cannot use {}", env.dir.display()))?;
    let url = args.url.unwrap_or_else(|| format!("file://{}", dir.path().join("store").display()));
    let store = Store::open(&url)?;
    store.check().await?;
    let bench = Bench::new(store, dir.path(), args.size.bytes() / u64::from(args.files), args.files)?;
    let mut all = Vec::new();
    for round in 1..=args.runs {
        let times = bench.round(round % 2 == 1).await;
        // What was stored is of no use to anybody, whatever happened.
        bench.clean().await?;
        let times = times?;
        say(&format!(
            "run {round}: up {:.2} s, plain {:.2} s; back {:.2} s, plain {:.2} s",
            times.up, times.plain_up, times.back, times.plain_back
        ));
        all.push(times);
    }
    let median = |of: fn(&Times) -> f64| {
        let mut values: Vec<_> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let megabytes = (bench.bytes * u64::from(args.files)) as f64 / 1e6;
    for (name, time) in [
        ("upload", median(|t| t.up)),
        ("plain_upload", median(|t| t.plain_up)),
        ("restore", median(|t| t.back)),
        ("plain_restore", median(|t| t.plain_back)),
    ] {
        record.figure(format!("{name}_rate"), megabytes / time, "MB/s");
    }
    record.figure("upload_ratio", median(|t| t.plain_up / t.up), "ratio");
    record.figure("restore_ratio", median(|t| t.plain_back / t.back), "ratio");
    if bench.root().is_some() {
        record.figure("upload_ratio_synced", median(|t| t.plain_up_synced / t.up), "ratio");
        record.note("plain: cp; an upload is on the disk when it is done, cp's is not: synced adds an fsync of each file to cp");
    } else {
        record
            .note("plain: one PUT and one GET of each file, one after the other, to a signed URL, no digest");
    }
    record.note(format!("{} files of {} bytes in all, {} runs, medians", args.files, args.size, args.runs));
    Ok(())
}

/// Seconds of one round.
struct Times {
    up: f64,
    plain_up: f64,
    plain_up_synced: f64,
    back: f64,
    plain_back: f64,
}

/// Files to move, and where to.
struct Bench {
    store: Store,
    /// Below which all objects of this run lie.
    prefix: String,
    dir: PathBuf,
    /// Of each file.
    bytes: u64,
    sources: Vec<PathBuf>,
}

impl Bench {
    fn new(store: Store, dir: &Path, bytes: u64, files: u32) -> Result<Self> {
        let (from, to) = (dir.join("from"), dir.join("to"));
        std::fs::create_dir(&from)?;
        std::fs::create_dir(to)?;
        let sources = (0..files).map(|n| from.join(format!("file-{n}"))).collect::<Vec<_>>();
        for path in &sources {
            fill(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let prefix = format!(".muster-bench/{:016x}", rand::random::<u64>());
        Ok(Self { store, prefix, dir: dir.to_owned(), bytes, sources })
    }

    /// The directory of a `file://` store.
    fn root(&self) -> Option<PathBuf> {
        self.store.url().strip_prefix("file://").map(PathBuf::from)
    }

    fn key(&self, kind: &str, number: usize) -> String {
        format!("{}/{kind}/{number}", self.prefix)
    }

    fn target(&self, kind: &str, number: usize) -> PathBuf {
        self.dir.join("to").join(format!("{kind}-{number}"))
    }

    async fn round(&self, ours_first: bool) -> Result<Times> {
        let mut times = Times { up: 0.0, plain_up: 0.0, plain_up_synced: 0.0, back: 0.0, plain_back: 0.0 };
        let mut digests = Vec::new();
        for ours in [ours_first, !ours_first] {
            settle();
            let start = Instant::now();
            if ours {
                digests = self.upload().await?;
                times.up = start.elapsed().as_secs_f64();
            } else {
                self.plain_upload().await?;
                times.plain_up = start.elapsed().as_secs_f64();
                self.sync_plain()?;
                times.plain_up_synced = start.elapsed().as_secs_f64();
            }
        }
        for ours in [ours_first, !ours_first] {
            settle();
            let start = Instant::now();
            if ours {
                self.restore(&digests).await?;
                times.back = start.elapsed().as_secs_f64();
            } else {
                self.plain_restore().await?;
                times.plain_back = start.elapsed().as_secs_f64();
            }
        }
        Ok(times)
    }

    async fn upload(&self) -> Result<Vec<Sha256>> {
        let sends = self.sources.iter().enumerate().map(async |(number, path)| {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok::<_, anyhow::Error>(self.store.put_file(&self.key("ours", number), file, self.bytes).await?)
        });
        try_join_all(sends).await
    }

    async fn restore(&self, digests: &[Sha256]) -> Result<()> {
        let fetches = digests.iter().enumerate().map(async |(number, sha256)| {
            let (key, to) = (self.key("ours", number), self.target("ours", number));
            self.store.get_file(&key, &to, self.bytes, *sha256).await
        });
        try_join_all(fetches).await?;
        Ok(())
    }

    async fn plain_upload(&self) -> Result<()> {
        if let Some(root) = self.root() {
            let to = root.join(&self.prefix).join("plain");
            std::fs::create_dir_all(&to)?;
            return copy(self.sources.iter().map(PathBuf::as_path), &to).await;
        }
        for (number, path) in self.sources.iter().enumerate() {
            let url = self.signed("plain", number, true).await?;
            let file = tokio::fs::File::open(path).await?;
            let body = futures::stream::try_unfold(file, async |mut file| {
                let mut piece = Vec::with_capacity(PIECE);
                (&mut file).take(PIECE as u64).read_to_end(&mut piece).await?;
                Ok::<_, std::io::Error>((!piece.is_empty()).then_some((piece, file)))
            });
            let put = reqwest::Client::new().put(url).header("content-length", self.bytes);
            put.body(reqwest::Body::wrap_stream(body)).send().await?.error_for_status()?;
        }
        Ok(())
    }

    async fn plain_restore(&self) -> Result<()> {
        if let Some(root) = self.root() {
            let from: Vec<_> = (0..self.sources.len())
                .map(|number| root.join(&self.prefix).join("plain").join(format!("file-{number}")))
                .collect();
            return copy(from.iter().map(PathBuf::as_path), &self.dir.join("to")).await;
        }
        for number in 0..self.sources.len() {
            let url = self.signed("plain", number, false).await?;
            let mut body = reqwest::get(url).await?.error_for_status()?.bytes_stream();
            let mut file = tokio::fs::File::create(self.target("plain", number)).await?;
            while let Some(piece) = body.next().await {
                file.write_all(&piece?).await?;
            }
            file.flush().await?;
        }
        Ok(())
    }

    fn sync_plain(&self) -> Result<()> {
        let Some(root) = self.root() else { return Ok(()) };
        for number in 0..self.sources.len() {
            File::open(root.join(&self.prefix).join("plain").join(format!("file-{number}")))?.sync_all()?;
        }
        Ok(())
    }

    async fn signed(&self, kind: &str, number: usize, writes: bool) -> Result<reqwest::Url> {
        let url = self.store.signed_url(&self.key(kind, number), writes, SIGNED_FOR).await?;
        url.context("a directory has no URLs")
    }

    async fn clean(&self) -> Result<()> {
        let keys = self.store.list(&self.prefix).await?;
        self.store.delete(keys.into_iter().map(|(key, _)| key)).await?;
        for entry in std::fs::read_dir(self.dir.join("to"))? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(())
    }
}

/// Nobody pays for what another left to be written.
fn settle() {
    nix::unistd::sync();
}

async fn copy(from: impl Iterator<Item = &Path>, to: &Path) -> Result<()> {
    let copied = Command::new("cp").args(from).arg(to).status().await.context("cannot run cp")?;
    ensure!(copied.success(), "cp ended with {copied}");
    Ok(())
}

/// Bytes that no store can make smaller.
fn fill(path: &Path, bytes: u64) -> std::io::Result<()> {
    let (mut file, mut left) = (File::create(path)?, bytes);
    let mut piece = vec![0_u8; PIECE];
    while left > 0 {
        rand::fill(&mut piece[..]);
        let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        file.write_all(&piece[..length])?;
        left -= length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_up_comes_back_and_nothing_stays() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::open(&format!("file://{}", dir.path().join("store").display())).expect("store");
        let bench = Bench::new(store, dir.path(), 3 << 20, 2).expect("files");
        let times = bench.round(true).await.expect("a round");
        assert!([times.up, times.plain_up, times.back, times.plain_back].iter().all(|time| *time > 0.0));
        let read = |name: &str| std::fs::read(dir.path().join(name)).expect("a file");
        assert!(read("from/file-1") == read("to/ours-1") && read("from/file-1") == read("to/file-1"));
        bench.clean().await.expect("clean");
        assert!(bench.store.list("").await.expect("list").is_empty());
    }
}
