//! The start order of an attempt: templates rendered, names and inputs in place. The only place where a template is rendered.

use super::checkpoints::resume;
use super::instruction::{DeviceOrder, GangHost, GangOrder, LaunchOrder, StartOrder};
use super::step::Leader;
use crate::model::attempt::Attempt;
use crate::model::ids::Token;
use crate::model::job_spec::{CheckpointSpec, Run, TaskCommon};
use crate::model::placement::Share;
use crate::spot::effective_every;
use crate::state::LiveDelta;

impl Leader {
    /// The order for a rank of a starting attempt, or why it can't be written.
    pub(super) fn order(&self, token: Token, rank: u32, heartbeat: u64) -> Result<StartOrder, String> {
        let live = self.view.live.get(&token).ok_or("it is gone")?;
        let attempt = &live.attempt;
        let at = attempt.at;
        let seat = attempt.seats.get(rank as usize).ok_or("it has no such rank")?;
        let job = self.view.job(at.job).ok_or("its job is gone")?;
        let spec = &job.spec;
        let task = spec.task(at.task).ok_or("its task is gone")?;
        let common = spec.common(task);
        let named = self.view.workers.get(&seat.worker).map_or(&[][..], |w| &w.worker.spec.devices);
        let device = |share: &Share| {
            let uuid = named.get(usize::from(share.device)).map(|device| device.uuid.clone());
            let uuid = uuid.ok_or_else(|| format!("its worker has no device {}", share.device))?;
            Ok::<_, String>(DeviceOrder { uuid, milli: share.milli, memory: share.memory })
        };
        let devices = seat.devices.iter().map(device).collect::<Result<_, _>>()?;
        let rendered = self.renderer.render(spec, at.job, at.task, at.index).map_err(|e| e.to_string())?;
        let (shell, argv) = match rendered.run {
            Run::Shell(text) => (Some(text.into_string()), Vec::new()),
            Run::Exec(words) => (None, words.iter().map(str::to_owned).collect()),
        };
        let launch = LaunchOrder {
            job_name: spec.name.clone(),
            task_name: task.name.to_string(),
            queue: spec.queue.clone(),
            index: task.array().and_then(|a| a.index(at.index)),
            shell,
            argv,
            env: rendered.env.into_iter().collect(),
            cpu_milli: common.resources.cpu_milli,
            memory: common.resources.memory,
            disk: common.resources.disk,
            workdir: spec.workdir,
            inputs: live.inputs.clone(),
            // A gang's outputs are rank 0's.
            outputs: task
                .outputs()
                .iter()
                .filter(|_| rank == 0)
                .map(|o| (o.name.to_string(), o.path.to_string()))
                .collect(),
            restart_count: attempt.number - 1,
            resume: resume(live, rank)?,
            checkpoint: self.saving(live, common),
            signal: common.stop.signal,
            grace_ms: common.stop.grace_ms,
            gang: common.gang.is_some().then(|| self.gang_order(attempt)),
        };
        Ok(StartOrder {
            at,
            number: attempt.number,
            token,
            term: self.term.unwrap_or(0),
            heartbeat,
            rank,
            devices,
            launch,
        })
    }

    /// How it saves: as its user said, or more often where the pool's losses make that cheaper.
    fn saving(&self, live: &LiveDelta, common: &TaskCommon) -> CheckpointSpec {
        let spec = common.checkpoint.as_deref().cloned().unwrap_or_default();
        let seats = &live.attempt.seats;
        let save_ms = live.kept.last().map(|checkpoint| checkpoint.took_ms);
        let mtbf_ms = self.view.mtbf_ms(seats.iter().map(|seat| seat.worker));
        let ranks = u32::try_from(seats.len()).unwrap_or(u32::MAX);
        CheckpointSpec { every_ms: effective_every(spec.every_ms, save_ms, mtbf_ms, ranks), ..spec }
    }

    fn gang_order(&self, attempt: &Attempt) -> GangOrder {
        let hosts = attempt.seats.iter().map(|seat| {
            let spec = self.view.workers.get(&seat.worker).map(|w| &w.worker.spec);
            let address = spec.map(|s| if s.address.is_empty() { &s.host } else { &s.address });
            GangHost {
                address: address.cloned().unwrap_or_default(),
                slots: (seat.devices.len() as u32).max(1),
            }
        });
        GangOrder { hosts: hosts.collect(), port: attempt.port }
    }
}
