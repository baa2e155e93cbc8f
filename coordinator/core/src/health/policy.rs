//! The XID policy: `xid.toml` as data, and the verdict on one event.

use crate::model::device_event::{DeviceEvent, DeviceEventKind, Fault, Judged, Returns, Verdict, cut};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The table that ships with the program.
const SHIPPED: &str = include_str!("xid.toml");
/// The same, read once: every leader has one, also in the simulator.
static READ: LazyLock<XidPolicy> = LazyLock::new(XidPolicy::read);

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Application,
    Device,
    Link,
    Driver,
    Ignore,
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Note,
    Quarantine,
}

/// One rule of the table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub class: Class,
    pub action: Action,
    #[serde(default = "operator")]
    pub returns: Returns,
    /// What it means, for people.
    pub text: String,
    /// What the vendor says to do.
    #[serde(default)]
    pub resolution: String,
    /// Where that is said, if not where the whole table says.
    #[serde(default)]
    pub source: String,
}

fn operator() -> Returns {
    Returns::Operator
}

/// A row: a code and its rule. Flattened by hand, because serde's `flatten` forgets where in the file an error is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    code: u32,
    class: Class,
    action: Action,
    #[serde(default = "operator")]
    returns: Returns,
    text: String,
    #[serde(default)]
    resolution: String,
    #[serde(default)]
    source: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    source: Option<String>,
    unlisted: Option<Rule>,
    xid: Vec<toml::Spanned<Row>>,
    event: Events,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Events {
    ecc_uncorrected: Option<Rule>,
    lost_from_bus: Option<Rule>,
    thermal: Option<Rule>,
    driver_hung: Option<Rule>,
    not_clean: Option<Rule>,
}

/// Why a file is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("line {line}: {reason}")]
    Bad { line: usize, reason: String },
    #[error("line {line}: XID {code} is listed twice")]
    Twice { line: usize, code: u32 },
}

/// Rules by fault, and one for XIDs that have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XidPolicy {
    rules: BTreeMap<Fault, Rule>,
    unlisted: Rule,
}

impl Default for XidPolicy {
    fn default() -> Self {
        Self::shipped()
    }
}

impl XidPolicy {
    /// The table that ships with the program.
    #[must_use]
    pub fn shipped() -> Self {
        READ.clone()
    }

    /// # Panics
    /// Never: a test reads it.
    fn read() -> Self {
        let unlisted = Rule {
            class: Class::Driver,
            action: Action::Note,
            returns: Returns::Operator,
            text: String::new(),
            resolution: String::new(),
            source: String::new(),
        };
        let mut policy = Self { rules: BTreeMap::new(), unlisted };
        policy.merge(SHIPPED).expect("the shipped table is sound");
        policy
    }

    /// The shipped table with the rows of an operator's file in place of its own.
    ///
    /// # Errors
    /// The first thing that is wrong in `text`, with its line.
    pub fn overridden(text: &str) -> Result<Self, PolicyError> {
        let mut policy = Self::shipped();
        policy.merge(text)?;
        Ok(policy)
    }

    fn merge(&mut self, text: &str) -> Result<(), PolicyError> {
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let file: File = toml::from_str(text).map_err(|error| PolicyError::Bad {
            line: line(error.span().map_or(0, |span| span.start)),
            reason: error.message().to_owned(),
        })?;
        let mut seen = BTreeMap::new();
        for row in file.xid {
            let line = line(row.span().start);
            let Row { code, class, action, returns, text, resolution, source } = row.into_inner();
            if seen.insert(code, ()).is_some() {
                return Err(PolicyError::Twice { line, code });
            }
            let source = if source.is_empty() { file.source.clone().unwrap_or_default() } else { source };
            let rule = Rule { class, action, returns, text, resolution, source };
            self.rules.insert(Fault::Xid(code), rule);
        }
        let Events { ecc_uncorrected, lost_from_bus, thermal, driver_hung, not_clean } = file.event;
        let events = [
            (Fault::EccUncorrected, ecc_uncorrected),
            (Fault::LostFromBus, lost_from_bus),
            (Fault::Thermal, thermal),
            (Fault::DriverHung, driver_hung),
            (Fault::NotClean, not_clean),
        ];
        self.rules.extend(events.into_iter().filter_map(|(fault, rule)| Some((fault, rule?))));
        if let Some(rule) = file.unlisted {
            self.unlisted = rule;
        }
        Ok(())
    }

    /// The rule for a fault.
    #[must_use]
    pub fn rule(&self, fault: Fault) -> &Rule {
        self.rules.get(&fault).unwrap_or(&self.unlisted)
    }

