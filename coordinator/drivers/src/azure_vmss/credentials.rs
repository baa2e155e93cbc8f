//! Tokens for Azure Resource Manager: of the machine's managed identity, or of a service principal that the environment names.
//! Sources: "How to use managed identities on an Azure VM to acquire an access token" and "Microsoft identity platform and the OAuth
//! 2.0 client credentials flow", Azure documentation.

use crate::DriverError;
use crate::http::{Http, Way, address, tame};
use crate::token::{Secret, TokenSource};
use futures::future::BoxFuture;
use reqwest::{Method, RequestBuilder, Url};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

const METADATA: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
const METADATA_VERSION: &str = "2018-02-01";
const AUTHORITY: &str = "https://login.microsoftonline.com";

/// A variable of the environment; None: it is not set, or empty.
pub(super) type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where tokens for `audience` come from: a service principal if the environment has one, the machine's identity otherwise.
///
/// # Errors
/// A secret without its client or tenant; an endpoint that is no address.
pub(super) fn source(
    what: &str,
    client_id: &str,
    endpoint: &str,
    audience: &str,
    variable: Variable<'_>,
) -> Result<Box<dyn TokenSource>, DriverError> {
    let Some(secret) = variable("AZURE_CLIENT_SECRET") else {
        let mut url = address(what, endpoint, METADATA, &[])?;
        url.query_pairs_mut()
            .append_pair("api-version", METADATA_VERSION)
            .append_pair("resource", &format!("{audience}/"));
        if !client_id.is_empty() {
            url.query_pairs_mut().append_pair("client_id", client_id);
        }
        return Ok(Box::new(Identity { http: Http::new(what, Way::Metadata)?, url }));
    };
    let (Some(tenant), Some(client)) = (variable("AZURE_TENANT_ID"), variable("AZURE_CLIENT_ID")) else {
        let reason = "AZURE_CLIENT_SECRET is set, AZURE_TENANT_ID or AZURE_CLIENT_ID is not".to_owned();
        return Err(DriverError::Denied { what: what.to_owned(), reason });
    };
    let authority = variable("AZURE_AUTHORITY_HOST").unwrap_or_else(|| AUTHORITY.to_owned());
    let url = if endpoint.is_empty() {
        address(what, &authority, AUTHORITY, &[&tenant, "oauth2", "v2.0", "token"])?
    } else {
        address(what, endpoint, AUTHORITY, &[])?
    };
    let scope = format!("{audience}/.default");
    let http = Http::new(what, Way::Internet)?;
    Ok(Box::new(Principal { http, url, client, secret: Secret::new(secret), scope }))
}

/// Of the machine that the coordinator runs on.
#[derive(Debug)]
struct Identity {
    http: Http,
    url: Url,
}

impl TokenSource for Identity {
    fn fetch<'a>(&'a self, what: &'a str) -> BoxFuture<'a, Result<(Secret, Duration), DriverError>> {
        Box::pin(async move {
            let request = self.http.request(Method::GET, self.url.clone()).header("metadata", "true");
            granted(&self.http, what, request, &[]).await
        })
    }
}

#[derive(Debug)]
struct Principal {
    http: Http,
    url: Url,
    client: String,
    secret: Secret,
    scope: String,
}

impl TokenSource for Principal {
    fn fetch<'a>(&'a self, what: &'a str) -> BoxFuture<'a, Result<(Secret, Duration), DriverError>> {
        Box::pin(async move {
            let request = self
                .http
                .request(Method::POST, self.url.clone())
                .header("content-type", "application/x-www-form-urlencoded")
                .body(self.form());
            granted(&self.http, what, request, &[&self.secret]).await
        })
    }
}

impl Principal {
    fn form(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client)
            .append_pair("client_secret", self.secret.expose())
            .append_pair("scope", &self.scope)
            .finish()
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    /// A number from Entra, the same number as text from a metadata server.
    expires_in: Value,
}

async fn granted(
    http: &Http,
    what: &str,
    request: RequestBuilder,
    secrets: &[&Secret],
) -> Result<(Secret, Duration), DriverError> {
    let answer = http.send(what, request).await?;
    if !answer.is_success() {
        // Both answer `{"error": "invalid_client", "error_description": "…"}`.
        let body = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let words = tame(&format!("{} {}", text("error"), text("error_description")), secrets);
        return Err(match answer.status {
            // The metadata service while it is renewed: it is back within 70 seconds.
            404 | 410 => DriverError::Unavailable {
                what: what.to_owned(),
                reason: format!("no token: {} {words}", answer.status),
            },
            _ => match answer.refusal(what, &words) {
                DriverError::Refused { what, reason } => {
                    DriverError::Denied { what, reason: format!("no token: {reason}") }
                }
                other => other,
            },
        });
    }
    // Without the parser's own words: they may quote the token.
    let garbled = || DriverError::Garbled { what: what.to_owned(), reason: "not a token".to_owned() };
    let granted: Granted = serde_json::from_slice(&answer.body).map_err(|_| garbled())?;
    let seconds = match &granted.expires_in {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    };
    Ok((Secret::new(granted.access_token), Duration::from_secs(seconds.ok_or_else(garbled)?)))
}
