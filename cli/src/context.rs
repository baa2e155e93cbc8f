//! Contexts: which cluster, with which token. `contexts.toml`, mode 0600, in `$MUSTER_CONFIG_DIR`, else `$XDG_CONFIG_HOME/muster`, else `~/.config/muster`.

use crate::args::Global;
use crate::failure::{Failure, UNREACHABLE};
use muster_proto::channel::Tls;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// All contexts of this user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// Used when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Members, host:port; any of them answers.
    pub addresses: Vec<String>,
    /// The user's token.
    #[serde(default)]
    pub token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
}

/// PEM files of a TLS cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl From<&TlsFiles> for Tls {
    fn from(files: &TlsFiles) -> Self {
        Self { ca: files.ca.clone(), certificate: files.certificate.clone(), key: files.key.clone() }
    }
}

impl From<&Tls> for TlsFiles {
    fn from(tls: &Tls) -> Self {
        Self { ca: tls.ca.clone(), certificate: tls.certificate.clone(), key: tls.key.clone() }
    }
}

/// A non-empty environment variable.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The directory of contexts.
///
/// # Errors
/// None of the three places is known.
pub fn directory() -> Result<PathBuf, Failure> {
    env("MUSTER_CONFIG_DIR")
        .map(PathBuf::from)
        .or_else(|| env("XDG_CONFIG_HOME").map(|dir| Path::new(&dir).join("muster")))
        .or_else(|| env("HOME").map(|dir| Path::new(&dir).join(".config/muster")))
        .ok_or_else(|| {
            Failure::new("NO_CONFIG_DIR", "nowhere to keep contexts: HOME is not set")
                .hint("set MUSTER_CONFIG_DIR")
        })
}

impl Contexts {
    /// What is on disk; empty when there is no file.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn load() -> Result<Self, Failure> {
        Self::read(&directory()?.join("contexts.toml"))
    }

    fn read(file: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::io("read", file, &error)),
        };
        toml::from_str(&text).map_err(|error| {
            Failure::new("BAD_CONTEXTS", format!("{} is not readable: {}", file.display(), error.message()))
                .hint("correct it, or delete it and start `muster dev` again")
        })
    }

    /// Changes what is on disk, under a lock: several daemons of one machine may start at once.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn update(change: impl FnOnce(&mut Self)) -> Result<(), Failure> {
        let dir = directory()?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|e| Failure::io("create", &dir, &e))?;
        let lock = dir.join("contexts.lock");
        let file = private(&lock).map_err(|e| Failure::io("open", &lock, &e))?;
        let _held = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Failure::io("lock", &lock, &std::io::Error::from(errno)))?;
        let path = dir.join("contexts.toml");
        let mut contexts = Self::read(&path)?;
        change(&mut contexts);
        let text = toml::to_string(&contexts).map_err(|e| Failure::new("BAD_CONTEXTS", e.to_string()))?;
        let fresh = dir.join("contexts.toml.new");
        let write = || -> std::io::Result<()> {
            let _ = fs::remove_file(&fresh);
            let mut file = private(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|e| Failure::io("write", &path, &e))
    }

    /// The context called `name`.
    ///
    /// # Errors
    /// There is none; the hint names those there are.
    pub fn named(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let hint = if known.is_empty() {
                "there is none; `muster dev` writes one".to_owned()
            } else {
                format!("there is {}", known.join(", "))
            };
            Failure::new("NO_CONTEXT", format!("there is no context `{name}`")).hint(hint)
        })
    }
}

fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Writes a context under this name and makes it the current one.
///
/// # Errors
/// The directory cannot be written.
pub fn put(name: &str, context: Context) -> Result<(), Failure> {
    Contexts::update(|contexts| {
        contexts.contexts.insert(name.to_owned(), context);
        contexts.current = Some(name.to_owned());
    })
}

