//! The use cases of drills: who may make a fault on purpose, and who of the members takes part in it. What they do is `crate::drills`.
//!
//! A silence concerns every member, for a worker turns to the next one. A death and a sick device are the leader's business. A notice is
//! an ordinary one that says that it is a drill.

use super::error::ApiError;
use super::forward::Forward;
use super::service::Service;
use crate::clock::wall_ms;
use crate::drills::{Death, Silences};
use crate::leader::{LeaderHandle, ToLeader};
use crate::raft::{Member, Role};
use muster_core::model::device_event::{DeviceEvent, DeviceEventKind};
use muster_core::model::ids::WorkerId;
use muster_core::view_doc::WorkerDoc;
use muster_proto::api::drill_request::Fault;
use muster_proto::api::{DeviceXid, DrillReply, LeaderDeath, WorkerSilence};
use muster_proto::convert::{pack, unpack};
use muster_proto::member::drill_order::Fault as Order;
use muster_proto::member::{DeathOrder, DrillOrder, SicknessOrder, SilenceOrder};
use std::time::{Duration, Instant};

/// A leader that dies in a drill stays away for this long: the others elect one in less, and no lease runs out.
pub const AWAY: Duration = Duration::from_secs(3);
/// Between the answer and the death.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);
/// Longest silence.
pub const SILENCE_MAX: Duration = Duration::from_secs(120);
/// Each member says within this time that it takes part.
const TAKES_PART_WITHIN: Duration = Duration::from_secs(2);

/// This member's part in drills. Cheap to clone.
#[derive(Clone)]
pub struct Drills {
    /// No confirmation is asked for.
    pub staging: bool,
    silences: Silences,
    death: Death,
    leader: LeaderHandle,
    forward: Forward,
}

impl Drills {
    #[must_use]
    pub fn new(
        staging: bool,
        silences: Silences,
        death: Death,
        leader: LeaderHandle,
        forward: Forward,
    ) -> Self {
        Self { staging, silences, death, leader, forward }
    }

    /// Says in the documents of workers which of them are under a drill here.
    pub fn mark(&self, workers: &mut [WorkerDoc]) {
        let now = Instant::now();
        for worker in workers {
            worker.drill = self.silences.of(&worker.name).map(|silence| {
                let left = silence.until.saturating_duration_since(now).as_secs();
                format!("{}: no member hears it for {left} s more", silence.drill)
            });
        }
    }

    /// Does this member's part.
    ///
    /// # Errors
    /// It is the leader's part, and another member leads.
    pub fn obey(&self, order: DrillOrder) -> Result<(), ApiError> {
        let user = order.user;
        match order.fault {
            Some(Order::Silence(SilenceOrder { worker, for_ms: 0, drill })) => {
                if self.silences.end(&worker) {
                    tracing::warn!(worker, drill, user, "a drill is over: the worker is heard again");
                }
            }
            Some(Order::Silence(SilenceOrder { worker, for_ms, drill })) => {
                tracing::warn!(worker, for_ms, drill, user, "a drill: the worker is not heard");
                self.silences.begin(&worker, Duration::from_millis(for_ms).min(SILENCE_MAX), drill);
            }
            Some(Order::Death(DeathOrder { member, away_ms })) => {
                self.must_lead(Some(member))?;
                tracing::warn!(member, away_ms, user, "a drill: this member dies now and starts again");
                self.death.ask(ANSWER_WITHIN, Duration::from_millis(away_ms));
            }
            Some(Order::Sickness(SicknessOrder { worker, event })) => {
                self.must_lead(None)?;
                let event: DeviceEvent = unpack(&event)?;
                let (device, kind) = (&event.uuid, &event.kind);
                tracing::warn!(worker, device, ?kind, user, "a drill: a device is said to be sick");
                self.leader.send(ToLeader::Drill { worker: WorkerId(worker), event });
            }
            None => return Err(ApiError::BadRequest("an order of a drill without a fault".to_owned())),
        }
        Ok(())
    }

    fn must_lead(&self, member: Option<u64>) -> Result<(), ApiError> {
        let own = self.forward.member();
        if member.is_some_and(|member| member != own) {
            return Err(ApiError::Drill(format!("this is member {own}")));
        }
        if self.forward.node().status().borrow().role != Role::Leader {
            return Err(ApiError::Drill(format!("member {own} does not lead any more")));
        }
        Ok(())
    }

