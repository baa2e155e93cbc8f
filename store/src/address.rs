//! What may be written as `store.url`, and the settings beside it.
//!
//! Where a store is reached has to be told to members and workers that join, so settings travel in the URL's query:
//! `s3://bucket/prefix?endpoint=http://10.0.0.9:9000`. Credentials never do.

use crate::StoreError;
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;
use url::Url;

/// How a cloud is reached, where that is not its usual way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreOptions {
    /// `https://host:port`, or `http://…` for clear text, which nothing else allows. Default: the cloud's own.
    pub endpoint: Option<String>,
    /// Of `s3://`. Default: AWS_REGION, AWS_DEFAULT_REGION, else us-east-1.
    pub region: Option<String>,
    /// Of `s3://`: the bucket is a part of the path (true, the default) or of the host's name.
    pub path_style: Option<bool>,
}

/// The section `[store]` of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `file:///absolute/path`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`. Default: what the cluster says when
    /// this machine joins.
    pub url: Option<String>,
    /// Where the store answers, for stores that are not the cloud's own, as `http://10.0.0.9:9000`. Default: the cloud's own address.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket. Default: AWS_REGION, AWS_DEFAULT_REGION, else us-east-1.
    pub region: Option<String>,
    /// Of S3: the bucket is a part of the path (true) or of the host's name (false). Default: true.
    pub path_style: Option<bool>,
}

impl StoreConfig {
    /// The URL with the settings in it; none without a URL.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`]: also settings that the kind of store does not have.
    pub fn address(&self) -> Result<Option<String>, StoreError> {
        let options = StoreOptions {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            path_style: self.path_style,
        };
        match &self.url {
            Some(url) => Ok(Some(Address::parse(url)?.with(&options)?.to_string())),
            None if options == StoreOptions::default() => Ok(None),
            None => Err(StoreError::bad_url("", "store.endpoint, region and path_style need a store.url")),
        }
    }
}

/// Whether `url` may be a store, without touching disk or network.
///
/// # Errors
/// [`StoreError::BadUrl`].
pub fn check_url(url: &str) -> Result<(), StoreError> {
    Address::parse(url).map(drop)
}

/// Whose protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloud {
    S3,
    Google,
    Azure,
}

impl Cloud {
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }
}

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    File(PathBuf),
    /// Azure calls its buckets containers.
    Cloud {
        cloud: Cloud,
        bucket: String,
        /// Without slashes at its ends; empty for none.
        prefix: String,
        options: StoreOptions,
    },
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') {
                Ok(Self::File(path.into()))
            } else {
                Err(StoreError::bad_url(text, "the path of a directory begins with a slash"))
            };
        }
        let form =
            "write file:///absolute/path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";
        // What does not parse may be anything, a secret too: it is not repeated.
        let url = Url::parse(text).map_err(|_| StoreError::bad_url("", form))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(StoreError::bad_url("", "credentials come from the environment, never from the URL"));
        }
        let bad = |reason: &str| StoreError::bad_url(text, reason);
        let cloud = match url.scheme() {
            "s3" => Cloud::S3,
            "gs" => Cloud::Google,
            "az" => Cloud::Azure,
            _ => return Err(bad(form)),
        };
        let bucket = url.host_str().unwrap_or_default().to_owned();
        if bucket.is_empty() || url.port().is_some() || url.fragment().is_some() {
            return Err(bad(form));
        }
        let prefix = percent_encoding::percent_decode_str(url.path().trim_matches('/'));
        let prefix = prefix.decode_utf8().map_err(|_| bad("its path is not UTF-8"))?.into_owned();
        if prefix.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(bad("a prefix has no `.` or `..`"));
        }
        let mut options = StoreOptions::default();
        for (key, value) in url.query_pairs() {
            match &*key {
                "endpoint" => options.endpoint = Some(value.into_owned()),
                "region" => options.region = Some(value.into_owned()),
                "path_style" => {
                    let known = value.parse().map_err(|_| bad("path_style is true or false"))?;
                    options.path_style = Some(known);
                }
                _ => return Err(bad("its query may have endpoint, region and path_style")),
            }
        }
        Self::Cloud { cloud, bucket, prefix, options: StoreOptions::default() }.with(&options)
    }

    /// With what `options` say in place of what the URL says.
    pub(crate) fn with(mut self, options: &StoreOptions) -> Result<Self, StoreError> {
        let told = self.to_string();
        let bad = |reason: &str| Err(StoreError::bad_url(&told, reason));
        let Self::Cloud { cloud, options: own, .. } = &mut self else {
            return if *options == StoreOptions::default() {
                Ok(self)
            } else {
                bad("a directory has no endpoint, region or path_style")
            };
        };
        if *cloud != Cloud::S3 && (options.region.is_some() || options.path_style.is_some()) {
            return bad("only s3:// has region and path_style");
        }
        if let Some(endpoint) = &options.endpoint {
            let sound = Url::parse(endpoint).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.query().is_none()
            });
            if !sound {
                return bad("its endpoint is no http://host:port or https://host:port");
            }
        }
        for (own, new) in [(&mut own.endpoint, &options.endpoint), (&mut own.region, &options.region)] {
            if let Some(new) = new {
                *own = Some(new.clone());
            }
        }
        own.path_style = options.path_style.or(own.path_style);
        Ok(self)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cloud, bucket, prefix, options) = match self {
            Self::File(path) => return write!(f, "file://{}", path.display()),
            Self::Cloud { cloud, bucket, prefix, options } => (cloud, bucket, prefix, options),
        };
        write!(f, "{}://{bucket}", cloud.scheme())?;
        if !prefix.is_empty() {
            let encoded = percent_encoding::utf8_percent_encode(prefix, ESCAPED);
            write!(f, "/{encoded}")?;
        }
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let path_style = options.path_style.map(|known| known.to_string());
        let all = [("endpoint", &options.endpoint), ("region", &options.region), ("path_style", &path_style)];
        for (key, value) in all {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        match query.finish() {
            query if query.is_empty() => Ok(()),
            query => write!(f, "?{query}"),
        }
    }
}

