//! Gives the state of one cluster to a new one: the rows stay, the owner and the membership change.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::BasicNode;

use super::state_machine::{APPLIED, CLUSTER, MEMBERSHIP, put, read};
use super::types::{LogId, Membership};
use crate::storage::{Change, Disk, Table};

/// Makes the state in `disk`, a copy that nobody else uses, that of `cluster` with `member` alone. The place in the log stays.
///
/// # Errors
/// The disk's; a state without an entry.
pub fn adopt(disk: &impl Disk, cluster: &str, member: u64, address: &str) -> io::Result<()> {
    let applied: LogId =
        read(disk.get(Table::Meta, APPLIED)?)?.ok_or_else(|| io::Error::other("the state holds no entry"))?;
    let nodes = BTreeMap::from([(member, BasicNode::new(address))]);
    let alone = openraft::Membership::new(vec![BTreeSet::from([member])], nodes).map_err(io::Error::other)?;
    disk.write(vec![
        Change::Put(Table::Meta, CLUSTER.to_vec(), cluster.as_bytes().to_vec()),
        put(MEMBERSHIP, &Membership::new(Some(applied), alone))?,
    ])?;
    disk.sync()
}
