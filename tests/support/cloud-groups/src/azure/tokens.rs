//! Tokens of Azure: of the instance metadata service, and for the secret of a service principal.

use super::error;
use crate::serve_json::{Ask, Reply};
use hyper::Method;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

const METADATA_PATH: &str = "/metadata/identity/oauth2/token";
const PRINCIPAL_END: &str = "/oauth2/v2.0/token";
const LIFE: Duration = Duration::from_secs(3599);

/// What was given.
#[derive(Debug)]
pub struct Tokens {
    /// How many there were.
    pub given: u64,
    /// Of a user-assigned identity, the only one that the machine has; None: the system's.
    pub client_id: Option<String>,
    /// Tenant, client and secret of a service principal.
    pub principal: Option<(String, String, String)>,
    /// Whether calls are refused although their token is good.
    pub forbidden: bool,
    alive: Vec<(String, Instant)>,
    /// Whom tokens are for.
    audience: String,
}

impl Tokens {
    pub(super) fn new(audience: &str) -> Self {
        let (client_id, principal) = (None, None);
        Self {
            given: 0,
            client_id,
            principal,
            forbidden: false,
            alive: Vec::new(),
            audience: audience.to_owned(),
        }
    }

    /// None of them is good any more.
    pub fn revoke(&mut self) {
        self.alive.clear();
    }

    /// None: it is no question for a token.
    pub(super) fn answer(&mut self, ask: &Ask<'_>) -> Option<Reply> {
        match ask.path {
            METADATA_PATH => Some(self.of_the_machine(ask)),
            path => path.strip_suffix(PRINCIPAL_END).map(|tenant| self.of_a_principal(tenant, ask)),
        }
    }

    fn of_the_machine(&mut self, ask: &Ask<'_>) -> Reply {
        let good = *ask.method == Method::GET && ask.header("metadata") == Some("true");
        if !good || ask.headers.contains_key("x-forwarded-for") {
            return refused(400, "bad_request_102", "Required metadata header not specified");
        }
        if ask.parameter("api-version") != Some("2018-02-01") {
            return refused(400, "bad_request", "api-version");
        }
        if ask.parameter("resource").map(|resource| resource.trim_end_matches('/')) != Some(&self.audience) {
            return refused(400, "invalid_resource", "The resource principal was not found in the tenant");
        }
        if ask.parameter("client_id") != self.client_id.as_deref() {
            return refused(400, "invalid_request", "Identity not found");
        }
        // Its numbers are text.
        let token = self.give();
        let life = LIFE.as_secs().to_string();
        Reply::json(
            200,
            &json!({ "access_token": token, "expires_in": life, "expires_on": "1", "token_type": "Bearer" }),
        )
    }

    fn of_a_principal(&mut self, tenant: &str, ask: &Ask<'_>) -> Reply {
        let field = |name: &str| ask.field(name).unwrap_or_default();
        let given = (tenant.trim_matches('/').to_owned(), field("client_id"), field("client_secret"));
        let good = *ask.method == Method::POST
            && field("grant_type") == "client_credentials"
            && field("scope") == format!("{}/.default", self.audience);
        if !good {
            return refused(400, "invalid_request", "AADSTS900144");
        }
        if self.principal.as_ref() != Some(&given) {
            // It quotes what it got, as servers do when they mean well.
            let description = format!("AADSTS7000215: Invalid client secret provided: {}", given.2);
            return refused(401, "invalid_client", &description);
        }
        let token = self.give();
        Reply::json(
            200,
            &json!({ "access_token": token, "expires_in": LIFE.as_secs(), "token_type": "Bearer" }),
        )
    }

    fn give(&mut self) -> String {
        self.given += 1;
        let token = format!("eyJ0.secret-{}", self.given);
        self.alive.push((token.clone(), Instant::now() + LIFE));
        token
    }

    pub(super) fn check(&self, ask: &Ask<'_>) -> Result<(), Reply> {
        let given = ask.header("authorization").unwrap_or_default();
        let token = given.strip_prefix("Bearer ").unwrap_or_default();
        let now = Instant::now();
        if !self.alive.iter().any(|(alive, ends)| alive == token && now < *ends) {
            return Err(error(
                401,
                "InvalidAuthenticationToken",
                &format!("The access token is invalid: {given}"),
            ));
        }
        if self.forbidden {
            let message = format!("The client with {given} does not have authorization to perform action");
            return Err(error(403, "AuthorizationFailed", &message));
        }
        Ok(())
    }
}

fn refused(status: u16, error: &str, description: &str) -> Reply {
    Reply::json(status, &json!({ "error": error, "error_description": description }))
}
