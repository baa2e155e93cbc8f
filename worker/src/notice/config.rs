//! `[notice]`: where a worker hears that its machine goes.

use super::http::{Endpoint, EndpointError};
use muster_core::model::duration::Millis;
use muster_core::model::notice::NoticeSource;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// In an endpoint or path: the worker's name. Workers of one environment can so have one each.
const WORKER: &str = "{worker}";
/// What AWS says of a machine that it takes back.
pub(super) const AWS_NOTICE: Millis = Millis::from_secs(120);
/// The least that Azure promises for a machine that it takes back.
const AZURE_NOTICE: Millis = Millis::from_secs(30);

/// The sources of preemption notices.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoticeConfig {
    /// Any of `aws gcp azure systemd file sigterm`; empty for none. Default: what the machine is.
    pub sources: Option<Vec<NoticeSource>>,
    /// Default: `http://169.254.169.254`. `{worker}` in this and the other endpoints stands for the worker's name.
    pub aws_endpoint: String,
    /// Default: `http://metadata.google.internal`.
    pub gcp_endpoint: String,
    /// Default: `http://169.254.169.254`.
    pub azure_endpoint: String,
    /// The file whose appearing is a notice. `{worker}` stands for the worker's name.
    pub file: Option<PathBuf>,
    /// What AWS's rebalance recommendation does. Default: `drain`.
    pub rebalance: Rebalance,
    /// How long before a GCP machine goes `preempted` turns `TRUE`: more where the machine was made with
    /// `--preemption-notice-duration`. Default: 30s.
    pub gcp_notice: Millis,
    /// Tell Azure to go ahead once nothing runs here any more. Default: true.
    pub azure_acknowledge: bool,
}

/// What a recommendation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rebalance {
    /// Nothing new is placed on the machine; what runs may finish.
    #[default]
    Drain,
    Ignore,
}

impl Default for NoticeConfig {
    fn default() -> Self {
        Self {
            sources: None,
            aws_endpoint: "http://169.254.169.254".into(),
            gcp_endpoint: "http://metadata.google.internal".into(),
            azure_endpoint: "http://169.254.169.254".into(),
            file: None,
            rebalance: Rebalance::Drain,
            gcp_notice: Millis::from_secs(30),
            azure_acknowledge: true,
        }
    }
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    #[error("notice.{key} {source}")]
    Endpoint { key: &'static str, source: EndpointError },
    #[error("`operator` is no source of notices: operators call")]
    Operator,
    #[error("the notice source `file` has no file to look at")]
    NoFile,
    #[error("notice.file is set, but `file` is not among notice.sources")]
    FileUnused,
}

impl NoticeError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Endpoint { .. } => "for example http://169.254.169.254",
            Self::Operator => "use `muster worker drain --deadline`, or take it out of notice.sources",
            Self::NoFile => "set `notice.file`, or give --notice-file",
            Self::FileUnused => "add `file` to notice.sources, or take notice.file out",
        }
    }
}

impl NoticeConfig {
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), NoticeError> {
        let lists = |source| self.sources.as_ref().is_some_and(|sources| sources.contains(&source));
        if lists(NoticeSource::Operator) {
            return Err(NoticeError::Operator);
        }
        if lists(NoticeSource::File) && self.file.is_none() {
            return Err(NoticeError::NoFile);
        }
        if self.sources.is_some() && self.file.is_some() && !lists(NoticeSource::File) {
            return Err(NoticeError::FileUnused);
        }
        let endpoints = [
            ("aws_endpoint", &self.aws_endpoint),
            ("gcp_endpoint", &self.gcp_endpoint),
            ("azure_endpoint", &self.azure_endpoint),
        ];
        for (key, text) in endpoints {
            endpoint(text, "w").map_err(|source| NoticeError::Endpoint { key, source })?;
        }
        Ok(())
    }

    /// The shortest time from a notice of these sources until the machine goes; none when no source promises any.
    #[must_use]
    pub fn shortest(&self, sources: &[NoticeSource]) -> Option<Millis> {
        let of = |source: &NoticeSource| match source {
            NoticeSource::Aws => Some(AWS_NOTICE),
            NoticeSource::Gcp => Some(self.gcp_notice),
            NoticeSource::Azure => Some(AZURE_NOTICE),
            NoticeSource::Systemd | NoticeSource::File | NoticeSource::Sigterm | NoticeSource::Operator => {
                None
            }
        };
        sources.iter().filter_map(of).min()
    }
}

/// Where this worker asks.
///
/// # Errors
/// It is no address that can be asked.
pub(super) fn endpoint(text: &str, worker: &str) -> Result<Endpoint, EndpointError> {
    Endpoint::parse(&text.replace(WORKER, worker))
}

/// Which file this worker looks at.
pub(super) fn file(path: &Path, worker: &str) -> PathBuf {
    path.to_str().map_or_else(|| path.to_owned(), |text| text.replace(WORKER, worker).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use NoticeSource::{Aws, Azure, File, Gcp, Operator, Sigterm};

    #[test]
    fn a_section_is_read_and_unknown_keys_are_refused() {
        let text = "sources = [\"aws\", \"sigterm\"]\nrebalance = \"ignore\"\ngcp_notice = \"120s\"\n";
        let config: NoticeConfig = toml::from_str(text).unwrap();
        assert_eq!(config.sources, Some(vec![Aws, Sigterm]));
        assert_eq!((config.rebalance, config.gcp_notice), (Rebalance::Ignore, Millis(120_000)));
        assert!(config.validate().is_ok());
        assert!(toml::from_str::<NoticeConfig>("endpoint = \"x\"").is_err());
        assert!(toml::from_str::<NoticeConfig>("sources = [\"ibm\"]").is_err());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let with = |change: &dyn Fn(&mut NoticeConfig)| {
            let mut config = NoticeConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(
            with(&|c| c.sources = Some(vec![File])),
            "the notice source `file` has no file to look at"
        );
        assert!(with(&|c| c.sources = Some(vec![Operator])).contains("operators call"));
        let unused = with(&|c| (c.sources, c.file) = (Some(vec![Aws]), Some("/x".into())));
        assert!(unused.contains("not among"), "{unused}");
        let https = with(&|c| c.aws_endpoint = "https://h".into());
        assert_eq!(https, "notice.aws_endpoint \"https://h\" does not begin with http://");
    }

    #[test]
    fn the_shortest_notice_counts() {
        let config = NoticeConfig::default();
        assert_eq!(config.shortest(&[Aws, Azure]), Some(Millis(30_000)));
        assert_eq!(config.shortest(&[Aws, File]), Some(Millis(120_000)));
        assert_eq!(config.shortest(&[Sigterm]), None);
        let opted = NoticeConfig { gcp_notice: Millis(120_000), ..config };
        assert_eq!(opted.shortest(&[Gcp]), Some(Millis(120_000)));
    }

    #[test]
    fn each_worker_has_its_own_path() {
        let at = endpoint("http://127.0.0.1:80/{worker}/x", "w2").unwrap();
        assert_eq!(at.to_string(), "http://127.0.0.1:80/w2/x");
        assert_eq!(file(Path::new("/run/{worker}.notice"), "w2"), Path::new("/run/w2.notice"));
    }
}
