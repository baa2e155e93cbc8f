//! What was seen of devices and is not known to be durable yet: said at once, and again with every heartbeat until it is settled.
//!
//! Left out: a restart. What a killed agent had not got across is lost; what is still wrong with a device then shows again when it is
//! looked at.

use muster_core::model::device_event::DeviceEvent;
use std::collections::BTreeMap;

/// Events that wait at most; the oldest go, for the newest say how the device is now.
const WAITING_MAX: usize = 256;
/// Events of one message.
const MESSAGE_MAX: usize = 64;

/// Events by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events {
    last: u64,
    waiting: BTreeMap<u64, DeviceEvent>,
}

impl Events {
    /// Numbers what was seen at `now` (boot-time clock, ms). Numbers only grow, also over restarts of the agent, as that
    /// clock does: another boot is another incarnation.
    pub(crate) fn add(&mut self, now: u64, seen: Vec<DeviceEvent>) {
        for event in seen {
            self.last = now.max(self.last + 1);
            self.waiting.insert(self.last, DeviceEvent { seq: self.last, ..event });
        }
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_first();
        }
    }

    /// The oldest that are not settled.
    pub(crate) fn unsettled(&self) -> Vec<DeviceEvent> {
        self.waiting.values().take(MESSAGE_MAX).cloned().collect()
    }

    /// Everything up to this number is durable.
    pub(crate) fn settle(&mut self, seq: u64) {
        self.waiting = self.waiting.split_off(&(seq + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::device_event::DeviceEventKind;

    fn xid(code: u32) -> DeviceEvent {
        let kind = DeviceEventKind::Xid(code);
        DeviceEvent { seq: 0, uuid: "GPU-a".to_owned(), kind, at: 0, detail: String::new() }
    }

    fn numbers(events: &[DeviceEvent]) -> Vec<u64> {
        events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn events_are_repeated_until_they_are_settled() {
        let mut events = Events::default();
        events.add(100, vec![xid(13), xid(79)]);
        events.add(101, vec![xid(48)]);
        assert_eq!(numbers(&events.unsettled()), [100, 101, 102]);
        assert_eq!(numbers(&events.unsettled()), [100, 101, 102]);
        events.settle(101);
        assert_eq!(numbers(&events.unsettled()), [102]);
        events.settle(u64::MAX - 1);
        assert!(events.unsettled().is_empty());
    }

    #[test]
    fn a_flood_keeps_the_newest() {
        let mut events = Events::default();
        events.add(1, (0..WAITING_MAX as u32 + 10).map(xid).collect());
        assert_eq!(numbers(&events.unsettled()).first(), Some(&11));
    }
}
