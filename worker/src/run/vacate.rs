//! After an attempt's processes are gone: the wait until its devices show it too. Its end is told only then, so that the next task is not
//! given a device whose memory the driver has yet to take back.

use crate::devices::{Devices, Residue};
use std::time::Duration;
use tokio::time::Instant;

/// How long a driver may take to clean up after a process. Its lease goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks; each makes the driver be read.
const PAUSE: Duration = Duration::from_millis(100);

/// A real device that an attempt has, and whether others may have parts of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HeldDevice {
    pub uuid: String,
    pub shared: bool,
}

/// Waits until all of them are free, at most [`PATIENCE`] in all. Of one that is not, the devices then tell an event.
pub async fn vacate(devices: &dyn Devices, held: &[HeldDevice]) {
    within(PATIENCE, PAUSE, devices, held).await;
}

async fn within(patience: Duration, pause: Duration, devices: &dyn Devices, held: &[HeldDevice]) {
    let give_up = Instant::now() + patience;
    for HeldDevice { uuid, shared } in held {
        let mut since = std::time::Instant::now();
        loop {
            let is_late = Instant::now() >= give_up;
            match devices.residue(uuid, *shared, since) {
                Residue::Clean => break,
                Residue::Left(reason) if is_late => {
                    tracing::error!(uuid, reason, "a device is not clean after its task");
                    devices.not_clean(uuid, &reason);
                    break;
                }
                Residue::Left(_) => since = std::time::Instant::now(),
                Residue::Unknown if is_late => {
                    devices.not_clean(uuid, "the driver did not say whether it is free");
                    break;
                }
                Residue::Unknown => {}
            }
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{Device, Event, Health, Sample};
    use parking_lot::Mutex;

    /// Says what it was given, in order, and the last for ever.
    struct Script {
        says: Vec<Residue>,
        asked: Mutex<usize>,
        told: Mutex<Vec<String>>,
    }

    impl Script {
        fn new(says: &[Residue]) -> Self {
            Self { says: says.to_vec(), asked: Mutex::default(), told: Mutex::default() }
        }
    }

    impl Devices for Script {
        fn fingerprint(&self) -> Vec<Device> {
            Vec::new()
        }
        fn health(&self) -> Vec<(String, Health)> {
            Vec::new()
        }
        fn sample(&self) -> Vec<Sample> {
            Vec::new()
        }
        fn events(&self) -> Vec<Event> {
            Vec::new()
        }
        fn residue(&self, _: &str, _: bool, _: std::time::Instant) -> Residue {
            let mut asked = self.asked.lock();
            *asked += 1;
            self.says[(*asked - 1).min(self.says.len() - 1)].clone()
        }
        fn not_clean(&self, uuid: &str, reason: &str) {
            self.told.lock().push(format!("{uuid}: {reason}"));
        }
    }

    fn held() -> Vec<HeldDevice> {
        vec![HeldDevice { uuid: "GPU-a".into(), shared: false }]
    }

    #[tokio::test]
    async fn it_waits_until_the_device_is_clean() {
        let left = || Residue::Left("process 7 is still on it".into());
        let script = Script::new(&[Residue::Unknown, left(), left(), Residue::Clean]);
        within(Duration::from_secs(600), Duration::ZERO, &script, &held()).await;
        assert_eq!((*script.asked.lock(), script.told.lock().len()), (4, 0));
    }

    #[tokio::test]
    async fn one_that_stays_dirty_is_told_with_what_is_on_it() {
        let script = Script::new(&[Residue::Left("process 7 is still on it".into())]);
        within(Duration::ZERO, Duration::ZERO, &script, &held()).await;
        assert_eq!(*script.told.lock(), ["GPU-a: process 7 is still on it"]);
    }

    #[tokio::test]
    async fn a_driver_that_does_not_answer_is_waited_for_no_longer() {
        let script = Script::new(&[Residue::Unknown]);
        within(Duration::ZERO, Duration::ZERO, &script, &held()).await;
        assert_eq!(*script.told.lock(), ["GPU-a: the driver did not say whether it is free"]);
    }
}
