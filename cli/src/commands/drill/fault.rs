//! The faults: how each is made, when it has shown what it was to show, and how it is undone.

use super::scene::{Scene, Seen};
use crate::client::{Client, request_id, user};
use crate::failure::Failure;
use crate::output;
use muster_core::model::lease::{
    LEADER_LEASE_MS, RECONNECT_P99_MS, RENEW_MS, TERM_BEFORE_MS, WORKER_LEASE_MS,
};
use muster_core::view_doc::{ClusterDoc, DeviceDoc, WorkerDoc};
use muster_proto::api::drill_request::Fault as Wire;
use muster_proto::api::{
    DeviceRequest, DeviceXid, DrillReply, DrillRequest, GetRequest, LeaderDeath, ListRequest, NoticeRequest,
    WorkerSilence,
};
use std::time::{Duration, Instant};

/// A silence that no lease outlasts, with what the leader needs to see it, ms.
pub const LOSS_MS: u64 = LEADER_LEASE_MS + 4_400;
/// A silence that every lease outlasts: the last heartbeat before it may be a whole period old, and the worker has to come back, ms.
pub const KEPT_MS: u64 = WORKER_LEASE_MS - TERM_BEFORE_MS - RENEW_MS - RECONNECT_P99_MS;
/// The longest silence that members take, ms.
pub const SILENCE_MAX_MS: u64 = 120_000;
/// A lease that was not renewed has ended this long after the fault, ms.
const LEASES_SHOW_MS: u64 = LEADER_LEASE_MS + 1_000;
/// How long things may take to be as they were.
const BACK_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);

const REASON: &str = "a drill";

/// A fault on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The worker's machine is said to go.
    Notice { worker: String, in_ms: u64 },
    /// The leader, known once [`Fault::check`] has looked, dies. `alone`: nobody can take over.
    LeaderDeath { member: u64, alone: bool },
    /// No member hears the worker.
    Silence { worker: String, for_ms: u64, drill: &'static str },
    /// The worker says this of its device.
    Xid { uuid: String, code: u32 },
}

/// What becomes of leases under a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    Kept,
    Lost,
    /// Too long to be sure, too short to be sure.
    Either,
}

/// What becomes of leases under a silence of so many ms.
#[must_use]
pub fn leases(for_ms: u64) -> Leases {
    match for_ms {
        0..=KEPT_MS => Leases::Kept,
        LOSS_MS.. => Leases::Lost,
        _ => Leases::Either,
    }
}

