//! Access tokens of clouds: kept until shortly before their end, fetched by one caller at a time, shown to nobody.

use crate::DriverError;
use futures::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A token is fetched again so long before its end, so that none ends on its way. Google's metadata server gives the same token until
/// five minutes before its end.
const SPARE: Duration = Duration::from_secs(60);
/// However long a provider says that a token lives: both give at most 24 hours.
const LIFE_MAX: Duration = Duration::from_secs(86_400);

/// A token or a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Where tokens come from.
pub(crate) trait TokenSource: Send + Sync + fmt::Debug {
    /// A new token and how long it lives. `what` is the call that needs it.
    fn fetch<'a>(&'a self, what: &'a str) -> BoxFuture<'a, Result<(Secret, Duration), DriverError>>;
}

/// One token at a time.
#[derive(Debug)]
pub(crate) struct Tokens {
    source: Box<dyn TokenSource>,
    /// Held while a token is fetched: whoever comes meanwhile waits and takes the same.
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    token: Arc<Secret>,
    until: Instant,
}

impl Tokens {
    pub fn new(source: Box<dyn TokenSource>) -> Self {
        Self { source, kept: Mutex::new(None) }
    }

    /// A token that lives for a while.
    pub async fn bearer(&self, what: &str) -> Result<Arc<Secret>, DriverError> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| Instant::now() < kept.until) {
            return Ok(kept.token.clone());
        }
        let asked = Instant::now();
        let (token, life) = self.source.fetch(what).await?;
        let token = Arc::new(token);
        *kept = Some(Kept { token: token.clone(), until: asked + life.min(LIFE_MAX).saturating_sub(SPARE) });
        Ok(token)
    }

    /// `refused` is good for nothing any more; a newer one that another caller has fetched meanwhile stays.
    pub async fn forget(&self, refused: &Secret) {
        self.kept.lock().await.take_if(|kept| *kept.token == *refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Tokens t1, t2, … that live for an hour.
    #[derive(Debug, Default)]
    struct Mint(AtomicU64);

    impl TokenSource for Mint {
        fn fetch<'a>(&'a self, _what: &'a str) -> BoxFuture<'a, Result<(Secret, Duration), DriverError>> {
            Box::pin(async {
                let n = self.0.fetch_add(1, Ordering::Relaxed) + 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok((Secret::new(format!("t{n}")), Duration::from_secs(3600)))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_kept_until_a_minute_before_its_end() {
        let tokens = Tokens::new(Box::new(Mint::default()));
        let (one, two) = tokio::join!(tokens.bearer("a"), tokens.bearer("b"));
        assert_eq!((one.unwrap().expose(), two.unwrap().expose()), ("t1", "t1"));
        tokio::time::advance(Duration::from_secs(3538)).await;
        assert_eq!(tokens.bearer("a").await.unwrap().expose(), "t1");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(tokens.bearer("a").await.unwrap().expose(), "t2");
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_token_that_was_refused_is_forgotten() {
        let tokens = Tokens::new(Box::new(Mint::default()));
        let first = tokens.bearer("a").await.unwrap();
        tokens.forget(&first).await;
        assert_eq!(tokens.bearer("a").await.unwrap().expose(), "t2");
        tokens.forget(&first).await;
        assert_eq!(tokens.bearer("a").await.unwrap().expose(), "t2");
        assert_eq!(format!("{tokens:?}").matches("t2").count(), 0);
    }
}
