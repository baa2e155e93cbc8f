//! The gate before every service: which token a call needs.

use super::tokens::{ClusterSecret, TokenError};
use muster_proto::channel::bearer_of;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::{Request, Status};

/// The user behind a call, in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub String);

/// Checks tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate(Arc<ClusterSecret>);

fn refused(error: TokenError) -> Status {
    let mut status = Status::unauthenticated(error.to_string());
    let hint = match error {
        TokenError::Expired => "`muster cluster add ADDRESS` makes a new one",
        TokenError::Missing | TokenError::Wrong => "choose the context of this cluster: muster context list",
    };
    let metadata = status.metadata_mut();
    metadata.insert("muster-code", tonic::metadata::MetadataValue::from_static("UNAUTHENTICATED"));
    if let Ok(hint) = hint.parse() {
        metadata.insert("muster-hint", hint);
    }
    status
}

impl Gate {
    #[must_use]
    pub fn new(secret: ClusterSecret) -> Self {
        Self(Arc::new(secret))
    }

    /// The secret, for those who make tokens.
    #[must_use]
    pub fn secret(&self) -> &ClusterSecret {
        &self.0
    }

    /// Lets users in and notes who calls.
    ///
    /// # Errors
    /// Unauthenticated.
    pub fn user<T>(&self, mut request: Request<T>) -> Result<Request<T>, Status> {
        let caller = self.user_token(bearer_of(&request))?;
        request.extensions_mut().insert(caller);
        Ok(request)
    }

    /// The user behind the value of an `Authorization` header.
    ///
    /// # Errors
    /// No token, or one that is no user's.
    pub fn caller(&self, authorization: Option<&str>) -> Result<Caller, TokenError> {
        let (scheme, token) =
            authorization.and_then(|value| value.split_once(' ')).ok_or(TokenError::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(TokenError::Missing);
        }
        self.0.verify_user(token.trim()).map(|user| Caller(user.to_owned()))
    }

    /// Lets a user in by a token that did not come in the header, for callers who can't send one.
    ///
    /// # Errors
    /// Unauthenticated.
    pub fn user_token(&self, token: Option<&str>) -> Result<Caller, Status> {
        let token = token.ok_or(TokenError::Missing).map_err(refused)?;
        self.0.verify_user(token).map(|user| Caller(user.to_owned())).map_err(refused)
    }

    /// Lets members in.
    ///
    /// # Errors
    /// Unauthenticated.
    pub fn member<T>(&self, request: &Request<T>) -> Result<(), Status> {
        bearer_of(request)
            .ok_or(TokenError::Missing)
            .and_then(|token| self.0.verify_member(token))
            .map_err(refused)
    }

    /// Lets a worker in; gives its name.
    ///
    /// # Errors
    /// Unauthenticated.
    pub fn worker<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let token = bearer_of(request).ok_or(TokenError::Missing).map_err(refused)?;
        self.0.verify_worker(token).map(str::to_owned).map_err(refused)
    }

    /// Lets in who wants to join.
    ///
    /// # Errors
    /// Unauthenticated.
    pub fn join<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        bearer_of(request)
            .ok_or(TokenError::Missing)
            .and_then(|token| self.0.verify_join(token, now))
            .map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_and_a_foreign_token_are_refused_alike() {
        let secret = ClusterSecret::generate();
        let gate = Gate::new(secret.clone());
        let with = |token: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("ascii"));
            request
        };
        assert_eq!(gate.member(&Request::new(())).expect_err("none").code(), tonic::Code::Unauthenticated);
        assert_eq!(
            gate.worker(&with(&secret.member_token())).expect_err("foreign").code(),
            tonic::Code::Unauthenticated
        );
        assert_eq!(gate.worker(&with(&secret.worker_token("w1"))).expect("worker"), "w1");
        let user = gate.user(with(&secret.user_token("ada"))).expect("user");
        assert_eq!(user.extensions().get::<Caller>(), Some(&Caller("ada".into())));
    }
}
