//! A client of AWS: its credentials, its times, its TLS (ring) and its proxy.

use super::config::AwsAsgConfig;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::{Builder, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder as HttpBuilder, Connector};
use std::time::Duration;

/// An endpoint that does not take a connection in this time is down.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Reads files and environment; asks nobody yet.
pub async fn connect(config: &AwsAsgConfig) -> Client {
    let http = http();
    let region = Region::new(config.region.clone());
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(region.clone())
        .http_client(http.clone())
        // The caller tries again, and knows when it is no longer leader.
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_MAX)
                .operation_timeout(Duration::from_millis(config.timeout.0))
                .build(),
        );
    if !config.credentials_file.as_os_str().is_empty() {
        let file = EnvConfigFiles::builder()
            .with_file(EnvConfigFileKind::Credentials, &config.credentials_file)
            .build();
        // A profile may name a role, which is asked for over the network.
        let network = ProviderConfig::without_region().with_region(Some(region)).with_http_client(http);
        let mut provider = ProfileFileCredentialsProvider::builder().configure(&network).profile_files(file);
        if !config.profile.is_empty() {
            provider = provider.profile_name(&config.profile);
        }
        loader = loader.credentials_provider(provider.build());
    } else if !config.profile.is_empty() {
        loader = loader.profile_name(&config.profile);
    }
    // Not the loader's: an endpoint of our own is not where roles are assumed.
    let mut builder = Builder::from(&loader.load().await);
    if !config.endpoint.is_empty() {
        builder = builder.endpoint_url(&config.endpoint);
    }
    Client::from_conf(builder.build())
}

/// Through the proxy that the environment names, as other tools do.
fn http() -> SharedHttpClient {
    HttpBuilder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder()
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(Provider::Rustls(CryptoMode::Ring));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.build()
    })
}