    /// Rules of XIDs, by code.
    pub fn xids(&self) -> impl Iterator<Item = (u32, &Rule)> {
        self.rules.iter().filter_map(|(fault, rule)| match fault {
            Fault::Xid(code) => Some((*code, rule)),
            _ => None,
        })
    }

    /// The event with what is to be done about it.
    #[must_use]
    pub fn judge(&self, mut event: DeviceEvent) -> Judged {
        event.detail = cut(&event.detail).to_owned();
        if let DeviceEventKind::NotClean(reason) = &mut event.kind {
            *reason = cut(reason).to_owned();
        }
        let Some(fault) = event.kind.fault() else {
            let text = "the worker looked again and found nothing wrong".to_owned();
            return Judged { event, verdict: Verdict::Recover, text };
        };
        let rule = self.rule(fault);
        let verdict = match rule.action {
            Action::Note => Verdict::Note,
            Action::Quarantine => Verdict::Quarantine { fault, returns: rule.returns },
        };
        let text = match &event.kind {
            DeviceEventKind::Xid(code) => format!("XID {code}: {}", rule.text),
            DeviceEventKind::NotClean(reason) if !reason.is_empty() => format!("{}: {reason}", rule.text),
            _ => rule.text.clone(),
        };
        Judged { event, verdict, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: DeviceEventKind) -> DeviceEvent {
        DeviceEvent { seq: 1, uuid: "GPU-a".to_owned(), kind, at: 0, detail: String::new() }
    }

    fn verdict(policy: &XidPolicy, kind: DeviceEventKind) -> Verdict {
        policy.judge(event(kind)).verdict
    }

    #[test]
    fn the_shipped_table_judges_each_class() {
        let policy = XidPolicy::shipped();
        for code in [13, 31, 43, 45, 63, 92, 94, 121, 9_999] {
            assert_eq!(verdict(&policy, DeviceEventKind::Xid(code)), Verdict::Note, "{code}");
        }
        for code in [48, 64, 74, 79, 95, 119, 120] {
            let quarantine = Verdict::Quarantine { fault: Fault::Xid(code), returns: Returns::Operator };
            assert_eq!(verdict(&policy, DeviceEventKind::Xid(code)), quarantine, "{code}");
        }
        for (kind, returns) in [
            (DeviceEventKind::EccUncorrected, Returns::Operator),
            (DeviceEventKind::LostFromBus, Returns::Operator),
            (DeviceEventKind::Thermal, Returns::Probe),
            (DeviceEventKind::DriverHung, Returns::Probe),
            (DeviceEventKind::NotClean("pid 7".to_owned()), Returns::Probe),
        ] {
            let fault = kind.fault().expect("a fault");
            assert_eq!(verdict(&policy, kind), Verdict::Quarantine { fault, returns });
        }
        assert_eq!(verdict(&policy, DeviceEventKind::Recovered), Verdict::Recover);
        assert!(policy.xids().all(|(_, rule)| rule.source.starts_with("https://docs.nvidia.com/")));
        assert_eq!(
            policy.judge(event(DeviceEventKind::Xid(79))).text,
            "XID 79: the GPU has fallen off the bus"
        );
    }

    #[test]
    fn a_file_replaces_the_rows_it_names() {
        let text = "[[xid]]\ncode = 79\nclass = \"device\"\naction = \"note\"\ntext = \"known here\"\n\n[event.thermal]\nclass = \"device\"\naction = \"note\"\ntext = \"hot room\"\n";
        let policy = XidPolicy::overridden(text).expect("sound");
        assert_eq!(verdict(&policy, DeviceEventKind::Xid(79)), Verdict::Note);
        assert_eq!(verdict(&policy, DeviceEventKind::Thermal), Verdict::Note);
        assert_ne!(verdict(&policy, DeviceEventKind::Xid(48)), Verdict::Note);
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line_and_field() {
        let row =
            |line: &str| format!("# ours\n[[xid]]\ncode = 79\nclass = \"device\"\n{line}\ntext = \"t\"\n");
        let wrong = |text: &str| XidPolicy::overridden(text).expect_err("refused").to_string();
        let action = wrong(&row("action = \"explode\""));
        assert!(action.starts_with("line 5:") && action.contains("explode"), "{action}");
        let unknown = wrong(&row("action = \"note\"\ncolour = 1"));
        assert!(unknown.starts_with("line 6:") && unknown.contains("colour"), "{unknown}");
        let missing = wrong(&row(""));
        assert!(missing.contains("action"), "{missing}");
        let twice = format!("{0}{0}", row("action = \"note\""));
        assert_eq!(XidPolicy::overridden(&twice), Err(PolicyError::Twice { line: 8, code: 79 }));
    }
}
