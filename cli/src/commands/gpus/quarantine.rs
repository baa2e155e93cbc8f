//! `muster gpus quarantine UUID`: a device out of service.

use super::device_args::DeviceArgs;
use crate::args::Global;
use crate::client::Client;
use crate::commands::job::plural;
use crate::failure::{DONE, Done};
use crate::output;

/// Takes a device out of service: nothing more is placed on it, and what holds it is evicted and queued again at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster gpus quarantine GPU-6c1f --reason 'slow since Monday'")]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    /// # Errors
    /// No such device; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let request = self.device.request("taken out by an operator");
        let reply =
            Client::new(global)?.call(async |api| api.quarantine_device(request.clone()).await).await?;
        self.device.print(reply.indices)?;
        let evicted = plural(reply.indices, "attempt");
        output::talk(&format!("{} is out of service; {evicted} evicted", self.device.uuid));
        Ok(DONE)
    }
}
