//! Times, spans and sizes as people say them.

use muster_core::view_doc::parse_rfc3339;
use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock, milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// A span in its two largest units: `850ms`, `12s`, `3m20s`, `5h`, `2d3h`.
#[must_use]
pub fn span(ms: i64) -> String {
    let ms = ms.max(0);
    let two = |large: i64, unit: &str, small: i64, below: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{below}") }
    };
    let s = ms / 1_000;
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{s}s"),
        60_000..3_600_000 => two(s / 60, "m", s % 60, "s"),
        3_600_000..86_400_000 => two(s / 3_600, "h", s / 60 % 60, "m"),
        _ => two(s / 86_400, "d", s / 3_600 % 24, "h"),
    }
}

/// How long ago an RFC 3339 time was; the text itself when it is none.
#[must_use]
pub fn ago(time: &str, now_ms: i64) -> String {
    parse_rfc3339(time).map_or_else(|_| time.to_owned(), |then| span(now_ms - then))
}

/// How long something took, or takes so far; empty when it has not started.
#[must_use]
pub fn took(started: Option<&str>, ended: Option<&str>, now_ms: i64) -> String {
    let Some(Ok(started)) = started.map(parse_rfc3339) else { return String::new() };
    span(ended.and_then(|e| parse_rfc3339(e).ok()).unwrap_or(now_ms) - started)
}

/// Bytes in the largest binary unit, one decimal: `64GiB`, `1.5TiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit < UNITS.len() - 1 {
        tenths = (tenths + 512) / 1_024;
        unit += 1;
    }
    let (whole, tenth) = (tenths / 10, tenths % 10);
    if tenth == 0 || whole >= 100 {
        format!("{whole}{}", UNITS[unit])
    } else {
        format!("{whole}.{tenth}{}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_read_well() {
        for (ms, text) in [
            (0, "0ms"),
            (850, "850ms"),
            (12_900, "12s"),
            (200_000, "3m20s"),
            (18_000_000, "5h"),
            (183_600_000, "2d3h"),
        ] {
            assert_eq!(span(ms), text);
        }
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (64 << 30, "64GiB"), (3 << 39, "1.5TiB")]
        {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(took(Some("1970-01-01T00:00:00Z"), Some("1970-01-01T00:00:07Z"), 0), "7s");
        assert_eq!(took(None, None, 0), "");
    }
}