impl Fault {
    /// The verb.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Notice { .. } => "spot",
            Self::LeaderDeath { .. } => "kill-leader",
            Self::Silence { drill, .. } => drill,
            Self::Xid { .. } => "xid",
        }
    }

    /// What is hit.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Notice { worker, .. } | Self::Silence { worker, .. } => worker.clone(),
            Self::LeaderDeath { member, .. } => format!("member {member}"),
            Self::Xid { uuid, .. } => uuid.clone(),
        }
    }

    /// Looks whether it can be made, and fills in what was left open.
    ///
    /// # Errors
    /// Nothing of that name; what is hit is not well to begin with.
    pub async fn check(&mut self, client: &mut Client) -> Result<(), Failure> {
        let unfit = |message: String, hint: &str| Err(Failure::new("DRILL_REFUSED", message).hint(hint));
        match self {
            Self::Notice { worker, .. } | Self::Silence { worker, .. } => {
                let doc = show(client, worker).await?;
                if doc.state != "ready" {
                    let message =
                        format!("worker `{}` is {}: a drill wants a ready one", doc.name, doc.state);
                    return unfit(message, "`muster workers` lists them");
                }
                *worker = doc.name;
            }
            Self::LeaderDeath { member, alone } => {
                let doc = cluster(client).await?;
                let Some(leader) = doc.leader else {
                    return unfit("there is no leader".to_owned(), "`muster cluster status`");
                };
                let count =
                    |roles: &[&str]| doc.members.iter().filter(|m| roles.contains(&m.role.as_str())).count();
                let (answer, all) =
                    (count(&["leader", "follower"]), count(&["leader", "follower", "unreachable"]));
                (*member, *alone) = (leader, all < 3);
                if !*alone && answer - 1 < all / 2 + 1 {
                    let message =
                        format!("{answer} of {all} members answer: without the leader they are no majority");
                    return unfit(message, "bring the others back first: `muster cluster status`");
                }
            }
            Self::Xid { uuid, .. } => {
                let doc = device(client, uuid).await?;
                if doc.health != "healthy" || doc.index.is_none() {
                    let message = format!("{} is out of service: a drill wants one in service", doc.uuid);
                    return unfit(message, "`muster gpus` lists them");
                }
                *uuid = doc.uuid;
            }
        }
        Ok(())
    }

    /// Makes it; when, in milliseconds since 1970 by a member's clock.
    ///
    /// # Errors
    /// The cluster's refusal; nothing reachable.
    pub async fn make(&self, client: &mut Client, yes: bool) -> Result<i64, Failure> {
        match self {
            Self::Notice { worker, in_ms } => {
                let at = ask(client, yes, None).await?.at_ms;
                notice(client, worker, "preemption", Some(*in_ms)).await?;
                output::talk(&format!(
                    "worker {worker} was told that its machine goes in {} s",
                    in_ms / 1_000
                ));
                Ok(at)
            }
            Self::LeaderDeath { member, .. } => {
                let wire = Wire::LeaderDeath(LeaderDeath { member: *member });
                let made = ask(client, yes, Some(wire)).await;
                output::talk(&format!("member {member}, the leader, dies"));
                match made {
                    // The answer may die with it; the leader is named, so that nobody else does.
                    Err(failure) if failure.code == "DRILL_REFUSED" => {
                        let leads = cluster(client).await?.leader;
                        if leads == Some(*member) { Err(failure) } else { Ok(output::time::now_ms()) }
                    }
                    made => Ok(made?.at_ms),
                }
            }
            Self::Silence { worker, for_ms, .. } => {
                let at = ask(client, yes, Some(self.silence(*for_ms))).await?.at_ms;
                output::talk(&format!("no member hears worker {worker} for {:.1} s", *for_ms as f64 / 1e3));
                Ok(at)
            }
            Self::Xid { uuid, code } => {
                let wire = Wire::DeviceXid(DeviceXid { uuid: uuid.clone(), code: *code });
                let at = ask(client, yes, Some(wire)).await?.at_ms;
                output::talk(&format!("the worker of {uuid} says that the driver logged XID {code}"));
                Ok(at)
            }
        }
    }

    fn silence(&self, for_ms: u64) -> Wire {
        let drill = self.name().to_owned();
        Wire::WorkerSilence(WorkerSilence { worker: self.target(), for_ms, drill })
    }

    /// It shows nothing before this long, ms.
    #[must_use]
    pub fn least_ms(&self) -> u64 {
        match self {
            Self::Silence { for_ms, .. } if leases(*for_ms) != Leases::Lost => (*for_ms).max(LEASES_SHOW_MS),
            Self::LeaderDeath { .. } => LEASES_SHOW_MS,
            Self::Notice { .. } | Self::Silence { .. } | Self::Xid { .. } => 0,
        }
    }

    /// Whether it has shown what it was to show, `after` it was made.
    #[must_use]
    pub fn is_over(&self, after: Duration, scene: &Scene, seen: &Seen) -> bool {
        let all_go_on = || seen.stories(scene).iter().all(|story| story.goes_on());
        if after < Duration::from_millis(self.least_ms()) {
            return false;
        }
        match self {
            Self::Notice { worker, .. } => seen.worker_state(worker) != Some("ready") && all_go_on(),
            Self::Silence { worker, for_ms, .. } if leases(*for_ms) == Leases::Lost => {
                seen.worker_state(worker) == Some("lost") && all_go_on()
            }
            Self::LeaderDeath { .. } | Self::Silence { .. } => true,
            Self::Xid { .. } => seen.is_noted() && (!seen.is_out() || all_go_on()),
        }
    }

    /// Undoes it and waits until things are as they were.
    ///
    /// # Errors
    /// What is not as it was, and what to do about it.
    pub async fn put_back(&self, client: &mut Client, yes: bool) -> Result<(), Failure> {
        match self {
            Self::Notice { worker, .. } => {
                notice(client, worker, "withdrawn", None).await?;
                let hint = format!("muster worker undrain {worker}");
                is_back(client, &format!("worker {worker} is not ready"), &hint, async |client| {
                    Ok(show(client, worker).await?.state == "ready")
                })
                .await
            }
            Self::LeaderDeath { member, .. } => {
                let hint = "its log says why; start it again";
                is_back(client, &format!("member {member} is not back"), hint, async |client| {
                    let doc = cluster(client).await?;
                    let is_there = doc.members.iter().any(|m| m.id == *member && m.role != "unreachable");
                    Ok(doc.leader.is_some() && is_there)
                })
                .await
            }
            Self::Silence { worker, .. } => {
                ask(client, yes, Some(self.silence(0))).await?;
                let hint = "its own log says why it does not come back";
                is_back(client, &format!("worker {worker} is not ready"), hint, async |client| {
                    let doc = show(client, worker).await?;
                    Ok(doc.state == "ready" && doc.drill.is_none())
                })
                .await
            }
            Self::Xid { uuid, .. } => {
                let request = DeviceRequest {
                    request_id: request_id(None),
                    uuid: uuid.clone(),
                    reason: REASON.to_owned(),
                    user: user(),
                };
                client.call(async |api| api.return_device(request.clone()).await).await?;
                let hint = format!("muster gpus return {uuid}");
                is_back(client, &format!("{uuid} is out of service"), &hint, async |client| {
                    Ok(device(client, uuid).await?.health == "healthy")
                })
                .await
            }
        }
    }
}

