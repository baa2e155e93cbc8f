//! What happened, as one number: the same seed gives the same hash. The lines themselves are kept only when asked for.

use crate::rng::mix;

/// The hash so far, and perhaps the lines.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps its lines, or only their hash.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        Self { hash: 0, lines: keep.then(Vec::new) }
    }

    /// One thing that happened at `now`. `detail` is only made when lines are kept, so it must say nothing that `a` and `b` do not fix.
    pub fn note(&mut self, now: u64, what: &'static str, a: u64, b: u64, detail: impl FnOnce() -> String) {
        let mut hash = mix(self.hash ^ now);
        hash = mix(hash ^ a);
        hash = mix(hash ^ b);
        self.hash = what.bytes().fold(hash, |sum, byte| sum.rotate_left(7) ^ u64::from(byte));
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now:>8} {what:<12} {a} {b} {}", detail()));
        }
    }

    /// The hash of everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        mix(self.hash)
    }

    /// The lines, if they were kept.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
