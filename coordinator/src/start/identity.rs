//! Who a data directory is: a member that was here before, the first of a new cluster, or one that joins.

use super::error::StartError;
use crate::config::CoordinatorConfig;
use crate::security::{ClusterSecret, Secrets, read_token, write_private};
use crate::standing::was_removed;
use crate::storage::{MemberFile, StorageError};
use crate::store::Store;
use muster_proto::channel::{Bearer, ChannelError, dial};
use muster_proto::member::JoinMemberRequest;
use muster_proto::member::member_api_client::MemberApiClient;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Members that are just starting are waited for.
const JOIN_WITHIN: Duration = Duration::from_secs(15);
/// In a data directory that is about to join: what it asks with.
const JOINING: &str = "joining";

/// Who a member is.
pub(super) struct Identity {
    pub secrets: Secrets,
    pub member: u64,
    pub store: Store,
}

/// Reads who this directory is, or makes it a new cluster's first member, or joins.
pub(super) async fn identify(
    config: &CoordinatorConfig,
    dir: &Path,
    advertised: &str,
) -> Result<Identity, StartError> {
    let known = Secrets::load(dir)?;
    let file = MemberFile::read(dir)?;
    if let (Some(file), true) = (&file, was_removed(dir)) {
        let (member, cluster) = (file.member, file.cluster.clone());
        return Err(StartError::Removed { dir: dir.to_owned(), member, cluster });
    }
    let remembered = || std::fs::read_to_string(dir.join("store-url")).ok().map(|url| url.trim().to_owned());
    let own_store = || format!("file://{}", dir.join("store").display());
    let given = config.store.address()?;
    if let (Some(secrets), Some(file)) = (&known, &file) {
        // It has a place already. A token for another cluster is a mistake worth stopping for.
        if let Some(path) = config.join_token_file.as_deref().filter(|_| !config.join.is_empty())
            && let Ok(token) = read_token(path)
        {
            secrets.check_join_token(dir, &token)?;
        }
        let store = Store::open(&given.or_else(remembered).unwrap_or_else(own_store))?;
        // The cluster needs its members more than they need the store.
        let probed = store.clone();
        tokio::spawn(async move {
            if let Err(error) = probed.check().await {
                tracing::error!(%error, hint = error.hint(), "submissions and logs fail until the store can be used");
            }
        });
        return Ok(Identity { secrets: secrets.clone(), member: file.member, store });
    }
    if config.bootstrap {
        let secrets = known.unwrap_or_else(Secrets::generate);
        let store = usable(&given.unwrap_or_else(own_store)).await?;
        secrets.store(dir)?;
        write_private(&dir.join("store-url"), store.url())?;
        MemberFile::claim(dir, &secrets.cluster_id, 1)?;
        return Ok(Identity { secrets, member: 1, store });
    }
    let (false, Some(token_file)) = (config.join.is_empty(), &config.join_token_file) else {
        return Err(StartError::Fresh(dir.to_owned()));
    };
    let token = read_token(token_file)?;
    let reply = join(config, &token, advertised, join_request(dir)?).await?;
    let bad = || StartError::Join("the cluster answered without its secret".to_owned());
    let secrets = Secrets {
        cluster: ClusterSecret::from_hex(&reply.cluster_secret).ok_or_else(bad)?,
        cluster_id: reply.cluster_id,
    };
    let store = usable(&given.unwrap_or(reply.store_url)).await?;
    secrets.store(dir)?;
    write_private(&dir.join("store-url"), store.url())?;
    MemberFile::claim(dir, &secrets.cluster_id, reply.member)?;
    let _ = std::fs::remove_file(dir.join(JOINING));
    Ok(Identity { secrets, member: reply.member, store })
}

/// The store at `url`, which has taken, given back and deleted an object.
async fn usable(url: &str) -> Result<Store, StartError> {
    let store = Store::open(url)?;
    store.check().await?;
    Ok(store)
}

/// The id of this directory's request to join, kept until it has joined: a start that was killed in between asks again for the same
/// member id, and leaves no member behind that nobody is.
fn join_request(dir: &Path) -> Result<String, StartError> {
    let path = dir.join(JOINING);
    if let Ok(known) = std::fs::read_to_string(&path)
        && !known.trim().is_empty()
    {
        return Ok(known.trim().to_owned());
    }
    let fresh = format!("{:032x}", rand::random::<u128>());
    std::fs::create_dir_all(dir)
        .map_err(|error| StartError::Storage(StorageError::Io { path: dir.to_owned(), error }))?;
    write_private(&path, &fresh)?;
    Ok(fresh)
}

async fn join(
    config: &CoordinatorConfig,
    token: &str,
    advertised: &str,
    request: String,
) -> Result<muster_proto::member::JoinMemberReply, StartError> {
    let deadline = Instant::now() + JOIN_WITHIN;
    loop {
        let mut last = String::new();
        for address in &config.join {
            let channel = match dial(address, config.tls.as_ref()).await {
                Ok(channel) => channel,
                Err(error @ ChannelError::Unreachable { .. }) => {
                    last = error.to_string();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut member = MemberApiClient::with_interceptor(channel, Bearer::new(token));
            let asked = JoinMemberRequest {
                address: advertised.to_owned(),
                replace: config.replace.unwrap_or_default(),
                request: request.clone(),
            };
            match member.join_member(asked).await {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status)
                    if matches!(status.code(), tonic::Code::FailedPrecondition | tonic::Code::NotFound) =>
                {
                    let hint = status.metadata().get("muster-hint").and_then(|hint| hint.to_str().ok());
                    return Err(StartError::JoinRefused {
                        reason: status.message().to_owned(),
                        hint: hint.map(str::to_owned),
                    });
                }
                Err(status) if status.code() == tonic::Code::Unauthenticated => {
                    return Err(StartError::Join(format!("{address}: {}", status.message())));
                }
                Err(status) => last = format!("{address}: {}", status.message()),
            }
        }
        if Instant::now() >= deadline {
            return Err(StartError::Join(last));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
