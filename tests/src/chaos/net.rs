//! The network: a bridge in the run's own namespace, and a namespace with one link for each node. Rules of nftables inside the nodes cut
//! and lose packets; nothing of it exists outside the run.
//!
//! Each node has three addresses (see [`Address`]). Members advertise the proxy's, so that links between members, and from workers to
//! members, go through [`super::proxy`], which can delay; what leaves a node towards another can be dropped all the same, because the
//! proxy dials with an address that stands for the node on whose behalf it dials.

use super::sys;
use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The port of every member.
pub const PORT: u16 = 7070;

/// Addresses of the node with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u8);

impl Address {
    /// The node's own.
    #[must_use]
    pub fn own(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.0)
    }

    /// Where the proxy listens for it.
    #[must_use]
    pub fn proxied(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 1, self.0)
    }

    /// From where the proxy dials on its behalf.
    #[must_use]
    pub fn behalf(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 2, self.0)
    }

    fn all(self) -> String {
        format!("{{ {}, {}, {} }}", self.own(), self.proxied(), self.behalf())
    }
}

/// The driver itself: clients call from here.
pub const CLIENT: Address = Address(254);

/// What is wrong with what a node sends or hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// What it sends to this node is lost.
    CutTo(Address),
    /// Everything is lost, both ways.
    Isolated,
    /// Of what it hears and of what it sends, so many percent each are lost.
    Loss(u8),
}

/// All rules in force, by node.
#[derive(Debug, Default)]
pub struct Net {
    rules: Mutex<BTreeMap<String, Vec<(u64, Rule)>>>,
    next: Mutex<u64>,
}

impl Net {
    /// Makes the bridge.
    ///
    /// # Errors
    /// The kernel has no bridges.
    pub fn new() -> Result<Self> {
        sys::run("ip", &["link", "set", "lo", "up"])?;
        sys::run("ip", &["link", "add", "hub", "type", "bridge", "forward_delay", "0"])?;
        sys::run("ip", &["addr", "add", &format!("{}/16", CLIENT.own()), "dev", "hub"])?;
        sys::run("ip", &["link", "set", "hub", "up"])?;
        Ok(Self::default())
    }

    /// Adds a node.
    ///
    /// # Errors
    /// The kernel has no network namespaces or no links between them.
    pub fn add(&self, name: &str, address: Address) -> Result<()> {
        sys::run("ip", &["netns", "add", name])?;
        let link = format!("v-{name}");
        sys::run("ip", &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        sys::run("ip", &["link", "set", &link, "master", "hub", "up"])?;
        for proxy in [address.proxied(), address.behalf()] {
            sys::run("ip", &["addr", "add", &format!("{proxy}/32"), "dev", "hub"])?;
        }
        sys::run("ip", &["-n", name, "addr", "add", &format!("{}/16", address.own()), "dev", "eth0"])?;
        sys::run("ip", &["-n", name, "link", "set", "eth0", "up"])?;
        sys::run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        Ok(())
    }

    /// Takes a rule into force; the number takes it back.
    ///
    /// # Errors
    /// `nft` refused it.
    pub fn impose(&self, node: &str, rule: Rule) -> Result<u64> {
        let id = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            *next += 1;
            *next
        };
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let of_node = rules.entry(node.to_owned()).or_default();
        of_node.push((id, rule));
        load(node, of_node)?;
        Ok(id)
    }

    /// Takes a rule back.
    ///
    /// # Errors
    /// `nft` refused it.
    pub fn lift(&self, node: &str, id: u64) -> Result<()> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let of_node = rules.entry(node.to_owned()).or_default();
        of_node.retain(|(known, _)| *known != id);
        load(node, of_node)
    }
}

/// Replaces the node's whole table: one transaction, so that rules never half apply.
fn load(node: &str, rules: &[(u64, Rule)]) -> Result<()> {
    let text = ruleset(rules.iter().map(|(_, rule)| rule));
    let mut command = Command::new("nft");
    command.args(["-f", "-"]);
    enter(&mut command, node)?;
    sys::run_with_input(&mut command, "nft", &text).map(drop)
}

fn ruleset<'a>(rules: impl Iterator<Item = &'a Rule>) -> String {
    let (mut output, mut input) = (String::new(), String::new());
    for rule in rules {
        match rule {
            Rule::CutTo(other) => output += &format!("    ip daddr {} drop\n", other.all()),
            Rule::Isolated => {
                output += "    oifname \"eth0\" drop\n";
                input += "    iifname \"eth0\" drop\n";
            }
            Rule::Loss(percent) => {
                output += &format!("    oifname \"eth0\" numgen random mod 100 < {percent} drop\n");
                input += &format!("    iifname \"eth0\" numgen random mod 100 < {percent} drop\n");
            }
        }
    }
    format!(
        "table inet chaos\ndelete table inet chaos\ntable inet chaos {{\n  chain output {{\n    type filter hook output priority 0; policy accept;\n{output}  }}\n  chain input {{\n    type filter hook input priority 0; policy accept;\n{input}  }}\n}}\n"
    )
}

/// Makes a command run in a node's network namespace.
///
/// # Errors
/// There is no such node.
pub fn enter(command: &mut Command, node: &str) -> Result<()> {
    let namespace = File::open(format!("/run/netns/{node}")).with_context(|| format!("no node {node}"))?;
    // SAFETY: setns is a system call on a descriptor that the closure owns; nothing is allocated.
    unsafe {
        command.pre_exec(move || setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_names_every_address_that_stands_for_the_other() {
        let text = ruleset([Rule::CutTo(Address(12)), Rule::Loss(7)].iter());
        assert!(text.contains("ip daddr { 10.77.0.12, 10.77.1.12, 10.77.2.12 } drop"), "{text}");
        assert_eq!(text.matches("mod 100 < 7 drop").count(), 2, "{text}");
        assert!(text.starts_with("table inet chaos\ndelete table inet chaos\n"), "{text}");
    }
}