/// What ends a path or begins an escape.
const ESCAPED: &percent_encoding::AsciiSet =
    &percent_encoding::CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'"').add(b'<').add(b'>');

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        match Address::parse(text) {
            Ok(address) => address.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn what_is_a_store_is_written_back_as_it_was() {
        for url in [
            "file:///a b/c",
            "s3://bucket",
            "s3://bucket/a/b",
            "s3://bucket/a%20b",
            "gs://my_bucket/p",
            "az://container/p?endpoint=http%3A%2F%2F127.0.0.1%3A10000%2Faccount",
            "s3://b?endpoint=https%3A%2F%2Fminio%3A9000&region=eu-west-1&path_style=false",
        ] {
            assert_eq!(parse(url), url);
        }
        assert_eq!(parse("s3://bucket/a/"), "s3://bucket/a");
    }

    #[test]
    fn what_is_none_says_why_and_repeats_no_secret() {
        for (url, reason) in [
            ("", "write file:///"),
            ("/path", "write file:///"),
            ("http://host/", "write file:///"),
            ("file://relative", "begins with a slash"),
            ("s3:///prefix", "write file:///"),
            ("s3://bucket/../x?endpoint=ftp://x", "no http://"),
            ("s3://bucket?colour=red", "may have endpoint"),
            ("s3://bucket?endpoint=10.0.0.1:9000", "no http://"),
            ("s3://bucket?path_style=maybe", "true or false"),
            ("gs://bucket?region=eu", "only s3://"),
            ("s3://KEY:SECRET@bucket/p", "never from the URL"),
            ("s3://bucket?endpoint=http://KEY:SECRET@host", "no http://"),
        ] {
            let said = parse(url);
            assert!(said.starts_with("error: ") && said.contains(reason), "{url}: {said}");
        }
        assert!(!parse("s3://KEY:SECRET@bucket/p").contains("SECRET"));
    }

    #[test]
    fn settings_replace_what_the_url_says() {
        let config = StoreConfig {
            url: Some("s3://b/p?endpoint=http://old:1&region=eu".to_owned()),
            endpoint: Some("http://new:2".to_owned()),
            ..StoreConfig::default()
        };
        let told = config.address().unwrap();
        assert_eq!(told.as_deref(), Some("s3://b/p?endpoint=http%3A%2F%2Fnew%3A2&region=eu"));
        let file = StoreConfig { url: Some("file:///x".to_owned()), ..config.clone() };
        assert!(file.address().is_err(), "a directory has no endpoint");
        assert!(StoreConfig { url: None, ..config }.address().is_err());
        assert_eq!(StoreConfig::default().address().unwrap(), None);
    }
}
