//! Who asks: Signature Version 4, checked as AWS does it.
//! Source: "Create a signed AWS API request", IAM user guide.

use super::Refusal;
use crate::serve::Ask;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// HMAC's block for SHA-256.
const BLOCK: usize = 64;

/// Whose signatures are accepted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    id: String,
    secret: String,
}

/// Anybody's signature where there is no key; none at all is refused always.
pub fn check(key: Option<&Key>, ask: &Ask<'_>) -> Result<(), Refusal> {
    let given = ask.header("authorization").and_then(Given::parse).ok_or_else(|| Refusal {
        status: 403,
        code: "MissingAuthenticationToken",
        message: "Request is missing Authentication Token".into(),
    })?;
    let Some(key) = key else { return Ok(()) };
    if given.id != key.id {
        return Err(Refusal {
            status: 403,
            code: "InvalidClientTokenId",
            message: "The security token included in the request is invalid.".into(),
        });
    }
    let canonical = canonical(ask, given.signed);
    if given.expected(ask, key, &canonical) != given.signature {
        // AWS says all that was signed: a token of a session is among it.
        return Err(Refusal {
            status: 403,
            code: "SignatureDoesNotMatch",
            message: format!(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
                 signing method. Consult the service documentation for details.\n\nThe Canonical String for this request should have \
                 been\n'{canonical}'"
            ),
        });
    }
    Ok(())
}

/// The header, taken apart.
struct Given<'a> {
    id: &'a str,
    /// `20260101/eu-west-1/autoscaling/aws4_request`.
    scope: &'a str,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Given<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let fields: Vec<(&str, &str)> = header
            .strip_prefix(ALGORITHM)?
            .split(',')
            .filter_map(|field| field.trim().split_once('='))
            .collect();
        let field = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let (id, scope) = field("Credential")?.split_once('/')?;
        if scope.split('/').count() != 4 || !scope.ends_with("/autoscaling/aws4_request") {
            return None;
        }
        Some(Self { id, scope, signed: field("SignedHeaders")?, signature: field("Signature")? })
    }

    fn expected(&self, ask: &Ask<'_>, key: &Key, canonical: &str) -> String {
        let date = ask.header("x-amz-date").unwrap_or_default();
        let text = format!("{ALGORITHM}\n{date}\n{}\n{}", self.scope, hex(&Sha256::digest(canonical)));
        let mut derived = format!("AWS4{}", key.secret).into_bytes();
        for part in self.scope.split('/') {
            derived = hmac(&derived, part.as_bytes()).to_vec();
        }
        hex(&hmac(&derived, text.as_bytes()))
    }
}

/// What was signed. The query is empty in this protocol.
fn canonical(ask: &Ask<'_>, signed: &str) -> String {
    let mut headers = String::new();
    for name in signed.split(';') {
        let value = ask.header(name).unwrap_or_default();
        let _ = writeln!(headers, "{name}:{}", value.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let body = hex(&Sha256::digest(ask.body));
    format!("{}\n{}\n{}\n{headers}\n{signed}\n{body}", ask.method, ask.path, ask.query)
}

/// HMAC of RFC 2104 over SHA-256.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test cases 2 and 6 (a key longer than a block).
    #[test]
    fn hmac_is_the_one_of_the_standard() {
        let short = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(&short), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(&long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn a_header_without_its_parts_is_none() {
        let good = "AWS4-HMAC-SHA256 Credential=K/20260101/eu-west-1/autoscaling/aws4_request, SignedHeaders=host, Signature=ab";
        assert!(Given::parse(good).is_some_and(|given| given.id == "K" && given.signature == "ab"));
        for bad in ["", "Basic a", "AWS4-HMAC-SHA256 Credential=K, SignedHeaders=host, Signature=ab"] {
            assert!(Given::parse(bad).is_none(), "{bad}");
        }
    }
}
