//! Machines that are reclaimed: what their metadata says, for how long, and what comes of it; and what operators say of machines.

use crate::faults::Fault;
use crate::rng::Rng;
use crate::world::World;
use muster_agent::Input;
use muster_core::command::Command;
use muster_core::model::ids::WorkerId;
use muster_core::model::notice::{Notice, NoticeKind, NoticeSource};

fn notice(source: NoticeSource, kind: NoticeKind, in_ms: Option<u64>) -> Notice {
    Notice { source, kind, in_ms, detail: String::new(), drill: false }
}

impl World {
    /// Operators say of some workers that they go, or may go; and a while later that they stay.
    pub(crate) fn plan_preemptions(&mut self) {
        let mut rng = Rng::new(self.options.seed, "preemptions");
        for _ in 0..rng.below(3) {
            let worker = WorkerId(rng.range(1, self.machines.len() as u64));
            let kind = if rng.chance(800) { NoticeKind::Preemption } else { NoticeKind::Advice };
            let in_ms = rng.chance(800).then(|| rng.range(0, 20_000));
            let delay = rng.below(self.options.safety_ms);
            self.plan_notice(delay, worker, notice(NoticeSource::Operator, kind, in_ms));
            if rng.chance(200) {
                let sooner = notice(NoticeSource::Operator, NoticeKind::Preemption, Some(rng.below(3_000)));
                self.plan_notice(delay + rng.below(4_000), worker, sooner);
            }
            self.plan_stays(delay + rng.range(1_000, 20_000), worker);
        }
    }

    fn plan_notice(&mut self, delay: u64, worker: WorkerId, notice: Notice) {
        let request = Some(self.clients.request());
        self.plan_op(delay, Command::Notice { request, worker, incarnation: None, notice }, false);
    }

    /// Somebody takes back what was said of the worker.
    pub(crate) fn plan_stays(&mut self, delay: u64, worker: WorkerId) {
        self.plan_notice(delay, worker, notice(NoticeSource::Operator, NoticeKind::Withdrawn, None));
    }

    /// The metadata of a machine says that it goes; false if it has said so already. Now and then it says first that it may.
    pub(crate) fn reclaim(&mut self, w: usize) -> bool {
        let machine = &self.machines[w];
        let goes = machine.says.as_ref().is_some_and(|(said, _)| said.kind == NoticeKind::Preemption);
        if machine.agent.is_none() || goes {
            return false;
        }
        let rng = &mut self.faults.rng;
        let in_ms = rng.pick(&[0, 2_000, 5_000, 30_000]);
        let kind = if rng.chance(150) { NoticeKind::Advice } else { NoticeKind::Preemption };
        let in_ms = rng.chance(900).then_some(in_ms).filter(|_| kind == NoticeKind::Preemption);
        let deadline = in_ms.map(|ms| self.machines[w].local(self.now) + ms);
        self.machines[w].says = Some((notice(NoticeSource::Aws, kind, in_ms), deadline));
        self.say(w);
        true
    }

    /// How long a machine lasts after it has said that it goes, ms: sometimes not as long as it said.
    pub(crate) fn lasts(&mut self, w: usize) -> u64 {
        let deadline = self.machines[w].says.as_ref().and_then(|(_, deadline)| *deadline);
        let left = deadline.map_or(10_000, |d| d.saturating_sub(self.machines[w].local(self.now)));
        let early = if self.faults.rng.chance(100) { 4 } else { 1 };
        left / early + self.faults.rng.range(1, 2_000)
    }

    /// It goes, or it stays after all.
    pub(crate) fn reclaimed(&mut self, w: usize) {
        // Whatever was said of a machine that broke meanwhile was said of another one.
        let Some((said, _)) = self.machines[w].says.clone() else { return };
        let goes = !self.healed && said.kind == NoticeKind::Preemption && self.faults.rng.chance(700);
        if goes && self.break_now(Fault::CrashMachine(w)) {
            let lasts = self.faults.rng.range(300, 20_000);
            self.at(lasts, crate::event::Event::Mend(Fault::CrashMachine(w)));
            return;
        }
        self.machines[w].says = Some((notice(said.source, NoticeKind::Withdrawn, None), None));
        self.say(w);
    }

    /// The agent, if it lives and is not stopped, hears what the metadata says.
    pub(crate) fn say(&mut self, w: usize) {
        let machine = &self.machines[w];
        let Some((said, deadline)) = machine.says.clone().filter(|_| !machine.paused) else { return };
        let local = machine.local(self.now);
        let in_ms = deadline.map(|deadline| deadline.saturating_sub(local));
        self.step_agent(w, Input::Notice(Notice { in_ms, ..said }));
    }
}
