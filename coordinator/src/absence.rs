//! Says once, in the leader's log, that a member does not answer, and once that it does again.

use crate::machine::CoreMachine;
use crate::raft::{Member, Node, Role};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A member that acknowledges nothing for this long is spoken of. A restart takes less.
const ABSENT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(1);

/// What is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Silent(Member, Duration),
    Back(Member, Duration),
}

/// Who is silent since when, and of whom it was said.
#[derive(Debug, Default)]
struct Absences(BTreeMap<u64, (Instant, bool)>);

impl Absences {
    /// How the others are at `now`; a member without a time was not heard since the leader was elected.
    fn look(&mut self, now: Instant, silences: Vec<(Member, Option<Duration>)>) -> Vec<Word> {
        let mut words = Vec::new();
        self.0.retain(|id, _| silences.iter().any(|(member, _)| member.id == *id));
        for (member, silent) in silences {
            let heard = silent.and_then(|silent| now.checked_sub(silent));
            let (since, said) = self.0.entry(member.id).or_insert((heard.unwrap_or(now), false));
            let absent = now.duration_since(*since);
            match heard {
                // The two clocks are read one after the other: a little later is the same answer still.
                Some(heard) if heard > *since + LOOK / 2 => {
                    if std::mem::take(said) {
                        words.push(Word::Back(member, heard.duration_since(*since)));
                    }
                    *since = heard;
                }
                _ if absent >= ABSENT && !*said => {
                    *said = true;
                    words.push(Word::Silent(member, absent));
                }
                _ => {}
            }
        }
        words
    }
}

/// Looks while this member leads; ends with it.
pub async fn run(node: Node<CoreMachine>) {
    let mut absences = Absences::default();
    while node.status().borrow().role != Role::Stopped {
        tokio::time::sleep(LOOK).await;
        let Some(silences) = node.silences() else {
            absences = Absences::default();
            continue;
        };
        for word in absences.look(Instant::now(), silences) {
            match word {
                Word::Silent(Member { id, address, .. }, silent) => tracing::warn!(
                    address,
                    "member {id} has not answered for {} s; `muster cluster status` shows all of them",
                    silent.as_secs()
                ),
                Word::Back(Member { id, address, .. }, silent) => {
                    tracing::info!(address, "member {id} answers again, after {} s", silent.as_secs());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_does_not_answer_is_spoken_of_once_and_once_more_when_it_is_back() {
        let member = |id| Member { id, address: format!("m{id}"), voter: true };
        let start = Instant::now() + Duration::from_secs(1_000);
        let mut absences = Absences::default();
        // Member 2 answers at every look; 3 was heard last at the first; 4 is known since then and was never heard.
        let mut look = |seconds: u64, third: u64| {
            let second = Duration::from_secs;
            let silences = vec![
                (member(2), Some(Duration::from_millis(100))),
                (member(3), Some(second(seconds - third))),
                (member(4), None),
            ];
            absences.look(start + second(seconds), silences)
        };
        assert_eq!(look(0, 0), []);
        assert_eq!(look(9, 0), []);
        let both = [3, 4].map(|id| Word::Silent(member(id), ABSENT));
        assert_eq!(look(10, 0), both);
        assert_eq!(look(40, 0), []);
        assert_eq!(look(41, 41), [Word::Back(member(3), Duration::from_secs(41))]);
        assert_eq!(look(45, 41), []);
        assert_eq!(look(51, 41), [Word::Silent(member(3), ABSENT)]);
    }
}