    /// Has `member` do its part.
    async fn ask(&self, member: &Member, order: &DrillOrder) -> Result<(), ApiError> {
        if member.id == self.forward.member() {
            return self.obey(order.clone());
        }
        let silent = |why: &str| {
            ApiError::Drill(format!("member {} at {} does not take part: {why}", member.id, member.address))
        };
        let mut peer =
            self.forward.peers().at(&member.address).map_err(|error| silent(&error.to_string()))?;
        match tokio::time::timeout(TAKES_PART_WITHIN, peer.drill(order.clone())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => {
                Err(ApiError::Peer(Box::new(status)))
            }
            Ok(Err(status)) => Err(silent(status.message())),
            Err(_) => Err(silent("it does not answer")),
        }
    }

    async fn ask_leader(&self, order: &DrillOrder) -> Result<(), ApiError> {
        let status = self.forward.node().status().borrow().clone();
        let leader = status.leader.and_then(|(id, _)| status.members.into_iter().find(|m| m.id == id));
        let leader = leader.ok_or_else(|| ApiError::NoLeader("no leader is known".to_owned()))?;
        self.ask(&leader, order).await
    }

    /// All of them or none: a worker would turn to the one that hears it.
    async fn ask_all(&self, user: &str, silence: &SilenceOrder) -> Result<(), ApiError> {
        let order = |silence| DrillOrder { user: user.to_owned(), fault: Some(Order::Silence(silence)) };
        let members = self.forward.node().status().borrow().members.clone();
        let begun = order(silence.clone());
        let asked = members.iter().map(|member| self.ask(member, &begun));
        let refused = futures::future::join_all(asked).await.into_iter().find_map(Result::err);
        let Some(error) = refused else { return Ok(()) };
        let over = order(SilenceOrder { for_ms: 0, ..silence.clone() });
        futures::future::join_all(members.iter().map(|member| self.ask(member, &over))).await;
        Err(error)
    }
}

impl Service {
    /// Makes a fault on purpose; without one, only says whether that may be done.
    ///
    /// # Errors
    /// It is not confirmed and the cluster is not for exercises; nothing of that name; a member that does not take part.
    pub async fn drill(
        &self,
        confirmed: bool,
        user: String,
        fault: Option<Fault>,
    ) -> Result<DrillReply, ApiError> {
        if !confirmed && !self.drills.staging {
            return Err(ApiError::NotStaging);
        }
        let (at_ms, mut away_ms) = (wall_ms(), 0);
        match fault {
            None => self.forward.catch_up().await?,
            Some(Fault::LeaderDeath(LeaderDeath { member })) => {
                away_ms = u64::try_from(AWAY.as_millis()).unwrap_or_default();
                let fault = Some(Order::Death(DeathOrder { member, away_ms }));
                self.drills.ask_leader(&DrillOrder { user, fault }).await?;
            }
            Some(Fault::WorkerSilence(WorkerSilence { worker, for_ms, drill })) => {
                if for_ms > SILENCE_MAX.as_millis() as u64 {
                    let most = SILENCE_MAX.as_secs();
                    return Err(ApiError::BadRequest(format!(
                        "a silence of {for_ms} ms; the longest is {most} s"
                    )));
                }
                let id = self.worker(&worker).await?;
                let name = self.forward.read(|state| state.worker(id).map(|w| w.spec.name.clone()));
                let worker = name.ok_or(ApiError::NoWorker(worker))?;
                self.drills.ask_all(&user, &SilenceOrder { worker, for_ms, drill }).await?;
            }
            Some(Fault::DeviceXid(DeviceXid { uuid, code })) => {
                let uuid = self.device(&uuid).await?;
                let has = |w: &&muster_core::model::worker::Worker| {
                    w.spec.devices.iter().any(|device| device.uuid == uuid)
                };
                let worker = self.forward.read(|state| state.workers().find(has).map(|w| w.id.0));
                let worker = worker.ok_or_else(|| ApiError::NoDevice(uuid.clone()))?;
                let event = DeviceEvent {
                    seq: 0,
                    uuid,
                    kind: DeviceEventKind::Xid(code),
                    at: wall_ms(),
                    detail: format!("drill by {user}"),
                };
                let fault = Some(Order::Sickness(SicknessOrder { worker, event: pack(&event) }));
                self.drills.ask_leader(&DrillOrder { user, fault }).await?;
            }
        }
        Ok(DrillReply { at_ms, away_ms })
    }
}
