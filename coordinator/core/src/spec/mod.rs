//! Job file → model: the same code in the command line and in every member, so what `muster validate` accepts a member accepts.
//! Left out: reading files (the command line's), shipping `workdir` (the blob rooms'), evaluating anything in apply.
//!
//! The way of a job: bytes → [`parse`] → [`JobFile`] (as written) → [`check`] → [`JobSpec`](crate::model::job_spec::JobSpec) (numbers
//! instead of names, parameters fixed) → [`SpecBytes`] in the log. Templates and expressions are compiled once by `check` and
//! run by the leader through [`Renderer`] and [`Expressions`].

mod array;
mod array_file;
mod artifacts;
mod budget;
mod bytes;
mod common;
mod deadline;
mod diagnose;
mod error;
mod expr;
mod expr_facts;
mod file;
#[cfg(test)]
mod fuzz;
mod gang;
mod graph;
mod later;
pub mod limits;
mod names;
mod options;
mod params;
mod parse;
mod policy;
mod request;
mod resolve;
mod schema;
pub mod script;
mod slurm;
mod template;
#[cfg(test)]
mod tests;
mod tree;
mod unsupported;
mod value;

pub use array_file::{ArrayFile, AxisFile, MatrixFile};
pub use budget::BudgetFile;
pub use bytes::{SpecBytes, SpecBytesError};
pub use error::{SpecCode, SpecError, SpecErrors, SpecWarning, nearest};
pub use expr::{ExprError, Expressions};
pub use expr_facts::{TaskFacts, WhenFacts, WorkerFacts, WorkerValue};
pub use file::{CompatFile, DefaultsFile, JobFile, OutputFile, TaskFile};
pub use gang::{ElasticFile, TopologyFile};
pub use later::{
    BackfillFile, ContainerFile, ContainerRuntime, NotifyFile, Overlap, ScheduleFile, TriggerFile,
};
pub use options::RunOptions;
pub use parse::{Format, parse};
pub use policy::{
    BackoffFile, CheckpointFile, LogActionFile, LogRuleFile, RetryFile, RetryOnFile, RuleFile, SpotFile,
};
pub use request::{GpuTable, GpusFile, LinkFile, ResourcesFile};
pub use resolve::{Checked, check, load};
pub use schema::job_schema;
pub use script::is_script;
pub use template::{Rendered, Renderer, TemplateError};
pub use value::{Cpus, NeedFile, NeedsFile, Ordered, RunFile, Texts, WhenEnd, WorkdirFile};