/// Asks whether a drill may be, or for its fault.
///
/// # Errors
/// A cluster that is not for exercises, without --yes.
pub async fn ask(client: &mut Client, yes: bool, fault: Option<Wire>) -> Result<DrillReply, Failure> {
    let request = DrillRequest { confirmed: yes, user: user(), fault };
    client.call(async |api| api.drill(request.clone()).await).await
}

async fn notice(client: &mut Client, worker: &str, kind: &str, in_ms: Option<u64>) -> Result<(), Failure> {
    let request = NoticeRequest {
        request_id: request_id(None),
        worker: worker.to_owned(),
        kind: kind.to_owned(),
        in_ms,
        detail: REASON.to_owned(),
        drill: true,
        user: user(),
    };
    client.call(async |api| api.notice(request.clone()).await).await.map(drop)
}

/// Waits until `look` says so.
async fn is_back(
    client: &mut Client,
    not_yet: &str,
    hint: &str,
    mut look: impl AsyncFnMut(&mut Client) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let until = Instant::now() + BACK_WITHIN;
    loop {
        match look(client).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(failure) if Instant::now() >= until => return Err(failure),
            Err(_) => {}
        }
        if Instant::now() >= until {
            let message = format!("{not_yet} {} s after the drill", BACK_WITHIN.as_secs());
            return Err(Failure::new("NOT_PUT_BACK", message).hint(hint));
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub async fn show(client: &mut Client, worker: &str) -> Result<WorkerDoc, Failure> {
    let ask = GetRequest { id: worker.to_owned() };
    Ok(client.document(async |api| api.get_worker(ask.clone()).await).await?.1)
}

pub async fn device(client: &mut Client, uuid: &str) -> Result<DeviceDoc, Failure> {
    let ask = GetRequest { id: uuid.to_owned() };
    Ok(client.document(async |api| api.get_device(ask.clone()).await).await?.1)
}

async fn cluster(client: &mut Client) -> Result<ClusterDoc, Failure> {
    Ok(client.document(async |api| api.cluster_status(ListRequest {}).await).await?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_silence_costs_no_lease_and_a_long_one_every() {
        assert_eq!((KEPT_MS, LOSS_MS), (4_900, 15_000), "as the help and the docs say");
        assert_eq!(
            [4_900, 4_901, 14_999, 15_000].map(leases),
            [Leases::Kept, Leases::Either, Leases::Either, Leases::Lost]
        );
    }
}
