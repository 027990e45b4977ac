//! What to measure on: a named shape, made once by `synth` and `ingest`, or any dataset.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use peccary::{
    Context, IngestOptions, Input, Inputs, PlantedModel, Split, SynthConfig, SynthFormat, ingest, save_synth,
};

/// What the `--help` of each measurement says of shapes.
pub const SHAPES: &str = "\
Shapes are written once, by synth and ingest, into --folder, and used again the next time:
  small    10,000 users x  2,000 items x    500,000 interactions
  gowalla  29,858 users x 40,981 items x  1,027,370 interactions
  ml-20m  138,493 users x 26,744 items x 20,000,000 interactions (700 MB while made)";

/// The flags that choose a dataset.
#[derive(clap::Args)]
pub struct Subject {
    /// Shape of a synthetic log to measure on
    #[arg(long, value_enum, default_value_t = Shape::Small, conflicts_with = "dataset")]
    shape: Shape,
    /// Dataset to measure on instead
    #[arg(long, value_name = "DATASET")]
    dataset: Option<PathBuf>,
    /// Where the datasets of shapes are kept
    #[arg(long, value_name = "FOLDER", default_value = "peccary-bench")]
    folder: PathBuf,
}

impl Subject {
    /// The dataset to measure on, made if it is not there.
    pub fn dataset(&self, ctx: &Context) -> anyhow::Result<PathBuf> {
        match &self.dataset {
            Some(path) => Ok(path.clone()),
            None => self.shape.dataset(&self.folder, "", &IngestOptions::default(), ctx),
        }
    }

    /// The same, with a tenth of the interactions held out if it is made here.
    pub fn dataset_with_test(&self, ctx: &Context) -> anyhow::Result<PathBuf> {
        match &self.dataset {
            Some(path) => Ok(path.clone()),
            None => {
                let options = IngestOptions { split: Split::Random(0.1), ..IngestOptions::default() };
                self.shape.dataset(&self.folder, "-test", &options, ctx)
            }
        }
    }
}

/// A shape of a synthetic log.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Shape {
    Small,
    Gowalla,
    #[value(name = "ml-20m")]
    Ml20m,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Gowalla => "gowalla",
            Self::Ml20m => "ml-20m",
        }
    }

    fn config(self) -> SynthConfig {
        let (users, items, interactions) = match self {
            Self::Small => (10_000, 2_000, 500_000),
            Self::Gowalla => (29_858, 40_981, 1_027_370),
            Self::Ml20m => (138_493, 26_744, 20_000_000),
        };
        SynthConfig { users, items, interactions, ..SynthConfig::default() }
    }

    /// The log of this shape in `folder`, made if it is not there.
    pub fn log(self, format: SynthFormat, folder: &Path, ctx: &Context) -> anyhow::Result<PathBuf> {
        let extension = match format {
            SynthFormat::Csv => "csv",
            SynthFormat::Tsv => "tsv",
            SynthFormat::Ndjson => "ndjson",
            SynthFormat::Parquet => "parquet",
        };
        let log = folder.join(format!("{}.{extension}", self.name()));
        if !log.exists() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot create the folder", folder.display()))?;
            save_synth(&PlantedModel::new(&self.config(), ctx)?, format, &log, true, ctx)?;
        }
        Ok(log)
    }

    /// The dataset of this shape in `folder`, its name ending in `kind`, made with `options` if it is not there.
    fn dataset(self, folder: &Path, kind: &str, options: &IngestOptions, ctx: &Context) -> anyhow::Result<PathBuf> {
        let data = folder.join(format!("{}{kind}.pec", self.name()));
        if data.exists() {
            return Ok(data);
        }
        // A log that was there before is somebody's: `bench ingest` reads it again and again.
        let lasting = folder.join(format!("{}.csv", self.name())).exists();
        let log = self.log(SynthFormat::Csv, folder, ctx)?;
        let made = ingest(&Inputs::from(vec![Input::Path(log.clone())]), options, &data, false, ctx);
        if !lasting {
            std::fs::remove_file(&log).with_context(|| format!("{}: cannot remove it", log.display()))?;
        }
        made?;
        Ok(data)
    }
}
