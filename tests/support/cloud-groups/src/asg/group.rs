//! One group: how many machines it means to have, and what becomes of each.
//!
//! ```text
//! Pending → InService ⇄ Standby
//!     └─────────┴─→ Terminating:Wait → Terminating:Proceed → (gone)
//!                   (only with hooks)  (only seen if it lingers)
//! ```

use super::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A hook's action ends for good after this many heartbeats' time …
const HEARTBEATS_MAX: u32 = 100;
/// … or this, whichever is first.
const HOOK_MAX: Duration = Duration::from_secs(48 * 3600);

/// What a test sets; `null` or missing: as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub min: Option<u32>,
    pub max: Option<u32>,
    pub desired: Option<u32>,
    /// Launch template, `lt-1:3`.
    pub template: Option<String>,
    pub tags: Option<BTreeMap<String, String>>,
    /// Hooks at the end of a machine by name: heartbeat time-out, seconds.
    pub hooks: Option<BTreeMap<String, u64>>,
    pub boots: Option<Boots>,
    pub linger: Option<bool>,
    pub available: Option<u32>,
    pub protect_new: Option<bool>,
}

/// The group.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Group {
    pub name: String,
    pub min: u32,
    pub max: u32,
    pub desired: u32,
    pub template: String,
    pub tags: BTreeMap<String, String>,
    pub hooks: BTreeMap<String, u64>,
    pub boots: Boots,
    /// Machines that have ended stay in sight as `Terminating:Proceed` until a test takes them away.
    pub linger: bool,
    /// More machines than this are not to be had in the zone. None: any number.
    pub available: Option<u32>,
    pub protect_new: bool,
    pub instances: BTreeMap<String, Instance>,
}

/// When a new machine is in service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boots {
    /// When the test says so.
    #[default]
    WhenTold,
    AtOnce,
}

/// One machine.
#[derive(Debug, Clone, Serialize)]
pub struct Instance {
    pub number: u64,
    pub state: Lifecycle,
    pub protected: bool,
    pub template: String,
    /// Hooks that still hold it.
    pub holds: BTreeMap<String, Hold>,
}

/// A hook's hold on a machine, by the emulator's clock.
#[derive(Debug, Clone, Serialize)]
pub struct Hold {
    pub until: Duration,
    pub at_most: Duration,
}

/// In AWS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lifecycle {
    Pending,
    InService,
    Standby,
    #[serde(rename = "Terminating:Wait")]
    TerminatingWait,
    #[serde(rename = "Terminating:Proceed")]
    TerminatingProceed,
}

impl Lifecycle {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::InService => "InService",
            Self::Standby => "Standby",
            Self::TerminatingWait => "Terminating:Wait",
            Self::TerminatingProceed => "Terminating:Proceed",
        }
    }

    /// Whether it is one of those that the desired capacity counts.
    fn counts(self) -> bool {
        matches!(self, Self::Pending | Self::InService)
    }
}

impl Group {
    /// By hand.
    pub fn change(&mut self, change: Change) {
        let Change { min, max, desired, template, tags, hooks, boots, linger, available, protect_new } =
            change;
        self.min = min.unwrap_or(self.min);
        self.max = max.unwrap_or(self.max);
        self.desired = desired.unwrap_or(self.desired).clamp(self.min, self.max.max(self.min));
        self.template = template.unwrap_or_else(|| self.template.clone());
        self.tags = tags.unwrap_or_else(|| self.tags.clone());
        self.hooks = hooks.unwrap_or_else(|| self.hooks.clone());
        self.boots = boots.unwrap_or(self.boots);
        self.linger = linger.unwrap_or(self.linger);
        self.available = available.or(self.available);
        self.protect_new = protect_new.unwrap_or(self.protect_new);
    }

    pub fn set_desired(&mut self, desired: u32) -> Result<(), Refusal> {
        if desired > self.max {
            return Err(Refusal::validation(format!(
                "New SetDesiredCapacity value {desired} is above max value {} for the AutoScalingGroup.",
                self.max
            )));
        }
        if desired < self.min {
            return Err(Refusal::validation(format!(
                "New SetDesiredCapacity value {desired} is below min value {} for the AutoScalingGroup.",
                self.min
            )));
        }
        self.desired = desired;
        Ok(())
    }

