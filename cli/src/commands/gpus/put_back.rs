//! `muster gpus return UUID`: a device back into service.

use super::device_args::DeviceArgs;
use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output;

/// Puts a device back into service. Do what it needs first: a reset, a reboot, a new part.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster gpus return GPU-6c1f --reason 'replaced the riser'")]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    /// # Errors
    /// No such device; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let request = self.device.request("returned by an operator");
        let reply = Client::new(global)?.call(async |api| api.return_device(request.clone()).await).await?;
        self.device.print(reply.indices)?;
        let said = if reply.indices > 0 { "is in service again" } else { "was in service already" };
        output::talk(&format!("{} {said}", self.device.uuid));
        Ok(DONE)
    }
}
