//! The cluster under torment: three members and six workers on one bridge, its clients, and what is known of it while it runs.

use super::client::{Answer, Client};
use super::ledger::{DONE, GATES, GPUS, LEDGER, LOCKS};
use super::net::{Address, CLIENT, Net, PORT};
use super::node::{Node, Role};
use super::pki::Pki;
use super::proxy::Proxy;
use super::sys;
use crate::process::Cli;
use anyhow::{Context, Result, bail};
use muster_proto::channel::Tls;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

pub const MEMBERS: usize = 3;
pub const WORKERS: usize = 6;
/// Size of a member's disk; sparse, so that only what is written counts.
const DISK_BYTES: u64 = 4 << 30;
/// How long the cluster may take to come up on a machine that is busy with other tests.
const UP: Duration = Duration::from_secs(120);

/// Everything that faults, load and judges share.
pub struct World {
    pub dir: PathBuf,
    pub net: Net,
    pub proxy: Proxy,
    pub client: Client,
    /// The users' command line, with a context of its own.
    pub cli: Cli,
    /// The load's runtime, for calls from other threads.
    pub runtime: Handle,
    nodes: Vec<(String, Role, Mutex<Node>)>,
    leader: Mutex<Option<String>>,
    /// Nodes that a fault has taken for itself.
    taken: Mutex<BTreeSet<String>>,
    pauses: Mutex<Vec<Pause>>,
    /// A member without its disk has not been replaced yet.
    replacing: Arc<AtomicBool>,
}

/// While a worker was stopped together with its shim nobody on it could kill a task: see `docs/src/leases.md`, honest limits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pause {
    pub worker: String,
    pub from_ns: u64,
    /// None: it lasts.
    pub to_ns: Option<u64>,
}

/// See [`World::replace_one`]. Once a disk is gone only the replacement gives it back.
pub struct Turn {
    replacing: Arc<AtomicBool>,
    begun: AtomicBool,
}

impl Turn {
    /// The disk is about to go.
    pub fn begun(&self) {
        self.begun.store(true, Ordering::SeqCst);
    }

    /// The newcomer votes.
    pub fn done(&self) {
        self.begun.store(false, Ordering::SeqCst);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.begun.load(Ordering::SeqCst) {
            self.replacing.store(false, Ordering::SeqCst);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Starts everything and waits until three members vote and six workers are ready.
    ///
    /// # Errors
    /// Something does not come up, with the reason.
    pub fn start(dir: &Path, runtime: &Handle, log_level: &str) -> Result<Self> {
        for sub in ["logs", "store", "pki"] {
            std::fs::create_dir_all(dir.join(sub))?;
        }
        let tasks = dir.join("tasks");
        for sub in [LOCKS, GPUS, DONE, GATES] {
            std::fs::create_dir_all(tasks.join(sub))?;
        }
        std::fs::write(tasks.join(LEDGER), "")?;
        // 1. Network, certificates, disks.
        let net = Net::new()?;
        let pki = Pki::new(&dir.join("pki"))?;
        let daemons = Cli { config_dir: dir.join("daemons") };
        let mut nodes = Vec::new();
        for n in 1..=MEMBERS + WORKERS {
            let (name, role, number) = match n.checked_sub(MEMBERS + 1) {
                None => (format!("c{n}"), Role::Member, 10 + n),
                Some(w) => (format!("w{}", w + 1), Role::Worker, 20 + w + 1),
            };
            let address = Address(u8::try_from(number)?);
            net.add(&name, address)?;
            let mut node = Node::new(&name, role, address, dir, &daemons);
            node.make_groups()?;
            let tls = pki.issue(&name, &[IpAddr::V4(address.own()), IpAddr::V4(address.proxied())])?;
            node.args = arguments(dir, &name, role, address, &tls, log_level);
            if role == Role::Member {
                std::fs::create_dir_all(&node.data)?;
                node.disk = Some(mount_disk(dir, &node)?);
                node.data = node.data.join("data");
            }
            nodes.push(node);
        }
        let members: Vec<Address> = nodes[..MEMBERS].iter().map(|n| n.address).collect();
        let proxy = Proxy::start(&members)?;
        // 2. The first member; it writes the users' token.
        nodes[0].start()?;
        let own: Vec<String> = members.iter().map(|m| format!("{}:{PORT}", m.own())).collect();
        let tls = pki.issue("client", &[IpAddr::V4(CLIENT.own())])?;
        let token = wait("the first member's context", UP, || users_token(&daemons.config_dir))
            .with_context(|| tail(&nodes[0].log()))?;
        let cli = users(dir, &own, &tls, &token)?;
        let client = {
            let _in = runtime.enter();
            Client::new(&own, &tls, &token)?
        };
        let world = Self {
            dir: dir.to_owned(),
            net,
            proxy,
            client,
            cli,
            runtime: runtime.clone(),
            nodes: nodes.into_iter().map(|n| (n.name.clone(), n.role, Mutex::new(n))).collect(),
            leader: Mutex::default(),
            taken: Mutex::default(),
            pauses: Mutex::default(),
            replacing: Arc::default(),
        };
        // 3. The others, one after the other: a learner has to become a voter before the next one joins.
        for n in 0..MEMBERS {
            if n > 0 {
                world.node(&format!("c{}", n + 1)).start()?;
            }
            world.wait_voters(n + 1)?;
        }
        for n in 1..=WORKERS {
            world.node(&format!("w{n}")).start()?;
        }
        world.wait_workers(WORKERS)?;
        Ok(world)
    }

    /// A node, for as long as the guard lives.
    ///
    /// # Panics
    /// There is none of this name.
    pub fn node(&self, name: &str) -> MutexGuard<'_, Node> {
        lock(&self.nodes.iter().find(|n| n.0 == name).expect("a node of this name").2)
    }

    /// Names of all nodes in a role.
    #[must_use]
    pub fn names(&self, role: Role) -> Vec<String> {
        self.nodes.iter().filter(|n| n.1 == role).map(|n| n.0.clone()).collect()
    }

    /// Where tasks write.
    #[must_use]
    pub fn tasks(&self) -> PathBuf {
        self.dir.join("tasks")
    }

    /// Who leads, as last heard.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        lock(&self.leader).clone()
    }

