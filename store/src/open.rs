//! From a URL to a client: a directory, or one of three clouds with credentials of the environment.

use crate::StoreError;
use crate::address::{Address, Cloud, StoreOptions};
use crate::limits::{CONNECT_WITHIN, REQUEST_WITHIN, RETRIES, RETRY_FOR, RETRY_PAUSE, RETRY_PAUSE_MAX};
use crate::local::Local;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::signer::Signer;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use std::sync::Arc;

/// What an address leads to.
pub(crate) enum Backend {
    Local(Local),
    Cloud(Client),
}

/// One client, as the three things that it can do.
#[derive(Clone)]
pub(crate) struct Client {
    pub objects: Arc<dyn ObjectStore>,
    pub parts: Arc<dyn MultipartStore>,
    pub signer: Arc<dyn Signer>,
}

impl Client {
    fn of<T: ObjectStore + MultipartStore + Signer>(client: T) -> Self {
        let client = Arc::new(client);
        Self { objects: client.clone(), parts: client.clone(), signer: client }
    }
}

/// Opens `address`, with what `environment` says of credentials. Touches the disk of a directory, and no network. Also the prefix of all keys.
pub(crate) fn open(
    address: &Address,
    environment: &[(String, String)],
) -> Result<(Backend, Key), StoreError> {
    let (cloud, bucket, prefix, options) = match address {
        Address::File(path) => return Ok((Backend::Local(Local::open(path)?), Key::default())),
        Address::Cloud { cloud, bucket, prefix, options } => (cloud, bucket, prefix, options),
    };
    // Refused when there is one already: any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = match cloud {
        Cloud::S3 => s3(bucket, options, environment).map(Client::of),
        Cloud::Google => google(bucket, options, environment).map(Client::of),
        Cloud::Azure => azure(bucket, options, environment).map(Client::of),
    };
    let client = client.map_err(|error| StoreError::bad_url(&address.to_string(), &error.to_string()))?;
    Ok((Backend::Cloud(client), Key::from(prefix.as_str())))
}

/// The variables `PREFIX_…` as settings of a builder; those that it does not know are somebody else's.
fn settings<'a, K: std::str::FromStr>(
    environment: &'a [(String, String)],
    prefix: &'a str,
) -> impl Iterator<Item = (K, &'a str)> {
    environment.iter().filter(move |(name, _)| name.starts_with(prefix)).filter_map(|(name, value)| {
        let key = name.to_ascii_lowercase().parse().ok()?;
        Some((key, value.as_str()))
    })
}

fn s3(
    bucket: &str,
    options: &StoreOptions,
    environment: &[(String, String)],
) -> object_store::Result<AmazonS3> {
    let mut builder = settings(environment, "AWS_")
        .fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value))
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_client_options(client(options));
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    let in_path = options.path_style.unwrap_or(true);
    if let Some(endpoint) = &options.endpoint {
        // The builder wants the bucket in the endpoint when it is to be in the host's name.
        let endpoint = match endpoint.split_once("://") {
            Some((scheme, rest)) if !in_path => format!("{scheme}://{bucket}.{rest}"),
            _ => endpoint.clone(),
        };
        builder = builder.with_endpoint(endpoint);
    }
    builder.with_virtual_hosted_style_request(!in_path).build()
}

fn google(
    bucket: &str,
    options: &StoreOptions,
    environment: &[(String, String)],
) -> object_store::Result<GoogleCloudStorage> {
    let mut builder = settings(environment, "GOOGLE_")
        .fold(GoogleCloudStorageBuilder::new(), |builder, (key, value)| builder.with_config(key, value))
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_client_options(client(options));
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    builder.build()
}

fn azure(
    container: &str,
    options: &StoreOptions,
    environment: &[(String, String)],
) -> object_store::Result<MicrosoftAzure> {
    let mut builder = settings(environment, "AZURE_")
        .fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| builder.with_config(key, value))
        .with_container_name(container)
        .with_retry(retries())
        .with_client_options(client(options));
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    builder.build()
}

/// Clear text only where somebody wrote http://.
fn client(options: &StoreOptions) -> ClientOptions {
    let clear = options.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    ClientOptions::new()
        .with_allow_http(clear)
        .with_connect_timeout(CONNECT_WITHIN)
        .with_timeout(REQUEST_WITHIN)
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: RETRY_PAUSE, max_backoff: RETRY_PAUSE_MAX, base: 2.0 },
        max_retries: RETRIES,
        retry_timeout: RETRY_FOR,
    }
}
