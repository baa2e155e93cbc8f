//! Signatures of web hooks: `t=UNIX_SECONDS,v1=HEX`, where HEX is HMAC-SHA256 of the secret over `UNIX_SECONDS.BODY`.
//! Source: "Verify webhook signatures manually", Stripe's documentation; receivers have code for it.

use ring::hmac;
use std::fmt::{self, Write as _};

/// The fewest bytes of a secret: 16 random ones are 128 bits.
pub const SECRET_MIN: usize = 16;

/// What both sides know. It is never shown.
pub struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Secret {
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The header's value for `body`, sent at `at` (Unix time, seconds).
    pub fn header(&self, at: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(at.to_string().as_bytes());
        context.update(b".");
        context.update(body);
        let mut header = format!("t={at},v1=");
        for byte in context.sign().as_ref() {
            let _ = write!(header, "{byte:02x}");
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '%s' '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef`
    #[test]
    fn a_signature_is_what_other_tools_make() {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef");
        let expected = "t=1700000000,v1=417adf36b901772f658597a76d329694e335e65fc0849d7715c3ca33406309b5";
        assert_eq!(secret.header(1_700_000_000, b"{}"), expected);
        assert_eq!(format!("{secret:?}"), "…");
    }
}
