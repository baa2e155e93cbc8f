//! Who may call what. Default deny: every call carries a bearer token, and the gate of its service decides.
//!
//! All tokens are derived from the cluster secret (keyed BLAKE3), so every member verifies every token without a table and a token
//! outlives any member. Left out: roles, revocation of a single token, OIDC.

mod gate;
mod secrets;
mod tokens;

pub use gate::{Caller, Gate};
pub use secrets::{SecretError, Secrets, read_token, write_private};
pub use tokens::{ClusterSecret, JOIN_SECONDS, TokenError};