    /// Takes a node for a fault: no other fault touches it until [`World::give_back`].
    pub fn take(&self, name: &str) -> bool {
        lock(&self.taken).insert(name.to_owned())
    }

    /// Whether a fault has the node.
    #[must_use]
    pub fn is_taken(&self, name: &str) -> bool {
        lock(&self.taken).contains(name)
    }

    /// The fault is over.
    pub fn give_back(&self, name: &str) {
        lock(&self.taken).remove(name);
    }

    /// The right to take a member's disk away; nobody has it while another member is without.
    #[must_use]
    pub fn replace_one(&self) -> Option<Turn> {
        let free = self.replacing.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        free.then(|| Turn { replacing: Arc::clone(&self.replacing), begun: AtomicBool::new(false) })
    }

    /// A worker stops together with its shim, now.
    pub fn paused(&self, worker: &str) {
        let pause = Pause { worker: worker.to_owned(), from_ns: sys::now_ns(), to_ns: None };
        lock(&self.pauses).push(pause);
    }

    /// It goes on, now.
    pub fn resumed(&self, worker: &str) {
        let mut pauses = lock(&self.pauses);
        let open = pauses.iter_mut().filter(|p| p.worker == worker && p.to_ns.is_none());
        open.for_each(|pause| pause.to_ns = Some(sys::now_ns()));
    }

    /// All pauses so far.
    #[must_use]
    pub fn pauses(&self) -> Vec<Pause> {
        lock(&self.pauses).clone()
    }

