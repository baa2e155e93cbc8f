//! `muster bench replay openb`: a published trace of GPU tasks, placed by the scheduler's own board, beside six published policies.
//!
//! Code map: `trace` the files · `protocol` one run, as the FGD paper (USENIX ATC'23) lays down · `published` what others reached ·
//! `document` table and JSON. Only the core is driven: no cluster, no wire.

mod document;
mod protocol;
mod published;
mod trace;

use document::{Document, Variant};
pub use protocol::{Chance, MixOf};
use protocol::{Outcome, replay};
use published::PUBLISHED;
use trace::Trace;
pub use trace::{Pod, pod, text};

use anyhow::{Result, ensure};
use std::path::Path;

/// Replays these variants with these seeds; `told` hears of each variant that is done.
///
/// # Errors
/// A file that is missing or wrong, or a variant without published figures.
pub fn run(
    dir: &Path,
    variants: &[String],
    seeds: &[u64],
    mix: MixOf,
    mut told: impl FnMut(&Variant),
) -> Result<Document> {
    ensure!(!seeds.is_empty(), "no seed was given; `--seeds 42-51` are those of the published figures");
    for name in variants {
        ensure!(
            PUBLISHED.iter().any(|p| p.variant == name),
            "`{name}` is no variant with published figures; they are {}",
            PUBLISHED.iter().map(|p| p.variant).collect::<Vec<_>>().join(", ")
        );
    }
    let all = PUBLISHED.iter().filter(|p| variants.is_empty() || variants.iter().any(|v| v == p.variant));
    let mut rows = Vec::new();
    for published in all {
        let trace = Trace::read(dir, published.variant)?;
        let outcomes: Vec<Outcome> = seeds.iter().map(|seed| replay(&trace, *seed, mix)).collect();
        let row = Variant::new(published, &outcomes);
        told(&row);
        rows.push(row);
    }
    Ok(Document::new(rows, seeds.to_vec(), mix))
}
