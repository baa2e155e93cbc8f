//! `muster drill xid GPU`: its driver is said to have logged an XID.

use super::Common;
use super::fault::Fault;
use super::perform::perform;
use crate::args::Global;
use crate::failure::Done;

/// Has a worker report an XID of its device, which goes out of service if the policy says so. Then it is returned.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster drill xid GPU-6c1f --code 79")]
pub struct Args {
    /// Its UUID, or enough of its beginning.
    #[arg(value_name = "GPU")]
    uuid: String,
    /// The XID: 79 is a GPU that fell off the bus.
    #[arg(long, value_name = "N", default_value_t = 79)]
    code: u32,
    #[command(flatten)]
    common: Common,
}

impl Args {
    /// # Errors
    /// No such device, or one that is out of service; a cluster that is not for exercises; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        perform(Fault::Xid { uuid: self.uuid, code: self.code }, self.common, global).await
    }
}