    /// Asks all members who leads, for ever. The highest term is right.
    pub async fn watch_leader(&self) {
        loop {
            let mut best: Option<(u64, Option<String>)> = None;
            for way in 0..MEMBERS {
                let Answer::Heard(doc) = self.client.status(way).await else { continue };
                let address =
                    doc.members.iter().find(|m| Some(m.id) == doc.leader).map(|m| m.address.clone());
                let name = address.and_then(|address| self.member_at(&address));
                if best
                    .as_ref()
                    .is_none_or(|(term, known)| doc.term > *term || (doc.term == *term && known.is_none()))
                {
                    best = Some((doc.term, name));
                }
            }
            if let Some((_, name)) = best {
                *lock(&self.leader) = name;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// The member that advertises this address.
    fn member_at(&self, address: &str) -> Option<String> {
        let number = address.split(':').next()?.rsplit('.').next()?.parse::<u8>().ok()?;
        (11..=13).contains(&number).then(|| format!("c{}", number - 10))
    }

    /// Waits until so many members vote and one leads.
    ///
    /// # Errors
    /// They do not in two minutes.
    pub fn wait_voters(&self, n: usize) -> Result<()> {
        let what = format!("{n} voting members");
        wait(&what, UP, || {
            let doc = self.runtime.block_on(self.client.status(0)).heard()?;
            let votes = doc.members.iter().filter(|m| m.role == "leader" || m.role == "follower").count();
            (votes == n && doc.leader.is_some()).then_some(())
        })
        .with_context(|| self.logs())
    }

    /// Waits until so many workers are ready.
    ///
    /// # Errors
    /// They are not in two minutes.
    pub fn wait_workers(&self, n: usize) -> Result<()> {
        wait(&format!("{n} ready workers"), UP, || {
            let doc = self.runtime.block_on(self.client.workers(0)).heard()?;
            (doc.workers.iter().filter(|w| w.state == "ready").count() == n).then_some(())
        })
        .with_context(|| self.logs())
    }

    /// The last lines of every daemon.
    #[must_use]
    pub fn logs(&self) -> String {
        self.nodes.iter().map(|n| tail(&lock(&n.2).log())).collect::<Vec<_>>().join("\n")
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(6).collect();
    let lines: Vec<&str> = lines.into_iter().rev().collect();
    format!("--- {}\n{}", log.display(), lines.join("\n"))
}

fn arguments(
    dir: &Path,
    name: &str,
    role: Role,
    address: Address,
    tls: &Tls,
    log_level: &str,
) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    let token = text(&dir.join("c1/data/join-token"));
    let proxied = |n: u8| format!("{}:{PORT}", Address(10 + n).proxied());
    let mut args: Vec<String> = match role {
        Role::Member => {
            let (data, listen) = (text(&dir.join(name).join("data")), format!("{}:{PORT}", address.own()));
            let advertise = format!("{}:{PORT}", address.proxied());
            let store = format!("file://{}", text(&dir.join("store")));
            let mut args =
                vec!["coordinator", "--data-dir", &data, "--listen", &listen, "--advertise", &advertise]
                    .into_iter()
                    .map(String::from)
                    .collect::<Vec<_>>();
            args.extend(["--store-url".to_owned(), store]);
            if name == "c1" {
                args.push("--bootstrap".to_owned());
            } else {
                args.extend(["--join".to_owned(), proxied(1), "--join-token-file".to_owned(), token]);
            }
            args
        }
        Role::Worker => {
            let joins = (1..=3).map(proxied).collect::<Vec<_>>().join(",");
            let data = text(&dir.join(name));
            [
                "worker",
                "--data-dir",
                &data,
                "--name",
                name,
                "--join",
                &joins,
                "--join-token-file",
                &token,
                "--cpus",
                "8",
            ]
            .into_iter()
            .chain(["--memory", "16GiB", "--gpus", "4xH100-80GB"])
            .map(String::from)
            .collect()
        }
    };
    let files = [("--tls-ca", &tls.ca), ("--tls-certificate", &tls.certificate), ("--tls-key", &tls.key)];
    args.extend(files.into_iter().flat_map(|(flag, file)| [flag.to_owned(), text(file)]));
    args.extend(["--log-level".to_owned(), log_level.to_owned()]);
    args
}

/// A disk of its own for a member, so that it can be slow, hung or full without the others.
fn mount_disk(dir: &Path, node: &Node) -> Result<PathBuf> {
    let (image, at) = (dir.join(format!("{}.img", node.name)), node.data.clone());
    std::fs::File::create(&image)?.set_len(DISK_BYTES)?;
    let (image, at_text) = (image.display().to_string(), at.display().to_string());
    sys::run("mkfs.ext4", &["-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", &image])?;
    sys::run("mount", &["-o", "loop", &image, &at_text])?;
    Ok(at)
}

fn users_token(config_dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(config_dir.join("contexts.toml")).ok()?;
    let table: toml::Table = toml::from_str(&text).ok()?;
    let contexts = table.get("contexts")?.as_table()?;
    contexts.values().find_map(|c| c.get("token")?.as_str().map(str::to_owned))
}

/// A user's configuration, with a certificate of its own.
fn users(dir: &Path, addresses: &[String], tls: &Tls, token: &str) -> Result<Cli> {
    let cli = Cli { config_dir: dir.join("user") };
    std::fs::create_dir_all(&cli.config_dir)?;
    let text = format!(
        "current = \"chaos\"\n[contexts.chaos]\naddresses = {addresses:?}\ntoken = {token:?}\n[contexts.chaos.tls]\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n",
        tls.ca, tls.certificate, tls.key
    );
    std::fs::write(cli.config_dir.join("contexts.toml"), text)?;
    Ok(cli)
}

/// Asks until there is an answer.
fn wait<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
