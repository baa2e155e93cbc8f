//! The documents that people and programs read: what `--output json` prints, what REST serves, what the tables are made of.
//!
//! Plain serde structs, filled by the coordinator's shell from state and history, printed by the CLI. Field names are a contract
//! (SPEC section 7): fields are added, never renamed. Unknown fields are ignored on reading, so an older CLI reads a newer member.
//! Left out: how documents are made, and the words of tables.

mod checkpoint;
mod cluster;
mod cost;
mod counts;
mod device;
mod explain;
mod job;
mod pool;
mod queue;
mod sample;
mod signal;
mod time;
mod worker;

pub use checkpoint::{CheckpointDoc, CheckpointsDoc};
pub use cluster::{ClusterDoc, MemberDoc};
pub use cost::{BudgetDoc, BudgetsDoc, ClassesDoc, CostDoc, CostRowDoc};
pub use counts::CountsDoc;
pub use device::{BreakerDoc, DeviceDoc, DeviceNoteDoc, DevicesDoc, HolderDoc};
pub use explain::{BlockerDoc, ExplainDoc, TaskExplainDoc};
pub use job::{AttemptDoc, JobDoc, JobSummary, JobsDoc, NeedDoc, RankDoc, TaskDoc, TimelineDoc};
pub use pool::{PoolDoc, PoolsDoc};
pub use queue::{QueueDoc, QueuesDoc};
pub use sample::{GpuProcessDoc, GpuSampleDoc, MachineDoc};
pub use signal::{PoolSignalDoc, SignalsDoc, UnmetDoc, UseDoc};
pub use time::{BadTime, parse_rfc3339, rfc3339};
pub use worker::{GpuDoc, LeaseDoc, LinkDoc, NoticeDoc, WorkerDoc, WorkersDoc};