/// Adds a member's address to the context of its cluster, known by the token: members that start on one machine share a context, and
/// calls go to another when one dies. Gives the name of that context; with `create` there is one afterwards, and it is current.
///
/// # Errors
/// The directory cannot be written.
pub fn learn(name: &str, context: Context, create: bool) -> Result<Option<String>, Failure> {
    let mut learned = None;
    Contexts::update(|contexts| {
        match contexts
            .contexts
            .iter_mut()
            .find(|(_, known)| !known.token.is_empty() && known.token == context.token)
        {
            Some((known, existing)) => {
                existing.addresses.extend(
                    context
                        .addresses
                        .into_iter()
                        .filter(|a| !existing.addresses.contains(a))
                        .collect::<Vec<_>>(),
                );
                learned = Some(known.clone());
            }
            None if create => {
                contexts.contexts.insert(name.to_owned(), context);
                learned = Some(name.to_owned());
            }
            None => {}
        }
        if create {
            contexts.current.clone_from(&learned);
        }
    })?;
    Ok(learned)
}

/// A member joined: calls may go to it too. Only the context that a call without `--address` uses is changed.
///
/// # Errors
/// The directory cannot be written.
pub fn add_address(global: &Global, address: &str) -> Result<(), Failure> {
    change_addresses(global, |addresses| {
        if !addresses.iter().any(|known| known == address) {
            addresses.push(address.to_owned());
        }
    })
}

/// A member left: no call goes to it any more. The last address stays.
///
/// # Errors
/// The directory cannot be written.
pub fn drop_address(global: &Global, address: &str) -> Result<(), Failure> {
    change_addresses(global, |addresses| {
        if addresses.len() > 1 {
            addresses.retain(|known| known != address);
        }
    })
}

fn change_addresses(global: &Global, change: impl FnOnce(&mut Vec<String>)) -> Result<(), Failure> {
    if !global.address.is_empty() || env("MUSTER_ADDRESS").is_some() {
        return Ok(());
    }
    let asked = global.context.clone().or_else(|| env("MUSTER_CONTEXT"));
    Contexts::update(|contexts| {
        if let Some(name) = asked.or_else(|| contexts.current.clone())
            && let Some(context) = contexts.contexts.get_mut(&name)
        {
            change(&mut context.addresses);
        }
    })
}

/// What a call needs: flags over environment over the context.
///
/// # Errors
/// Nothing says where a coordinator is.
pub fn resolve(global: &Global) -> Result<Context, Failure> {
    let contexts = Contexts::load()?;
    let name = global.context.clone().or_else(|| env("MUSTER_CONTEXT"));
    let mut context = match name.as_deref().or(contexts.current.as_deref()) {
        Some(name) => Some(contexts.named(name)?.clone()),
        None => None,
    };
    let addresses = if global.address.is_empty() {
        env("MUSTER_ADDRESS").map(|text| text.split(',').map(|a| a.trim().to_owned()).collect())
    } else {
        Some(global.address.clone())
    };
    if let Some(addresses) = addresses {
        context.get_or_insert_default().addresses = addresses;
    }
    let Some(mut context) = context.filter(|context| !context.addresses.is_empty()) else {
        return Err(Failure::new(
            "NO_CONTEXT",
            "no coordinator is known: there is no context and no address",
        )
        .hint("start one with `muster dev`, or give --address HOST:PORT")
        .exit(UNREACHABLE));
    };
    if let Some(token) = env("MUSTER_TOKEN") {
        context.token = token;
    }
    Ok(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_written_as_they_are_read() {
        let context = Context { addresses: vec!["127.0.0.1:7070".into()], token: "t".into(), tls: None };
        let contexts =
            Contexts { current: Some("dev".into()), contexts: BTreeMap::from([("dev".into(), context)]) };
        assert_eq!(toml::from_str::<Contexts>(&toml::to_string(&contexts).unwrap()).unwrap(), contexts);
    }

    #[test]
    fn an_unknown_context_names_the_known_ones() {
        let contexts =
            Contexts { current: None, contexts: BTreeMap::from([("dev".into(), Context::default())]) };
        assert_eq!(contexts.named("prod").unwrap_err().hint.as_deref(), Some("there is dev"));
    }
}
