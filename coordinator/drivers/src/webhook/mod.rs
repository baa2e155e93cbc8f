//! A web hook: each call is one signed POST. The receiver checks the signature and the time, and does it.
//!
//! Left out: trying again (the caller does), redirects (an order goes where the operator said), and cookies.

mod config;
mod sign;

pub use config::WebhookConfig;

use crate::wire::{self, ANSWER_MAX, Action, Order};
use crate::{Driver, DriverError, Group, process};
use futures::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use sign::Secret;
use std::time::Duration;

/// The header with the signature; see [`sign`].
const SIGNATURE: &str = "Muster-Signature";
/// The header that is the same when a call is made again.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The driver.
#[derive(Debug)]
pub struct Webhook {
    pool: String,
    /// Scheme, host and port: paths and queries of such addresses are secrets at times.
    place: String,
    url: Masked,
    secret: Secret,
    within: Duration,
    client: Client,
}

/// An address that is not shown.
struct Masked(Url);

impl std::fmt::Debug for Masked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Webhook {
    /// # Errors
    /// [`DriverError::Unusable`]: an address that is none, no secret or a short one, a file that is not there.
    pub fn open(config: &WebhookConfig, pool: &str) -> Result<Self, DriverError> {
        let unusable =
            |reason| DriverError::Unusable { what: format!("driver webhook of pool {pool}"), reason };
        let url = config.url().map_err(|error| unusable(error.to_string()))?;
        let secret = config.secret().map_err(|error| unusable(error.to_string()))?;
        let within = config.within().map_err(|error| unusable(error.to_string()))?;
        let authorities = config.authorities().map_err(|error| unusable(error.to_string()))?;
        // Refused when there is one already: any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .timeout(within);
        if let Some(authorities) = authorities {
            builder = builder.tls_certs_only(authorities);
        }
        let client = builder.build().map_err(|error| unusable(chain(&error.without_url())))?;
        Ok(Self {
            pool: pool.to_owned(),
            place: config::place(&url),
            url: Masked(url),
            secret,
            within,
            client,
        })
    }

    fn what(&self, action: Action) -> String {
        format!("webhook {} of pool {}: {}", self.place, self.pool, action.as_str())
    }

    async fn call(&self, order: &Order<'_>) -> Result<Vec<u8>, DriverError> {
        let what = || self.what(order.action);
        wire::check(order)
            .map_err(|error| DriverError::Refused { what: what(), reason: error.to_string() })?;
        let body = order.json().map_err(|e| DriverError::Garbled { what: what(), reason: e.to_string() })?;
        let mut request = self
            .client
            .post(self.url.0.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, self.secret.header(order.sent.as_second(), &body));
        if let Some(key) = key(order) {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        let answer = request.body(body).send().await.map_err(|error| self.failed(order.action, error))?;
        let status = answer.status();
        let head = Head::of(&answer);
        // Of a refusal only the first line counts, so whatever else it sends need not be read in full.
        let (body, whole) = read(answer).await.map_err(|error| self.failed(order.action, error))?;
        if status.is_success() {
            return match whole {
                true => Ok(body),
                false => Err(DriverError::Garbled {
                    what: what(),
                    reason: format!("more than {ANSWER_MAX} bytes"),
                }),
            };
        }
        Err(refusal(what(), status, head, &body))
    }

    /// Without the address, which reqwest would name.
    fn failed(&self, action: Action, error: reqwest::Error) -> DriverError {
        let what = self.what(action);
        if error.is_timeout() {
            return DriverError::TimedOut { what, seconds: self.within.as_secs_f64().ceil() as u64 };
        }
        DriverError::Unavailable { what, reason: chain(&error.without_url()) }
    }
}

/// The same call has the same key, so a receiver can see that it has done it. None where doing it again is the point (`hold`) or does no harm.
fn key(order: &Order<'_>) -> Option<String> {
    let generation = order.generation?;
    let instance = order.instance.unwrap_or_default();
    Some(format!("{}/{generation}/{}/{instance}", order.pool, order.action.as_str()))
}

/// What of an answer's headers says how to go on.
struct Head {
    retry_after: Option<Duration>,
    redirects: bool,
}

impl Head {
    fn of(answer: &Response) -> Self {
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Self {
            retry_after: seconds.map(Duration::from_secs),
            redirects: answer.status().is_redirection() && answer.headers().contains_key(LOCATION),
        }
    }
}

/// At most [`ANSWER_MAX`] bytes, and whether that was all.
async fn read(mut answer: Response) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = ANSWER_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

fn refusal(what: String, status: StatusCode, head: Head, body: &[u8]) -> DriverError {
    let text = String::from_utf8_lossy(body);
    let said = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let reason = match said {
        _ if head.redirects => format!("{status}: redirects are not followed"),
        "" => status.to_string(),
        said => format!("{status}: {}", process::line(said)),
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS => DriverError::Throttled { what, after: head.retry_after },
        StatusCode::SERVICE_UNAVAILABLE if head.retry_after.is_some() => {
            DriverError::Throttled { what, after: head.retry_after }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => DriverError::Denied { what, reason },
        StatusCode::NOT_FOUND | StatusCode::GONE => DriverError::NoGroup { what },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => DriverError::Unavailable { what, reason },
        status if status.is_server_error() => DriverError::Unavailable { what, reason },
        _ => DriverError::Refused { what, reason },
    }
}

/// An error with its causes: reqwest's own text is only "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    process::line(&text)
}

impl Driver for Webhook {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn describe(&self) -> BoxFuture<'_, Result<Option<Group>, DriverError>> {
        Box::pin(async {
            let answer = self.call(&Order::new(&self.pool, Action::Describe)).await?;
            wire::group(&answer).map_err(|error| DriverError::Garbled {
                what: self.what(Action::Describe),
                reason: error.to_string(),
            })
        })
    }

    fn set_desired(&self, desired: u32, generation: u64) -> BoxFuture<'_, Result<(), DriverError>> {
        self.order(Order::set_desired(&self.pool, desired, generation))
    }

    fn terminate<'a>(&'a self, instance: &'a str, generation: u64) -> BoxFuture<'a, Result<(), DriverError>> {
        self.order(Order::terminate(&self.pool, instance, generation))
    }

    fn hold<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), DriverError>> {
        self.order(Order::of(&self.pool, Action::Hold, instance))
    }

    fn release<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), DriverError>> {
        self.order(Order::of(&self.pool, Action::Release, instance))
    }

    fn protects(&self) -> bool {
        true
    }

    fn protect<'a>(&'a self, instances: &'a [String], on: bool) -> BoxFuture<'a, Result<(), DriverError>> {
        self.order(Order::protect(&self.pool, instances, on))
    }
}

impl Webhook {
    /// One whose answer says no more than that it is done.
    fn order<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async move { self.call(&order).await.map(drop) })
    }
}
