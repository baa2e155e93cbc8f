//! Tokens of Google: of the metadata server, and for the signed statement of a service account.

use super::error;
use crate::serve_json::{Ask, Reply};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Method;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// The path of the token server.
const TOKEN_PATH: &str = "/oauth2/token";
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// A token that is given again is not shorter than this.
const LEFT_MIN: Duration = Duration::from_secs(300);
const LIFE: Duration = Duration::from_secs(3599);

/// What was given.
#[derive(Debug, Default)]
pub struct Tokens {
    /// How many there were.
    pub given: u64,
    alive: Vec<(String, Instant)>,
    accounts: Vec<Account>,
    /// Whether calls are refused although their token is good.
    pub forbidden: bool,
}

#[derive(Debug)]
struct Account {
    email: String,
    audience: String,
    public_key: Vec<u8>,
}

impl Tokens {
    /// An account whose statements are believed: signed with the key of `public_key` (PKCS #1, DER), for `audience`.
    pub fn trust(&mut self, email: &str, audience: &str, public_key: &[u8]) {
        let (email, audience) = (email.to_owned(), audience.to_owned());
        self.accounts.push(Account { email, audience, public_key: public_key.to_vec() });
    }

    /// None of them is good any more.
    pub fn revoke(&mut self) {
        self.alive.clear();
    }

    /// None: it is no question for a token.
    pub(super) fn answer(&mut self, ask: &Ask<'_>) -> Option<Reply> {
        match ask.path {
            METADATA_PATH => Some(self.of_the_machine(ask)),
            TOKEN_PATH => Some(self.of_an_account(ask)),
            _ => None,
        }
    }

    /// The same again while it lives for five minutes more.
    fn of_the_machine(&mut self, ask: &Ask<'_>) -> Reply {
        if *ask.method != Method::GET || ask.header("metadata-flavor") != Some("Google") {
            return Reply::new(403, "Missing Metadata-Flavor:Google header.");
        }
        let now = Instant::now();
        let kept = self.alive.iter().find(|(_, ends)| *ends >= now + LEFT_MIN).cloned();
        let (token, ends) = kept.unwrap_or_else(|| self.give(now));
        granted(&token, ends - now)
    }

    fn of_an_account(&mut self, ask: &Ask<'_>) -> Reply {
        let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        if *ask.method != Method::POST || ask.field("grant_type").as_deref() != Some(grant) {
            return refused("unsupported_grant_type", "Invalid grant_type");
        }
        let assertion = ask.field("assertion").unwrap_or_default();
        match self.believe(&assertion) {
            Some(()) => {
                let (token, _) = self.give(Instant::now());
                granted(&token, LIFE)
            }
            // It quotes what it got, as servers do when they mean well.
            None => refused("invalid_grant", &format!("Invalid JWT Signature: {assertion}")),
        }
    }

    fn believe(&self, assertion: &str) -> Option<()> {
        let (signed, signature) = assertion.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let part = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let (header, claims) = (part(header)?, part(claims)?);
        let account = self.accounts.iter().find(|account| claims["iss"] == account.email.as_str())?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &account.public_key)
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        let life = claims["exp"].as_u64()?.checked_sub(claims["iat"].as_u64()?)?;
        let good = header["alg"] == "RS256"
            && claims["aud"] == account.audience.as_str()
            && claims["scope"].as_str()?.starts_with("https://www.googleapis.com/auth/")
            && life <= 3600;
        good.then_some(())
    }

    fn give(&mut self, now: Instant) -> (String, Instant) {
        self.given += 1;
        let token = (format!("ya29.secret-{}", self.given), now + LIFE);
        self.alive.push(token.clone());
        token
    }

    pub(super) fn check(&self, ask: &Ask<'_>) -> Result<(), Reply> {
        let given = ask.header("authorization").unwrap_or_default();
        let token = given.strip_prefix("Bearer ").unwrap_or_default();
        let now = Instant::now();
        if !self.alive.iter().any(|(alive, ends)| alive == token && now < *ends) {
            return Err(error(401, "authError", &format!("Invalid Credentials: {given}")));
        }
        if self.forbidden {
            return Err(error(403, "forbidden", &format!("Required permission is missing for {given}")));
        }
        Ok(())
    }
}

fn granted(token: &str, life: Duration) -> Reply {
    let body = json!({ "access_token": token, "expires_in": life.as_secs(), "token_type": "Bearer" });
    Reply::json(200, &body)
}

fn refused(error: &str, description: &str) -> Reply {
    Reply::json(400, &json!({ "error": error, "error_description": description }))
}
