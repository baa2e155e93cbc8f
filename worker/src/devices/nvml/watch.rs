//! From readings to events: what is new since the last look, and when a device that was in trouble is well again. No clock, no library.
//!
//! ```text
//!  well ── lost, refused twice, hot thrice, uncorrected ECC, XID, not clean, hung ──► in trouble ── three good looks ──► well (Recovered)
//! ```

use super::sampler::Reading;
use crate::devices::{Event, EventKind, seen};
use std::collections::BTreeMap;

/// Good looks in a row before a device counts as well again.
const GOOD_LOOKS: u32 = 3;
/// Looks in a row with a thermal slowdown that the hardware forced: one is a peak.
const HOT_LOOKS: u32 = 3;
/// Looks in a row in which the device refused what every device tells.
const REFUSED_LOOKS: u32 = 2;

/// All devices of a worker.
#[derive(Debug, Default)]
pub struct Watch {
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    trouble: Option<(EventKind, String)>,
    /// The coordinator wants to know when it is well: an earlier agent may have known it to be in trouble.
    is_probed: bool,
    good: u32,
    hot: u32,
    refused: u32,
    /// Uncorrected errors at the last look. They count from the load of the driver: only growth is news.
    uncorrected: Option<u64>,
}

impl Watch {
    /// One look at one device. `clean`: nothing of an ended attempt is on it.
    pub fn look(&mut self, reading: &Reading, clean: bool) -> Option<Event> {
        let uuid = &reading.sample.uuid;
        let known = self.seen.entry(uuid.clone()).or_default();
        known.hot = if reading.is_hot { known.hot + 1 } else { 0 };
        known.refused = if reading.refused.is_some() { known.refused + 1 } else { 0 };
        let before = known.uncorrected;
        known.uncorrected = reading.sample.ecc_uncorrected.or(before);
        let grown = known.uncorrected.zip(before).map_or(0, |(now, before)| now.saturating_sub(before));

        let trouble = if let Some(lost) = &reading.lost {
            Some((EventKind::LostFromBus, lost.clone()))
        } else if known.refused >= REFUSED_LOOKS {
            Some((EventKind::LostFromBus, reading.refused.clone().unwrap_or_default()))
        } else if grown > 0 {
            Some((EventKind::EccUncorrected, format!("{grown} uncorrected memory errors more")))
        } else if known.hot >= HOT_LOOKS {
            let degrees = reading.sample.temperature.map_or("n/a".to_owned(), |t| format!("{t} °C"));
            Some((EventKind::Thermal, format!("the hardware slows it down for heat: {degrees}")))
        } else {
            None
        };
        if let Some((kind, detail)) = trouble {
            known.good = 0;
            let is_known = grown == 0 && known.trouble.as_ref().is_some_and(|(same, _)| *same == kind);
            return (!is_known).then(|| known.turn(uuid, kind, detail));
        }
        known.settle(uuid, is_good(reading) && clean)
    }

    /// Something that was heard, not read.
    pub fn heard(&mut self, uuid: &str, kind: EventKind, detail: String) -> Event {
        self.seen.entry(uuid.to_owned()).or_default().turn(uuid, kind, detail)
    }

    /// Tells when the device is well, or stays silent while it is not.
    pub fn probe(&mut self, uuid: &str) {
        let seen = self.seen.entry(uuid.to_owned()).or_default();
        seen.is_probed = true;
        seen.good = 0;
    }

    /// Why a device can't be used, in words.
    pub fn trouble(&self, uuid: &str) -> Option<String> {
        let (kind, detail) = self.seen.get(uuid)?.trouble.as_ref()?;
        Some(match kind {
            EventKind::Xid(code) => format!("XID {code}"),
            EventKind::EccUncorrected | EventKind::Thermal | EventKind::DriverHung => detail.clone(),
            EventKind::LostFromBus => format!("lost: {detail}"),
            EventKind::NotClean(reason) => format!("not clean: {reason}"),
            EventKind::Recovered => return None,
        })
    }
}

impl Seen {
    fn turn(&mut self, uuid: &str, kind: EventKind, detail: String) -> Event {
        self.trouble = Some((kind.clone(), detail.clone()));
        self.good = 0;
        seen(uuid, kind, detail)
    }

