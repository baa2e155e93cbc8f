//! Replicas that have applied the same entries say the same (I15), as far as documents show it.

use super::Violation;
use muster_core::view_doc::JobDoc;
use std::collections::BTreeMap;

/// Compares what each member says of every job. Nothing may change any more when this is asked.
#[must_use]
pub fn judge(members: &[(String, BTreeMap<u64, JobDoc>)]) -> Vec<Violation> {
    let Some(((first, reference), others)) = members.split_first() else { return Vec::new() };
    let mut found = Vec::new();
    for (name, docs) in others {
        let ids = |docs: &BTreeMap<u64, JobDoc>| docs.keys().copied().collect::<Vec<_>>();
        if ids(docs) != ids(reference) {
            let text = format!("{first} knows {} jobs, {name} {}", reference.len(), docs.len());
            found.push(Violation::new("I15", text));
        }
        for (id, doc) in docs {
            if let Some(other) = reference.get(id).filter(|other| *other != doc) {
                let text =
                    format!("job {id} differs: {first} says {}, {name} says {}", brief(other), brief(doc));
                found.push(Violation::new("I15", text));
            }
        }
    }
    found
}

fn brief(doc: &JobDoc) -> String {
    let attempts: usize = doc.tasks.iter().map(|t| t.attempts.len()).sum();
    format!("{} with {attempts} attempts and {} events", doc.state, doc.timeline.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, states: &[&str]) -> (String, BTreeMap<u64, JobDoc>) {
        let doc =
            |(id, state): (u64, &&str)| (id, JobDoc { id, state: (*state).into(), ..JobDoc::default() });
        (name.into(), (1..).zip(states).map(doc).collect())
    }

    #[test]
    fn a_member_that_says_something_else_is_found() {
        assert_eq!(judge(&[member("c1", &["failed"]), member("c2", &["failed"])]), []);
        assert_eq!(judge(&[member("c1", &["failed"]), member("c2", &["succeeded"])]).len(), 1);
        assert_eq!(judge(&[member("c1", &["failed"]), member("c2", &[])]).len(), 1);
    }
}
