//! Warnings of a library that repeats itself: each is let through once in a while, with the number of those that were left out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// The same warning again after this long.
const EVERY: Duration = Duration::from_secs(60);

/// Writes events as `F` does, but those of one library seldom.
pub struct Seldom<F> {
    format: F,
    /// The beginning of its targets.
    repeats: &'static str,
    said: Mutex<HashMap<Identifier, Said>>,
}

/// When a warning was let through last, and how often it came since.
struct Said {
    at: Instant,
    left_out: u64,
}

impl<F> Seldom<F> {
    /// Around `format`, for targets that begin with `repeats`.
    pub fn new(format: F, repeats: &'static str) -> Self {
        Self { format, repeats, said: Mutex::default() }
    }

    /// Whether the warning of this place in the code is written now; how many before it were not.
    fn admit(&self, place: Identifier, now: Instant) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = said.get_mut(&place) else {
            said.insert(place, Said { at: now, left_out: 0 });
            return Some(0);
        };
        if now.duration_since(last.at) < EVERY {
            last.left_out += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.left_out))
    }
}

impl<S, N, F> FormatEvent<S, N> for Seldom<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        // Whoever asks for more than warnings wants to see all of it.
        if meta.target().starts_with(self.repeats) && *meta.level() == Level::WARN {
            match self.admit(meta.callsite(), Instant::now()) {
                None => return Ok(()),
                Some(0) => {}
                Some(left_out) => write!(writer, "({left_out} like this were left out) ")?,
            }
        }
        self.format.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Arc;
    use tracing_subscriber::fmt::{MakeWriter, format};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_warning_that_repeats_is_written_once_and_others_always() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .with_ansi(false)
            .event_format(Seldom::new(format().without_time(), "noisy"))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..1_000 {
                tracing::warn!(target: "noisy::replication", number, "cannot send");
                tracing::info!(target: "noisy::core", number, "a vote");
            }
            tracing::warn!(target: "noisy::replication", "another place");
            tracing::warn!("ours");
            tracing::warn!("ours");
        });
        let text = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
        let count = |part: &str| text.matches(part).count();
        let counts = ["cannot send", "a vote", "another place", "ours"].map(count);
        assert_eq!(counts, [1, 1_000, 1, 2], "{}", &text[..text.len().min(2_000)]);
    }

    #[test]
    fn what_was_left_out_is_counted() {
        struct Place;
        impl tracing::callsite::Callsite for Place {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unreachable!("only its address is looked at")
            }
        }
        static ONE: Place = Place;
        let seldom = Seldom::new((), "noisy");
        let (place, start) = (|| Identifier(&ONE), Instant::now());
        assert_eq!(seldom.admit(place(), start), Some(0));
        assert_eq!(seldom.admit(place(), start + EVERY / 2), None);
        assert_eq!(seldom.admit(place(), start + EVERY / 2), None);
        assert_eq!(seldom.admit(place(), start + EVERY), Some(2));
        assert_eq!(seldom.admit(place(), start + 2 * EVERY), Some(0));
    }
}
