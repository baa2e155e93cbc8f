//! Tokens: `KIND.SUBJECT.MAC`, where MAC is BLAKE3 over kind and subject, keyed with a key derived from the cluster secret.

use std::fmt;

/// The 32 random bytes that members share. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret([u8; 32]);

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

/// How long a join token is good, seconds.
pub const JOIN_SECONDS: u64 = 3600;

/// Why a token is refused. The text says nothing that helps to guess one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the call carries no token")]
    Missing,
    #[error("the token is not one of this cluster for this call")]
    Wrong,
    #[error("the join token is older than an hour")]
    Expired,
}

impl ClusterSecret {
    /// A new one from the operating system's generator.
    #[must_use]
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        Some(Self(*blake3::Hash::from_hex(text.trim()).ok()?.as_bytes()))
    }

    /// 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    fn mac(&self, kind: &str, subject: &str) -> blake3::Hash {
        let key = blake3::derive_key("muster 2026-11 tokens v1", &self.0);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(kind.as_bytes()).update(&[0]).update(subject.as_bytes());
        hasher.finalize()
    }

    fn token(&self, kind: &str, subject: &str) -> String {
        format!("{kind}.{subject}.{}", self.mac(kind, subject).to_hex())
    }

    /// The subject of a token of `kind`, verified in constant time.
    fn subject<'a>(&self, kind: &str, token: &'a str) -> Result<&'a str, TokenError> {
        let (head, mac) = token.rsplit_once('.').ok_or(TokenError::Wrong)?;
        let subject =
            head.strip_prefix(kind).and_then(|rest| rest.strip_prefix('.')).ok_or(TokenError::Wrong)?;
        let given = blake3::Hash::from_hex(mac).map_err(|_| TokenError::Wrong)?;
        // `blake3::Hash` compares in constant time.
        if given == self.mac(kind, subject) { Ok(subject) } else { Err(TokenError::Wrong) }
    }

    /// The token of a user.
    #[must_use]
    pub fn user_token(&self, user: &str) -> String {
        self.token("mu", user)
    }

    /// The token that a worker called `name` gets when it joins.
    #[must_use]
    pub fn worker_token(&self, name: &str) -> String {
        self.token("mw", name)
    }

    /// The token between members.
    #[must_use]
    pub fn member_token(&self) -> String {
        self.token("mm", "member")
    }

    /// A join token that is good for an hour from `now`, seconds since 1970. It names the cluster, so that a data directory of
    /// another one is found out before anything is dialled.
    #[must_use]
    pub fn join_token(&self, cluster: &str, now: u64) -> String {
        self.token("mj", &format!("{cluster}.{}", now + JOIN_SECONDS))
    }

    /// The user of a user token.
    ///
    /// # Errors
    /// Any other token.
    pub fn verify_user<'a>(&self, token: &'a str) -> Result<&'a str, TokenError> {
        self.subject("mu", token)
    }

    /// The name of a worker token.
    ///
    /// # Errors
    /// Any other token.
    pub fn verify_worker<'a>(&self, token: &'a str) -> Result<&'a str, TokenError> {
        self.subject("mw", token)
    }

    /// Whether it is the members' token.
    ///
    /// # Errors
    /// Any other token.
    pub fn verify_member(&self, token: &str) -> Result<(), TokenError> {
        self.subject("mm", token).map(|_| ())
    }

    /// Whether a join token is of this cluster and still good at `now`, seconds since 1970.
    ///
    /// # Errors
    /// Any other token, and one that is too old.
    pub fn verify_join(&self, token: &str, now: u64) -> Result<(), TokenError> {
        let expiry = self.subject("mj", token)?.rsplit_once('.').and_then(|(_, at)| at.parse::<u64>().ok());
        match expiry {
            Some(at) if now <= at => Ok(()),
            Some(_) => Err(TokenError::Expired),
            None => Err(TokenError::Wrong),
        }
    }
}

/// The cluster that a join token names, unverified.
#[must_use]
pub fn cluster_of_join_token(token: &str) -> Option<&str> {
    token.strip_prefix("mj.")?.split_once('.').map(|(cluster, _)| cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_own_door_and_no_other() {
        let secret = ClusterSecret::generate();
        let again = ClusterSecret::from_hex(&secret.to_hex()).expect("hex");
        assert_eq!(again.verify_user(&secret.user_token("admin")), Ok("admin"));
        assert_eq!(again.verify_worker(&secret.worker_token("gpu.rack-1")), Ok("gpu.rack-1"));
        assert_eq!(again.verify_member(&secret.member_token()), Ok(()));
        let join = secret.join_token("c0ffee", 1_000);
        assert_eq!(cluster_of_join_token(&join), Some("c0ffee"));
        assert_eq!(again.verify_join(&join, 1_000 + JOIN_SECONDS), Ok(()));
        assert_eq!(again.verify_join(&join, 1_001 + JOIN_SECONDS), Err(TokenError::Expired));
        let other = ClusterSecret::generate();
        for token in [&secret.user_token("admin"), &secret.worker_token("w"), &join, &secret.member_token()] {
            let doors = |s: &ClusterSecret| {
                [
                    s.verify_user(token).is_ok(),
                    s.verify_worker(token).is_ok(),
                    s.verify_member(token).is_ok(),
                    s.verify_join(token, 1_000).is_ok(),
                ]
                .iter()
                .filter(|open| **open)
                .count()
            };
            assert_eq!((doors(&secret), doors(&other)), (1, 0));
        }
        for bad in
            ["", ".", "mu", "mu.admin", "mu.admin.00", &secret.user_token("admin").replace("admin", "root")]
        {
            assert_eq!(secret.verify_user(bad), Err(TokenError::Wrong), "{bad}");
        }
    }
}
