//! Several sources, one notice: what each says stands until it takes it back; the most urgent is told.

use muster_core::model::notice::{Notice, NoticeKind, NoticeSource};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Longest text of a source that is passed on, in characters.
const DETAIL_MAX: usize = 200;
/// Most things that stand at once. What comes beyond them is less urgent than that the worker lives.
const STANDING_MAX: usize = 256;

/// What one source says of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub kind: NoticeKind,
    /// When the machine goes; none: unknown.
    pub at: Option<Instant>,
    /// In the source's words.
    pub detail: String,
    pub drill: bool,
}

impl Standing {
    /// The machine goes at `at`.
    pub fn preemption(at: Option<Instant>, detail: &str) -> Self {
        Self { kind: NoticeKind::Preemption, at, detail: words(detail), drill: false }
    }

    /// It may go.
    pub fn advice(at: Option<Instant>, detail: &str) -> Self {
        Self { kind: NoticeKind::Advice, ..Self::preemption(at, detail) }
    }

    /// The more urgent is less: what is certain before advice, the earlier before the later, a known time before an unknown one.
    fn urgency(&self, other: &Self) -> Ordering {
        let key = |s: &Self| (s.kind, s.at.is_none(), s.at);
        key(self).cmp(&key(other))
    }
}

/// Words of a stranger, fit for a log and a table.
pub fn words(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_MAX).collect();
    clean.trim().to_owned()
}

/// What a source said of one of its things.
#[derive(Debug)]
pub struct Said {
    pub source: NoticeSource,
    /// Which of its things; an event's id, for one.
    pub part: String,
    /// None: nothing any more.
    pub standing: Option<Standing>,
}

/// Everything that stands.
#[derive(Debug, Default)]
pub struct Standings {
    by: BTreeMap<(NoticeSource, String), Standing>,
    told: Option<(NoticeSource, Standing)>,
}

impl Standings {
    /// Takes in what was said at `now`. Returns what is to be told, if that is another than before.
    pub fn said(&mut self, said: Said, now: Instant) -> Option<Notice> {
        let key = (said.source, said.part);
        match said.standing {
            Some(standing) if self.by.contains_key(&key) || self.by.len() < STANDING_MAX => {
                self.by.insert(key, standing);
            }
            Some(_) => return None,
            None => {
                self.by.remove(&key);
            }
        }
        let top = self.by.iter().min_by(|(_, a), (_, b)| a.urgency(b));
        let top = top.map(|((source, _), standing)| (*source, standing.clone()));
        if top == self.told {
            return None;
        }
        self.told = top;
        Some(match &self.told {
            Some((source, standing)) => Notice {
                source: *source,
                kind: standing.kind,
                in_ms: standing.at.map(|at| {
                    u64::try_from(at.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX)
                }),
                detail: standing.detail.clone(),
                drill: standing.drill,
            },
            None => Notice {
                source: said.source,
                kind: NoticeKind::Withdrawn,
                in_ms: None,
                detail: String::new(),
                drill: false,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NoticeKind::{Advice, Preemption, Withdrawn};
    use NoticeSource::{Aws, Azure, File, Sigterm};
    use std::time::Duration;

    struct Case {
        standings: Standings,
        now: Instant,
    }

    impl Case {
        fn new() -> Self {
            Self { standings: Standings::default(), now: Instant::now() }
        }

        fn says(
            &mut self,
            source: NoticeSource,
            part: &str,
            standing: Option<Standing>,
        ) -> Option<(NoticeSource, NoticeKind, Option<u64>)> {
            let said = Said { source, part: part.to_owned(), standing };
            self.standings.said(said, self.now).map(|n| (n.source, n.kind, n.in_ms))
        }

        fn goes(&self, ms: u64) -> Option<Standing> {
            Some(Standing::preemption(Some(self.now + Duration::from_millis(ms)), "x"))
        }
    }

    #[test]
    fn the_most_urgent_is_told_and_only_when_it_changes() {
        let mut case = Case::new();
        let (soon, later) = (case.goes(30_000), case.goes(120_000));
        let advice = Some(Standing::advice(None, "maybe"));
        assert_eq!(case.says(Aws, "rebalance", advice.clone()), Some((Aws, Advice, None)));
        assert_eq!(case.says(Aws, "rebalance", advice), None);
        assert_eq!(case.says(Aws, "action", later.clone()), Some((Aws, Preemption, Some(120_000))));
        assert_eq!(case.says(Azure, "e1", soon), Some((Azure, Preemption, Some(30_000))));
        assert_eq!(case.says(Azure, "e2", later), None);
        // Whoever has no time to name does not hide one that is known.
        assert_eq!(case.says(Sigterm, "", Some(Standing::preemption(None, "stop"))), None);
    }

    #[test]
    fn one_source_cannot_take_back_what_another_says() {
        let mut case = Case::new();
        let (soon, later) = (case.goes(5_000), case.goes(9_000));
        assert_eq!(case.says(File, "", soon), Some((File, Preemption, Some(5_000))));
        assert_eq!(case.says(Aws, "action", later), None);
        assert_eq!(case.says(File, "", None), Some((Aws, Preemption, Some(9_000))));
        assert_eq!(case.says(Aws, "action", None), Some((Aws, Withdrawn, None)));
        assert_eq!(case.says(Aws, "action", None), None);
    }

    #[test]
    fn a_time_that_is_over_is_now() {
        let mut case = Case::new();
        let soon = case.goes(1_000);
        case.now += Duration::from_secs(2);
        assert_eq!(case.says(Aws, "action", soon), Some((Aws, Preemption, Some(0))));
    }

    #[test]
    fn what_strangers_say_is_bounded() {
        assert_eq!(words("a\u{1b}[31m\nb "), "a [31m b");
        assert_eq!(words(&"é".repeat(10_000)).chars().count(), DETAIL_MAX);
        let mut case = Case::new();
        for n in 0..10 * STANDING_MAX {
            let standing = case.goes(60_000 + n as u64);
            case.says(Azure, &n.to_string(), standing);
        }
        assert_eq!(case.standings.by.len(), STANDING_MAX);
    }
}
