//! Money as people write it, USD.

/// Two decimals, and four below a cent, so that something never reads as nothing.
#[must_use]
pub fn usd(amount: f64) -> String {
    if amount != 0.0 && amount.abs() < 0.01 { format!("{amount:.4}") } else { format!("{amount:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_reads_well() {
        for (amount, text) in [(0.0, "0.00"), (19.8, "19.80"), (0.0042, "0.0042"), (1234.567, "1234.57")] {
            assert_eq!(usd(amount), text);
        }
    }
}
