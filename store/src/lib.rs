//! muster-store: the one object store that members and workers share, behind `store.url`.
//!
//! A directory (`file://`), Amazon S3 and what speaks like it (`s3://`), Google Cloud Storage (`gs://`) and Azure Blob Storage (`az://`).
//! Small objects are put and got whole; large files go from and to the disk in parts, in parallel, with a SHA-256 on the way. A reader
//! never sees a part of an object. What went wrong is told apart: gone, damaged, refused, full, or not reached.
//!
//! Code map: `address` what may be written as a URL · `open` from a URL to a client · `store` the calls · `upload`, `download` large files
//! with a cloud · `local`, `copy` large files with a directory · `target` a file that appears whole · `error` · `limits` every number.
//!
//! Left out: which keys there are and what they mean; failpoints, which each user has of its own.

mod address;
mod copy;
mod download;
mod error;
pub mod limits;
mod local;
mod open;
mod store;
mod target;
mod upload;

pub use address::{StoreConfig, StoreOptions, check_url};
pub use error::StoreError;
pub use store::Store;
