//! Who this worker is: `DIR/worker.toml`, made by joining once with the join token.

use crate::config::WorkerConfig;
use crate::machine::host_name;
use muster_failpoint::{Point, hit};
use muster_proto::channel::{Bearer, ChannelError, dial};
use muster_proto::worker::JoinRequest;
use muster_proto::worker::worker_api_client::WorkerApiClient;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The format that this version writes.
const FORMAT: u32 = 1;
const FILE: &str = "worker.toml";
/// Between two rounds through the members while none of them answers.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What joining gave. On disk with mode 0600: the token lets its holder take this worker's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub format: u32,
    pub name: String,
    pub token: String,
    pub cluster_id: String,
    pub members: Vec<String>,
    pub store_url: String,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("cannot {what} {path}: {source}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: toml::de::Error },
    #[error("{path} has format {found}; this version knows {FORMAT}")]
    Newer { path: PathBuf, found: u32 },
    #[error("{dir} belongs to worker {is:?}, not {asked:?}")]
    OtherName { dir: PathBuf, is: String, asked: String },
    #[error("the worker has never joined, and no join token is given")]
    NoToken,
    #[error("{member} refused the worker: {reason}")]
    Refused { member: String, reason: String },
    /// Passing: another member, or the same one later, may answer.
    #[error("{member} cannot answer now: {reason}")]
    NotNow { member: String, reason: String },
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

impl JoinError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoToken => "set `join_token_file`, or give --join-token-file",
            Self::Refused { .. } => {
                "is the join token still good? `muster token create --role worker` makes a new one"
            }
            Self::OtherName { .. } => "give every worker a data directory of its own",
            Self::Newer { .. } => "upgrade this program",
            Self::Channel(error) => error.hint(),
            Self::File { .. } | Self::Unreadable { .. } | Self::NotNow { .. } => "",
        }
    }
}

/// The identity in `config.data_dir`, or a new one from whichever member answers first. Goes on while none does.
///
/// # Errors
/// [`JoinError`]: nothing that waiting could mend.
pub async fn identity(config: &WorkerConfig) -> Result<Identity, JoinError> {
    if let Some(identity) = load(&config.data_dir)? {
        return match &config.name {
            Some(name) if *name != identity.name => Err(JoinError::OtherName {
                dir: config.data_dir.clone(),
                is: identity.name,
                asked: name.clone(),
            }),
            _ => Ok(identity),
        };
    }
    let name = config.name.clone().unwrap_or_else(host_name);
    let file = config.join_token_file.as_ref().ok_or(JoinError::NoToken)?;
    let token = std::fs::read_to_string(file).map_err(failed("read", file))?;
    let mut pause = RETRY_FIRST;
    loop {
        for member in &config.join {
            match ask(member, config, &name, token.trim()).await {
                Ok(identity) => {
                    save(&config.data_dir, &identity)?;
                    tracing::info!(%member, name, cluster = identity.cluster_id, "joined");
                    return Ok(identity);
                }
                Err(
                    error @ (JoinError::Channel(ChannelError::Unreachable { .. }) | JoinError::NotNow { .. }),
                ) => {
                    tracing::warn!(%error, "could not join yet");
                }
                Err(error) => return Err(error),
            }
        }
        let spread = rand::rng().random_range(0.5..1.5);
        tokio::time::sleep(pause.mul_f64(spread)).await;
        pause = (pause * 2).min(RETRY_LAST);
    }
}

/// Writes the identity anew, after the members changed.
///
/// # Errors
/// As the file system says.
pub fn save(dir: &Path, identity: &Identity) -> Result<(), JoinError> {
    let path = dir.join(FILE);
    let text = toml::to_string(identity).unwrap_or_default();
    let next = dir.join(format!("{FILE}.next"));
    let write = || -> io::Result<()> {
        hit(Point::IdentityWrite)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        hit(Point::IdentityWritten)?;
        std::fs::rename(&next, &path)
    };
    write().map_err(failed("write", &path))
}

fn load(dir: &Path) -> Result<Option<Identity>, JoinError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let path = dir.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let unreadable = |source| JoinError::Unreadable { path: path.clone(), source };
    let found = toml::from_str::<Format>(&text).map_err(unreadable)?.format;
    if found > FORMAT {
        return Err(JoinError::Newer { path, found });
    }
    toml::from_str(&text).map(Some).map_err(unreadable)
}

async fn ask(member: &str, config: &WorkerConfig, name: &str, token: &str) -> Result<Identity, JoinError> {
    let channel = dial(member, config.tls.as_ref()).await?;
    let mut client = WorkerApiClient::with_interceptor(channel, Bearer::new(token));
    let call = client.join(JoinRequest { name: name.to_owned() });
    let reply = match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) if is_passing(&status) => return Err(unanswered(member, &status)),
        Ok(Err(status)) => {
            return Err(JoinError::Refused {
                member: member.to_owned(),
                reason: status.message().to_owned(),
            });
        }
        Err(_) => return Err(unanswered(member, &tonic::Status::deadline_exceeded("no answer in 10 s"))),
    };
    Ok(Identity {
        format: FORMAT,
        name: name.to_owned(),
        token: reply.token,
        cluster_id: reply.cluster_id,
        members: reply.members,
        store_url: reply.store_url,
    })
}

/// No leader yet, or a member that goes: the next one, or the same one later.
fn is_passing(status: &tonic::Status) -> bool {
    use tonic::Code::{
        Aborted, Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unavailable, Unknown,
    };
    matches!(
        status.code(),
        Aborted | Cancelled | DeadlineExceeded | Internal | ResourceExhausted | Unavailable | Unknown
    )
}

fn unanswered(member: &str, status: &tonic::Status) -> JoinError {
    JoinError::NotNow { member: member.to_owned(), reason: status.message().to_owned() }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JoinError {
    let path = path.to_owned();
    move |source| JoinError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn an_identity_is_kept_private_and_bound_to_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let identity_of = |name: Option<&str>| {
            let mut config = WorkerConfig { data_dir: dir.path().to_owned(), ..WorkerConfig::default() };
            config.name = name.map(str::to_owned);
            async move { identity(&config).await }
        };
        assert!(matches!(identity_of(Some("w1")).await, Err(JoinError::NoToken)));
        let kept = Identity {
            format: FORMAT,
            name: "w1".into(),
            token: "t".into(),
            cluster_id: "c".into(),
            members: vec!["h:1".into()],
            store_url: "file:///s".into(),
        };
        save(dir.path(), &kept).unwrap();
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(identity_of(None).await.unwrap(), kept);
        assert!(matches!(identity_of(Some("w2")).await, Err(JoinError::OtherName { .. })));
        save(dir.path(), &Identity { format: FORMAT + 1, ..kept }).unwrap();
        assert!(matches!(identity_of(None).await, Err(JoinError::Newer { .. })));
    }
}
