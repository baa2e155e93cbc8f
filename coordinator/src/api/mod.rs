//! What users, workers, members and KEDA call. `service` holds the use cases on core types; `grpc`, `rest`, `keda`, `worker` and `member`
//! are adapters.
//!
//! Architecture invariant: wire types stop at the adapters.

pub mod backup;
pub mod cluster;
pub mod devices;
pub mod drill;
pub mod error;
pub mod explain;
pub mod forward;
pub mod grpc;
pub mod keda;
pub mod logs;
pub mod member;
pub mod membership;
pub mod rest;
pub mod service;
pub mod signals;
pub mod submit;
pub mod telemetry;
pub mod views;
pub mod worker;

pub use error::ApiError;
pub use forward::Forward;
pub use service::Service;