    fn settle(&mut self, uuid: &str, is_good: bool) -> Option<Event> {
        self.good = if is_good { self.good + 1 } else { 0 };
        if !(self.trouble.is_some() || self.is_probed) || self.good < GOOD_LOOKS {
            return None;
        }
        self.trouble = None;
        self.is_probed = false;
        Some(seen(uuid, EventKind::Recovered, format!("{GOOD_LOOKS} looks in a row found nothing wrong")))
    }
}

/// Nothing about it asks for a reset or a replacement.
fn is_good(reading: &Reading) -> bool {
    let sample = &reading.sample;
    let rows = sample.remapped.unwrap_or_default();
    reading.refused.is_none()
        && !reading.is_hot
        && !sample.retired_pending.unwrap_or(false)
        && !rows.pending
        && !rows.failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Sample;
    use muster_core::model::telemetry::RemappedRows;

    fn reading(change: impl FnOnce(&mut Reading)) -> Reading {
        let sample = Sample { uuid: "GPU-a".into(), ecc_uncorrected: Some(0), ..Sample::default() };
        let mut reading = Reading { sample, ..Reading::default() };
        change(&mut reading);
        reading
    }

    fn kinds(watch: &mut Watch, readings: &[Reading]) -> Vec<Option<EventKind>> {
        readings.iter().map(|r| watch.look(r, true).map(|e| e.kind)).collect()
    }

    #[test]
    fn a_lost_device_is_told_once_and_recovers_after_three_good_looks() {
        let mut watch = Watch::default();
        let (lost, good) = (reading(|r| r.lost = Some("gone".into())), reading(|_| {}));
        let told = kinds(&mut watch, &[lost.clone(), lost, good.clone(), good.clone()]);
        assert_eq!(told, [Some(EventKind::LostFromBus), None, None, None]);
        assert_eq!(watch.trouble("GPU-a").as_deref(), Some("lost: gone"));
        assert_eq!(kinds(&mut watch, &[good.clone(), good]), [Some(EventKind::Recovered), None]);
        assert_eq!(watch.trouble("GPU-a"), None);
    }

    #[test]
    fn a_peak_of_heat_is_nothing_and_three_looks_are() {
        let mut watch = Watch::default();
        let (hot, cool) = (reading(|r| r.is_hot = true), reading(|_| {}));
        let told = kinds(&mut watch, &[hot.clone(), hot.clone(), cool, hot.clone(), hot.clone(), hot]);
        assert_eq!(told, [None, None, None, None, None, Some(EventKind::Thermal)]);
    }

    #[test]
    fn only_growth_of_uncorrected_errors_is_news() {
        let mut watch = Watch::default();
        let with = |n| reading(|r| r.sample.ecc_uncorrected = Some(n));
        let told = kinds(&mut watch, &[with(4), with(4), with(6), with(7)]);
        assert_eq!(told, [None, None, Some(EventKind::EccUncorrected), Some(EventKind::EccUncorrected)]);
    }

    #[test]
    fn a_device_that_waits_for_a_reset_does_not_recover() {
        let mut watch = Watch::default();
        watch.heard("GPU-a", EventKind::Xid(95), String::new());
        let rows = RemappedRows { pending: true, ..RemappedRows::default() };
        let pending = reading(|r| r.sample.remapped = Some(rows));
        assert_eq!(kinds(&mut watch, &vec![pending; 5]), [const { None }; 5]);
        let told = kinds(&mut watch, &vec![reading(|_| {}); 3]);
        assert_eq!(told, [None, None, Some(EventKind::Recovered)]);
    }

    #[test]
    fn a_probe_is_answered_once_and_only_when_the_device_is_well() {
        let mut watch = Watch::default();
        let (hot, good) = (reading(|r| r.is_hot = true), reading(|_| {}));
        watch.probe("GPU-a");
        let told = kinds(&mut watch, &[good.clone(), hot, good.clone(), good.clone(), good.clone(), good]);
        assert_eq!(told, [None, None, None, None, Some(EventKind::Recovered), None]);
    }

    #[test]
    fn one_that_is_not_clean_stays_in_trouble() {
        let mut watch = Watch::default();
        watch.heard("GPU-a", EventKind::NotClean("pid 7".into()), String::new());
        for _ in 0..5 {
            assert_eq!(watch.look(&reading(|_| {}), false), None);
        }
        assert_eq!(watch.trouble("GPU-a").as_deref(), Some("not clean: pid 7"));
    }
}
