//! Tokens for Compute Engine: of the machine's service account, or of one whose key is in a file.
//! Sources: "Access VM metadata" and "Using OAuth 2.0 for server to server applications", Google documentation; RFC 7523.

use crate::DriverError;
use crate::http::{Http, Way, address, tame};
use crate::token::{Secret, TokenSource};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use reqwest::{Method, Url};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const METADATA: &str =
    "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
/// What a token is for. There is none for groups alone; roles narrow it.
const SCOPE: &str = "https://www.googleapis.com/auth/compute";
/// How long a token of a key is asked for: the longest that Google gives.
const LIFE: Duration = Duration::from_secs(3600);

/// Where tokens come from; `file` empty: the metadata server.
///
/// # Errors
/// The file is missing or holds no key of a service account.
pub(super) fn source(what: &str, file: &str, endpoint: &str) -> Result<Box<dyn TokenSource>, DriverError> {
    if file.is_empty() {
        let url = address(what, endpoint, METADATA, &[])?;
        return Ok(Box::new(Metadata { http: Http::new(what, Way::Metadata)?, url }));
    }
    let denied = |reason: &str| DriverError::Denied {
        what: what.to_owned(),
        reason: format!("credentials_file `{file}`: {reason}"),
    };
    let text = std::fs::read(file).map_err(|error| denied(&error.to_string()))?;
    // Without the parser's own words: they may quote the key.
    let key: KeyFile =
        serde_json::from_slice(&text).map_err(|_| denied("not the JSON key of a service account"))?;
    if key.kind != "service_account" {
        return Err(denied(&format!("its type is `{}`, not `service_account`", tame(&key.kind, &[]))));
    }
    let pair = PrivatePkcs8KeyDer::from_pem_slice(key.private_key.as_bytes())
        .ok()
        .and_then(|der| RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok())
        .ok_or_else(|| denied("its private_key is not an RSA key of PKCS #8 in PEM"))?;
    let url = address(what, endpoint, &key.token_uri, &[])?;
    let http = Http::new(what, Way::Internet)?;
    Ok(Box::new(Key {
        http,
        url,
        email: key.client_email,
        id: key.private_key_id,
        audience: key.token_uri,
        pair,
    }))
}

/// As Google writes it; what else it has is of no use here.
#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    private_key_id: String,
    private_key: String,
    token_uri: String,
}

/// As both endpoints answer.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

#[derive(Debug)]
struct Metadata {
    http: Http,
    url: Url,
}

impl TokenSource for Metadata {
    fn fetch<'a>(&'a self, what: &'a str) -> BoxFuture<'a, Result<(Secret, Duration), DriverError>> {
        Box::pin(async move {
            let request =
                self.http.request(Method::GET, self.url.clone()).header("metadata-flavor", "Google");
            granted(&self.http, what, request, &[]).await
        })
    }
}

/// The key of a service account.
struct Key {
    http: Http,
    url: Url,
    email: String,
    id: String,
    /// Whom assertions are for: the token server as the key names it, wherever it is reached.
    audience: String,
    pair: RsaKeyPair,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("email", &self.email).field("id", &self.id).finish_non_exhaustive()
    }
}

impl TokenSource for Key {
    fn fetch<'a>(&'a self, what: &'a str) -> BoxFuture<'a, Result<(Secret, Duration), DriverError>> {
        Box::pin(async move {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let assertion = Secret::new(self.assertion(what, now)?);
            // Only letters of base64url and dots: nothing to encode but the colons of the grant's name.
            let body = format!(
                "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={}",
                assertion.expose()
            );
            let request = self
                .http
                .request(Method::POST, self.url.clone())
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body);
            granted(&self.http, what, request, &[&assertion]).await
        })
    }
}

impl Key {
    /// A signed statement that we are this account, good for an hour from `now`.
    fn assertion(&self, what: &str, now: Duration) -> Result<String, DriverError> {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": self.id });
        let claims = json!({
            "iss": self.email, "scope": SCOPE, "aud": self.audience,
            "iat": now.as_secs(), "exp": (now + LIFE).as_secs(),
        });
        let part = |part: serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let mut assertion = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), assertion.as_bytes(), &mut signature)
            .map_err(|_| DriverError::Denied {
                what: what.to_owned(),
                reason: "the service account's key does not sign".to_owned(),
            })?;
        assertion.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut assertion);
        Ok(assertion)
    }
}

async fn granted(
    http: &Http,
    what: &str,
    request: reqwest::RequestBuilder,
    secrets: &[&Secret],
) -> Result<(Secret, Duration), DriverError> {
    let answer = http.send(what, request).await?;
    if !answer.is_success() {
        // The metadata server answers in words, the token server `{"error": "invalid_grant", "error_description": …}`.
        let words = tame(&String::from_utf8_lossy(&answer.body), secrets);
        return Err(match answer.refusal(what, &words) {
            // No account at all: not the group that is missing.
            DriverError::NoGroup { what } => DriverError::Denied {
                what,
                reason: format!("no token: 404 {words}; has this machine a service account?"),
            },
            DriverError::Refused { what, reason } => {
                DriverError::Denied { what, reason: format!("no token: {reason}") }
            }
            other => other,
        });
    }
    // Without the parser's own words: they may quote the token.
    let garbled = |_| DriverError::Garbled { what: what.to_owned(), reason: "not a token".to_owned() };
    let granted: Granted = serde_json::from_slice(&answer.body).map_err(garbled)?;
    Ok((Secret::new(granted.access_token), Duration::from_secs(granted.expires_in)))
}
