//! systemd, by a private bus and a logind of the test.

use super::{PATIENCE, assert_goes, assert_stays, next, pace};
use futures::FutureExt;
use muster_core::model::notice::NoticeSource::Systemd;
use muster_worker::notice::{NoticeConfig, Notices};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tokio::time::{sleep, timeout};

const PATH: &str = "/org/freedesktop/login1";

/// A bus of its own; it ends with its value.
struct Bus {
    address: String,
    daemon: Child,
    dir: tempfile::TempDir,
}

impl Bus {
    /// None, with a word, where there is no `dbus-daemon`.
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("bus.conf");
        let text = format!(
            "<busconfig><type>session</type><listen>unix:path={}</listen><policy context=\"default\">\
             <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
            dir.path().join("bus").display()
        );
        std::fs::write(&config, text).unwrap();
        match daemon(&config) {
            Ok(mut daemon) => {
                await_address(&mut daemon);
                // Without its id: the one that comes after it has another.
                let address = format!("unix:path={}", dir.path().join("bus").display());
                Some(Self { address, daemon, dir })
            }
            Err(error) => {
                eprintln!("skipped: dbus-daemon cannot be started ({error}); apt-get install dbus");
                None
            }
        }
    }

    /// Ends it, and starts another at the same place.
    fn replace(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = std::fs::remove_file(self.dir.path().join("bus"));
        self.daemon = daemon(&self.dir.path().join("bus.conf")).unwrap();
        await_address(&mut self.daemon);
    }
}

fn daemon(config: &Path) -> std::io::Result<Child> {
    let config = format!("--config-file={}", config.display());
    Command::new("dbus-daemon").args([&config, "--nofork", "--print-address"]).stdout(Stdio::piped()).spawn()
}

/// It prints its address once it listens.
fn await_address(daemon: &mut Child) {
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// The part of logind that a worker uses.
struct Logind {
    /// The reading ends of the locks: an end of file is a lock that was given back.
    locks: Arc<Mutex<Vec<std::io::PipeReader>>>,
    preparing: bool,
}

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Logind {
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::OwnedFd {
        assert_eq!((what, mode), ("shutdown", "delay"));
        assert!(!who.is_empty() && !why.is_empty());
        let (reader, writer) = std::io::pipe().unwrap();
        self.locks.lock().unwrap().push(reader);
        OwnedFd::from(writer).into()
    }

    #[zbus(property, name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max(&self) -> u64 {
        40_000_000
    }

    #[zbus(property)]
    fn preparing_for_shutdown(&self) -> bool {
        self.preparing
    }
}

struct Case {
    logind: zbus::Connection,
    locks: Arc<Mutex<Vec<std::io::PipeReader>>>,
    notices: Notices,
    bus: Bus,
}

async fn logind(
    bus: &Bus,
    locks: &Arc<Mutex<Vec<std::io::PipeReader>>>,
    preparing: bool,
) -> zbus::Connection {
    zbus::connection::Builder::address(bus.address.as_str())
        .serve_at(PATH, Logind { locks: locks.clone(), preparing })
        .name("org.freedesktop.login1")
        .build()
        .await
        .unwrap()
}

impl Case {
    async fn new(preparing: bool) -> Option<Self> {
        let bus = Bus::start()?;
        let locks = Arc::new(Mutex::new(Vec::new()));
        let logind = logind(&bus, &locks, preparing).await;
        let config = NoticeConfig { sources: Some(vec![Systemd]), ..NoticeConfig::default() };
        let notices = Notices::start_on(&config, "w1", pace(), Some(bus.address.clone())).unwrap();
        let case = Self { logind, locks, notices, bus };
        case.locks(1).await;
        Some(case)
    }

    /// Waits until so many locks have been taken in all.
    async fn locks(&self, count: usize) {
        let taken = async {
            while self.locks.lock().unwrap().len() < count {
                sleep(pace().file).await;
            }
        };
        timeout(PATIENCE, taken).await.expect("a lock");
    }

    async fn prepare(&self, start: bool) {
        self.logind
            .emit_signal(
                None::<&str>,
                PATH,
                "org.freedesktop.login1.Manager",
                "PrepareForShutdown",
                &(start,),
            )
            .await
            .unwrap();
    }

    /// Whether the newest lock is held now.
    fn is_held(&self) -> bool {
        let locks = self.locks.lock().unwrap();
        let mut fds = [PollFd::new(locks.last().unwrap().as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
    }

    /// Waits until the newest lock is given back.
    async fn released(&self) {
        let mut reader = self.locks.lock().unwrap().last().unwrap().try_clone().unwrap();
        let end = tokio::task::spawn_blocking(move || reader.read(&mut [0; 1]).unwrap());
        assert_eq!(timeout(PATIENCE, end).await.expect("the lock to be given back").unwrap(), 0);
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_the_tasks_and_can_be_called_off() {
    let Some(mut case) = Case::new(false).await else { return };
    case.prepare(true).await;
    let notice = next(&mut case.notices).await;
    assert_goes(&notice, Systemd, 40_000);
    assert_eq!(notice.detail, "the machine shuts down");
    assert!(case.is_held());
    case.notices.evicted(true);
    case.released().await;
    case.prepare(false).await;
    assert_stays(&next(&mut case.notices).await, Systemd);
    // The next one has to wait too.
    case.locks(2).await;
    case.prepare(true).await;
    assert_goes(&next(&mut case.notices).await, Systemd, 40_000);
    // Its tasks still run: the lock is held until they do not.
    assert!(case.is_held());
    case.notices.evicted(true);
    case.released().await;
}

#[tokio::test]
async fn a_shutdown_that_has_begun_already_is_told() {
    let Some(mut case) = Case::new(true).await else { return };
    assert_goes(&next(&mut case.notices).await, Systemd, 40_000);
}

#[tokio::test]
async fn a_lost_bus_is_found_again() {
    let Some(mut case) = Case::new(false).await else { return };
    // The bus goes, and with it the lock; another comes at the same place.
    case.bus.replace();
    case.released().await;
    assert_eq!(case.notices.next().now_or_never(), None);
    case.logind = logind(&case.bus, &case.locks, false).await;
    case.locks(2).await;
    case.prepare(true).await;
    assert_goes(&next(&mut case.notices).await, Systemd, 40_000);
}

#[tokio::test]
async fn without_a_bus_there_is_no_notice_and_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let config = NoticeConfig { sources: Some(vec![Systemd]), ..NoticeConfig::default() };
    let bus = format!("unix:path={}", dir.path().join("none").display());
    let mut notices = Notices::start_on(&config, "w1", pace(), Some(bus)).unwrap();
    let early = timeout(5 * pace().systemd, notices.next()).await;
    assert!(early.is_err(), "{early:?}");
}