    /// The machine is here.
    pub fn terminate(&mut self, id: &str, decrement: bool, now: Duration) -> Result<(), Refusal> {
        let counts = self.instances.get(id).is_some_and(|i| i.state.counts());
        // Repeated for one that is on its way: nothing more to do.
        if !counts && self.instances.get(id).is_some_and(|i| i.state != Lifecycle::Standby) {
            return Ok(());
        }
        if decrement && counts {
            if self.desired <= self.min {
                return Err(Refusal::validation(format!(
                    "Currently, desiredSize equals minSize ({}). Terminating instance without replacement will violate group's min \
                     size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.",
                    self.min
                )));
            }
            self.desired -= 1;
        }
        self.end(id, now);
        Ok(())
    }

    pub fn heartbeat(&mut self, hook: &str, id: &str, now: Duration) -> Result<(), Refusal> {
        let timeout = self.hook(hook)?;
        let hold =
            self.instances.get_mut(id).and_then(|i| i.holds.get_mut(hook)).ok_or_else(|| no_action(id))?;
        hold.until = (now + timeout).min(hold.at_most);
        Ok(())
    }

    pub fn complete(&mut self, hook: &str, id: &str, result: &str) -> Result<(), Refusal> {
        self.hook(hook)?;
        let instance = self.instances.get_mut(id).ok_or_else(|| no_action(id))?;
        instance.holds.remove(hook).ok_or_else(|| no_action(id))?;
        // At the end of a machine both results end it; ABANDON does not wait for the other hooks.
        if result == "ABANDON" {
            instance.holds.clear();
        }
        Ok(())
    }

    pub fn protect(&mut self, ids: &[String], on: bool) -> Result<(), Refusal> {
        for id in ids {
            let state = self.instances.get(id).map(|i| i.state);
            let Some(state) = state else {
                return Err(Refusal::validation(format!(
                    "The instance {id} is not part of Auto Scaling group {}.",
                    self.name
                )));
            };
            if !matches!(state, Lifecycle::InService | Lifecycle::Standby) {
                return Err(Refusal::validation(format!(
                    "The instance {id} is not in InService or EnteringStandby or Standby."
                )));
            }
        }
        for (_, instance) in self.instances.iter_mut().filter(|(id, _)| ids.contains(id)) {
            instance.protected = on;
        }
        Ok(())
    }

    /// What is due by now.
    pub fn settle(&mut self, now: Duration, started: &mut u64) {
        // 1. Hooks that have timed out, machines that no hook holds any more.
        for instance in self.instances.values_mut() {
            instance.holds.retain(|_, hold| now < hold.until);
            if instance.state == Lifecycle::TerminatingWait && instance.holds.is_empty() {
                instance.state = Lifecycle::TerminatingProceed;
            }
        }
        if !self.linger {
            self.instances.retain(|_, instance| instance.state != Lifecycle::TerminatingProceed);
        }
        // 2. Too many. AWS promises nothing about which: this one takes what is in service before what is pending, so that a caller who
        //    trusts to luck loses its work here.
        while self.counted() > self.desired as usize {
            let free = self.instances.iter().filter(|(_, i)| i.state.counts() && !i.protected);
            let Some((victim, _)) = free.max_by_key(|(_, i)| (i.state, i.number)) else { break };
            let victim = victim.clone();
            self.end(&victim, now);
        }
        // 3. Too few.
        let wanted = (self.desired as usize).min(self.available.map_or(usize::MAX, |n| n as usize));
        while self.counted() < wanted {
            *started += 1;
            let state = match self.boots {
                Boots::AtOnce => Lifecycle::InService,
                Boots::WhenTold => Lifecycle::Pending,
            };
            let instance = Instance {
                number: *started,
                state,
                protected: self.protect_new,
                template: self.template.clone(),
                holds: BTreeMap::new(),
            };
            self.instances.insert(format!("i-{:017x}", *started), instance);
        }
    }

