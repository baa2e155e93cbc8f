//! systemd: logind is asked to delay shutdowns and tells when one begins. The delay ends when nothing runs here any more, and at the
//! latest after `InhibitDelayMaxSec=` of logind.conf, 5 s unless the operator says more.

use super::Pace;
use super::merge::Standing;
use super::mouth::Mouth;
use futures::StreamExt;
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep};
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedFd};

/// logind may be slow while the machine comes up.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The part of logind that is used.
#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Manager {
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<OwnedFd>;

    #[zbus(signal)]
    fn prepare_for_shutdown(&self, start: bool) -> zbus::Result<()>;

    #[zbus(property, name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max(&self) -> zbus::Result<u64>;

    #[zbus(property)]
    fn preparing_for_shutdown(&self) -> zbus::Result<bool>;
}

/// Listens for as long as the worker runs. `bus`: another than the system's.
pub async fn watch(bus: Option<String>, mut evicted: Receiver<bool>, pace: Pace, mouth: Mouth) {
    let mut trouble = mouth.trouble("logind");
    loop {
        // A lock lasts as long as its connection: where that breaks, both begin anew.
        match listen(bus.as_deref(), &mut evicted, &mouth).await {
            Ok(()) => trouble.met(&"the connection to the bus ended"),
            Err(error) => trouble.met(&error),
        }
        sleep(pace.systemd).await;
    }
}

async fn listen(bus: Option<&str>, evicted: &mut Receiver<bool>, mouth: &Mouth) -> zbus::Result<()> {
    // 1. The signal first, then the lock, then whether it has begun already: so none is missed.
    let builder = match bus {
        Some(address) => zbus::connection::Builder::address(address),
        None => zbus::connection::Builder::system(),
    };
    let connection: Connection = builder.method_timeout(CALL_TIMEOUT).build().await?;
    let manager = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
    let mut signals = manager.receive_prepare_for_shutdown().await?;
    let mut lock = Some(inhibit(&manager).await?);
    let delay = Duration::from_micros(manager.inhibit_delay_max().await?);
    tracing::info!(
        delay_ms = delay.as_millis(),
        "shutdowns of this machine wait for its tasks, for so long at most"
    );
    let mut begun = manager.preparing_for_shutdown().await?;
    if begun {
        say(mouth, delay);
    }
    // 2. Shutdowns, and their being called off.
    loop {
        if begun && *evicted.borrow_and_update() {
            drop(lock.take());
        }
        tokio::select! {
            signal = signals.next() => {
                let Some(signal) = signal else { return Ok(()) };
                begun = signal.args()?.start;
                if begun {
                    say(mouth, delay);
                } else {
                    mouth.say("shutdown", None);
                    if lock.is_none() {
                        lock = Some(inhibit(&manager).await?);
                    }
                }
            }
            changed = evicted.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

async fn inhibit(manager: &ManagerProxy<'_>) -> zbus::Result<OwnedFd> {
    manager.inhibit("shutdown", "muster worker", "its tasks save their work", "delay").await
}

fn say(mouth: &Mouth, delay: Duration) {
    mouth.say("shutdown", Some(Standing::preemption(Some(Instant::now() + delay), "the machine shuts down")));
}
