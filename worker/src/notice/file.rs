//! A file: it appears, and the machine goes; it goes, and the machine stays. For clouds without a metadata service of their own, for
//! hooks of providers, and for tests. Empty: at an unknown time. Else JSON: `{"in": "30s", "kind": "preemption", "detail": "…"}`.

use super::Pace;
use super::merge::{Standing, words};
use super::mouth::Mouth;
use muster_core::model::duration::Millis;
use serde::Deserialize;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep};

/// Most bytes of the file that are read.
const FILE_MAX: u64 = 64 << 10;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Contents {
    r#in: Option<Millis>,
    kind: Kind,
    detail: String,
    /// An exercise: the machine stays.
    drill: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    Preemption,
    Advice,
}

/// Looks for as long as the worker runs.
pub async fn watch(path: PathBuf, pace: Pace, mouth: Mouth) {
    let mut trouble = mouth.trouble("file");
    let mut told: Option<Vec<u8>> = None;
    // What could not be read, once: it may be half-written.
    let mut doubtful: Option<Vec<u8>> = None;
    loop {
        match read(&path).await {
            Ok(Some(bytes)) if told.as_ref() == Some(&bytes) => trouble.over(),
            Ok(Some(bytes)) => match standing(&bytes, Instant::now()) {
                Ok(standing) => {
                    trouble.over();
                    mouth.say("", Some(standing));
                    told = Some(bytes);
                }
                Err(_) if doubtful.as_ref() != Some(&bytes) => doubtful = Some(bytes),
                // That it is there says enough.
                Err(error) => {
                    trouble.met(&error);
                    mouth.say("", Some(Standing::preemption(None, "the file's contents cannot be read")));
                    told = Some(bytes);
                }
            },
            Ok(None) => {
                trouble.over();
                doubtful = None;
                if told.take().is_some() {
                    mouth.say("", None);
                }
            }
            Err(error) => trouble.met(&error),
        }
        sleep(pace.file).await;
    }
}

/// Its first bytes; none when there is no such file.
async fn read(path: &PathBuf) -> std::io::Result<Option<Vec<u8>>> {
    // What is no plain file could make the reader wait for ever.
    match tokio::fs::metadata(path).await {
        Ok(meta) if !meta.is_file() => return Err(std::io::Error::other("it is no plain file")),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = Vec::new();
    match File::open(path).await {
        Ok(file) => file.take(FILE_MAX).read_to_end(&mut bytes).await.map(|_| Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn standing(bytes: &[u8], now: Instant) -> Result<Standing, serde_json::Error> {
    let contents: Contents = match bytes.trim_ascii() {
        [] => Contents::default(),
        text => serde_json::from_slice(text)?,
    };
    let at = contents.r#in.map(|left| now + Duration::from_millis(left.get()));
    let detail =
        if contents.detail.is_empty() { "the file is there".into() } else { words(&contents.detail) };
    let standing = match contents.kind {
        Kind::Preemption => Standing::preemption(at, &detail),
        Kind::Advice => Standing::advice(at, &detail),
    };
    Ok(Standing { drill: contents.drill, ..standing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::notice::NoticeKind;

    #[test]
    fn contents_are_read() {
        let now = Instant::now();
        let read =
            |text: &str| standing(text.as_bytes(), now).map(|s| (s.kind, s.at.map(|at| at - now), s.drill));
        let thirty = Some(Duration::from_secs(30));
        assert_eq!(read("").unwrap(), (NoticeKind::Preemption, None, false));
        assert_eq!(read(" \n").unwrap(), (NoticeKind::Preemption, None, false));
        assert_eq!(read("{\"in\": \"30s\"}\n").unwrap(), (NoticeKind::Preemption, thirty, false));
        let advice = "{\"kind\": \"advice\", \"detail\": \"x\", \"drill\": true}";
        assert_eq!(read(advice).unwrap(), (NoticeKind::Advice, None, true));
        for bad in
            ["30s", "{\"in\": 30}", "{\"in\": \"-1s\"}", "{\"when\": \"now\"}", "{\"in\": \"30", "\u{0}"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