    /// Begins a machine's end; its hooks hold it.
    pub fn end(&mut self, id: &str, now: Duration) {
        let hooks = self.hooks.clone();
        let linger = self.linger;
        let Some(instance) = self.instances.get_mut(id) else { return };
        // A machine that never was in service is let go without its hooks.
        if instance.state != Lifecycle::Pending && !hooks.is_empty() {
            instance.state = Lifecycle::TerminatingWait;
            instance.holds =
                hooks.into_iter().map(|(name, seconds)| (name, Hold::new(now, seconds))).collect();
        } else if linger {
            instance.state = Lifecycle::TerminatingProceed;
        } else {
            self.instances.remove(id);
        }
    }

    fn counted(&self) -> usize {
        self.instances.values().filter(|instance| instance.state.counts()).count()
    }

    fn hook(&self, name: &str) -> Result<Duration, Refusal> {
        let seconds = self.hooks.get(name).ok_or_else(|| {
            Refusal::validation(format!(
                "No Lifecycle Hook found with name {name} for AutoScalingGroup {}",
                self.name
            ))
        })?;
        Ok(Duration::from_secs(*seconds))
    }
}

impl Hold {
    fn new(now: Duration, seconds: u64) -> Self {
        let timeout = Duration::from_secs(seconds);
        let at_most = now + (timeout * HEARTBEATS_MAX).min(HOOK_MAX);
        Self { until: (now + timeout).min(at_most), at_most }
    }
}

fn no_action(id: &str) -> Refusal {
    Refusal::validation(format!("No active Lifecycle Action found with instance ID {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn group(desired: u32, hooks: &[(&str, u64)]) -> (Group, Vec<String>) {
        let mut group = Group { name: "g".into(), max: 9, desired, boots: Boots::AtOnce, ..Group::default() };
        group.hooks = hooks.iter().map(|(name, s)| ((*name).to_owned(), *s)).collect();
        group.settle(Duration::ZERO, &mut 0);
        let ids = group.instances.keys().cloned().collect();
        (group, ids)
    }

    #[test]
    fn a_machine_waits_for_all_of_its_hooks_and_no_longer_than_they_say() {
        let (mut group, ids) = group(2, &[("a", 3600), ("b", 7200)]);
        group.terminate(&ids[0], true, Duration::ZERO).unwrap();
        assert_eq!((group.desired, group.instances[&ids[0]].state), (1, Lifecycle::TerminatingWait));
        group.heartbeat("a", &ids[0], HOUR / 2).unwrap();
        group.settle(HOUR, &mut 2);
        group.complete("b", &ids[0], "CONTINUE").unwrap();
        group.settle(HOUR, &mut 2);
        assert!(group.instances.contains_key(&ids[0]), "a heartbeat was heard");
        group.settle(HOUR * 3 / 2, &mut 2);
        assert!(!group.instances.contains_key(&ids[0]) && group.instances.len() == 1);
        assert!(group.complete("a", &ids[0], "CONTINUE").unwrap_err().message.starts_with("No active"));
    }

    #[test]
    fn heartbeats_end_some_day() {
        let (mut group, ids) = group(1, &[("a", 60)]);
        group.terminate(&ids[0], true, Duration::ZERO).unwrap();
        for minute in 0..200 {
            let now = Duration::from_secs(30 + 60 * minute);
            group.settle(now, &mut 1);
            let _ = group.heartbeat("a", &ids[0], now);
        }
        assert!(group.instances.is_empty());
    }

    #[test]
    fn what_is_protected_is_never_chosen() {
        let (mut group, ids) = group(3, &[]);
        group.protect(&ids[..2], true).unwrap();
        group.set_desired(1).unwrap();
        group.settle(Duration::ZERO, &mut 3);
        assert_eq!(group.instances.keys().collect::<Vec<_>>(), [&ids[0], &ids[1]]);
        assert!(group.set_desired(10).is_err());
    }
}
