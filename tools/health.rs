//! `peccary inspect MODEL --health`: how a model's embeddings are, and how like those of another.

use std::fmt::Write as _;
use std::path::Path;

use peccary::{Dataset, EmbeddingHealth, Likeness, LikenessOptions, Model, SideHealth, embedding_health, likeness};
use serde::Serialize;

use crate::common::Globals;
use crate::numbers::grouped;

#[derive(Serialize)]
struct Report<'a> {
    kind: &'static str,
    path: &'a Path,
    fingerprint: String,
    #[serde(flatten)]
    health: &'a EmbeddingHealth,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Against<'a>>,
}

#[derive(Serialize)]
struct Against<'a> {
    path: &'a Path,
    fingerprint: String,
    #[serde(flatten)]
    likeness: &'a Likeness,
}

/// Prints it.
pub fn run(path: &Path, dataset: Option<&Path>, against: Option<&Path>, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let model = Model::open_named(path)?;
    let dataset = dataset.map(Dataset::open).transpose()?;
    let health = embedding_health(&model, dataset.as_ref(), &ctx)?;
    let other = against.map(Model::open).transpose()?;
    let alike = other.as_ref().map(|other| likeness(&model, other, LikenessOptions::default(), &ctx)).transpose()?;
    let mut text = format!("model {}\n", path.display());
    side(&mut text, "users", &health.users)?;
    side(&mut text, "items", &health.items)?;
    if let Some(alignment) = health.alignment {
        writeln!(text, "  alignment     {alignment:.4} of users and what they took (0 at best, 2 at right angles)")?;
    }
    if let (Some(alike), Some(against)) = (&alike, against) {
        writeln!(text, "against {}, the nearest and best {} each", against.display(), alike.k)?;
        writeln!(text, "  neighbours    {:.1} % of an item's are the same", 100.0 * alike.neighbours)?;
        writeln!(text, "  top           {:.1} % of a user's are the same", 100.0 * alike.top)?;
    }
    let beside = |path, likeness| {
        let fingerprint = other.as_ref().map(|other| other.manifest().fingerprint()).unwrap_or_default();
        Against { path, fingerprint, likeness }
    };
    let report = Report {
        kind: "health",
        path,
        fingerprint: model.manifest().fingerprint(),
        health: &health,
        against: against.zip(alike.as_ref()).map(|(path, alike)| beside(path, alike)),
    };
    globals.print(&report, text.trim_end())
}

fn side(text: &mut String, name: &str, side: &SideHealth) -> std::fmt::Result {
    let SideHealth { rows, dimensions, norms, zero_rows, effective_rank, uniformity, .. } = side;
    writeln!(text, "{name}: {} rows, {} of them zero", grouped(*rows as u64), grouped(*zero_rows as u64))?;
    writeln!(
        text,
        "  norms         mean {:.3}, min {:.3}, quartiles {:.3} {:.3} {:.3}, 99% {:.3}, max {:.3}",
        norms.mean, norms.min, norms.p25, norms.median, norms.p75, norms.p99, norms.max
    )?;
    writeln!(text, "  rank          {effective_rank:.1} of {dimensions} dimensions, effectively")?;
    match uniformity {
        Some(uniformity) => writeln!(text, "  uniformity    {uniformity:.3}"),
        None => Ok(()),
    }
}
