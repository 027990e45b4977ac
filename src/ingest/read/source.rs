//! The inputs of a run, expanded to the single files that are read one after another.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::{Format, ReadError, ReadOptions};

/// What was named as input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file or a folder.
    Path(PathBuf),
    /// Standard input.
    Stdin,
}

impl FromStr for Input {
    type Err = std::convert::Infallible;

    /// `-` is standard input.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdin } else { Self::Path(text.into()) })
    }
}

/// One file, pipe or standard input.
#[derive(Clone, Debug)]
pub struct Source {
    pub(super) name: Arc<str>,
    /// `None` is standard input.
    pub(super) path: Option<PathBuf>,
    pub(super) bytes: Option<u64>,
    pub(super) format: Option<Format>,
}

impl Source {
    /// The name in messages and in the manifest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's path, unless this is standard input.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Size in bytes as stored (compressed, if it is); unknown for pipes.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// The format by flag or extension; where neither tells, [`super::open`] goes by the first bytes.
    #[cfg(test)]
    pub fn format(&self) -> Option<Format> {
        self.format
    }
}

/// Lists the sources behind `inputs`, in their order, and checks that each can be opened.
///
/// Folders are searched with all below them, sorted by path; names that begin with `.` or `_` and links to folders are
/// passed over. Files in a folder count if their extension is known, or all of them when a format is given.
pub fn sources(inputs: &[Input], options: &ReadOptions) -> Result<Vec<Source>, ReadError> {
    if inputs.is_empty() {
        return Err(ReadError::NoInputs);
    }
    if inputs.iter().filter(|i| matches!(i, Input::Stdin)).count() > 1 {
        return Err(ReadError::StdinTwice);
    }
    let mut found = Vec::new();
    for input in inputs {
        match input {
            Input::Stdin if options.format == Some(Format::Parquet) => {
                return Err(ReadError::ParquetStream {
                    name: STDIN.into(),
                    remedy: "give the file's path instead of -",
                });
            }
            Input::Stdin => {
                found.push(Source { name: STDIN.into(), path: None, bytes: None, format: options.format });
            }
            Input::Path(path) => {
                let metadata = fs::metadata(path).map_err(|e| unreadable(path, e))?;
                if metadata.is_dir() {
                    let before = found.len();
                    let mut files = 0;
                    search(path, options, &mut found, &mut files)?;
                    if found.len() == before {
                        return Err(ReadError::NoLogs { path: path.display().to_string(), files });
                    }
                } else {
                    found.push(file(path, &metadata, options)?);
                }
            }
        }
    }
    Ok(found)
}

const STDIN: &str = "standard input";

fn unreadable(path: &Path, source: std::io::Error) -> ReadError {
    let path = path.display().to_string();
    match source.kind() {
        std::io::ErrorKind::NotFound => ReadError::NotFound { path },
        _ => ReadError::Unreadable { path, source },
    }
}

fn search(folder: &Path, options: &ReadOptions, found: &mut Vec<Source>, files: &mut usize) -> Result<(), ReadError> {
    let listed = |e| unreadable(folder, e);
    let mut entries = fs::read_dir(folder).map_err(listed)?.collect::<Result<Vec<_>, _>>().map_err(listed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if matches!(entry.file_name().as_encoded_bytes().first(), Some(b'.' | b'_')) {
            continue;
        }
        let is_link = entry.file_type().map_err(|e| unreadable(&path, e))?.is_symlink();
        let metadata = fs::metadata(&path).map_err(|e| unreadable(&path, e))?;
        if metadata.is_dir() {
            if !is_link {
                search(&path, options, found, files)?;
            }
        } else {
            *files += 1;
            if options.format.is_some() || by_extension(&path).is_known {
                found.push(file(&path, &metadata, options)?);
            }
        }
    }
    Ok(())
}

fn file(path: &Path, metadata: &fs::Metadata, options: &ReadOptions) -> Result<Source, ReadError> {
    // Opening a pipe and closing it again would break it for its writer.
    if metadata.is_file() {
        File::open(path).map_err(|e| unreadable(path, e))?;
    }
    Ok(Source {
        name: path.display().to_string().into(),
        path: Some(path.into()),
        bytes: metadata.is_file().then_some(metadata.len()),
        format: options.format.or(by_extension(path).format),
    })
}

struct Extension {
    /// The format that the extension stands for, if it stands for one.
    format: Option<Format>,
    /// Whether it is one that logs have.
    is_known: bool,
}

/// Looks behind `.gz` and `.zst`. `.txt` and `.dat` are logs of a format that their content shows.
fn by_extension(path: &Path) -> Extension {
    let mut name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    for compressed in [".gz", ".zst"] {
        if let Some(stem) = name.strip_suffix(compressed) {
            name = stem.to_owned();
            break;
        }
    }
    let format = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("csv") => Some(Format::Csv),
        Some("tsv") => Some(Format::Tsv),
        Some("ndjson" | "jsonl") => Some(Format::Ndjson),
        Some("parquet") => Some(Format::Parquet),
        Some("txt" | "dat") => None,
        _ => return Extension { format: None, is_known: false },
    };
    Extension { format, is_known: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(source: &Source, root: &Path) -> String {
        source.path().unwrap().strip_prefix(root).unwrap().display().to_string()
    }

    #[test]
    fn folders_are_searched_in_order() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for folder in ["b", ".git", "_tmp"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        for name in
            ["c.csv", "b/1.NDJSON.gz", "b/0.tsv.zst", "a.dat", "README.md", ".x.csv", ".git/y.csv", "_tmp/z.csv"]
        {
            fs::write(root.join(name), "x").unwrap();
        }
        let found = sources(&[Input::Path(root.into())], &ReadOptions::default()).unwrap();
        let names: Vec<_> = found.iter().map(|s| name_of(s, root)).collect();
        assert_eq!(names, ["a.dat", "b/0.tsv.zst", "b/1.NDJSON.gz", "c.csv"]);
        let formats: Vec<_> = found.iter().map(Source::format).collect();
        assert_eq!(formats, [None, Some(Format::Tsv), Some(Format::Ndjson), Some(Format::Csv)]);
        assert_eq!(found[0].bytes(), Some(1));

        let options = ReadOptions { format: Some(Format::Ndjson), ..Default::default() };
        let found = sources(&[Input::Path(root.into())], &options).unwrap();
        assert_eq!(found.len(), 5);
        assert!(found.iter().all(|s| s.format() == Some(Format::Ndjson)));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let root = tempfile::tempdir().unwrap();
        let says = |inputs: &[Input], options: &ReadOptions| sources(inputs, options).unwrap_err().to_string();
        let options = ReadOptions::default();
        fs::write(root.path().join("notes.md"), "x").unwrap();
        assert!(says(&[Input::Path(root.path().into())], &options).contains("no logs in this folder (1 files"));
        let absent = root.path().join("absent.csv");
        assert!(says(&[Input::Path(absent)], &options).contains("absent.csv: there is no such file"));
        assert!(says(&[], &options).contains("nothing to read"));
        assert!(says(&[Input::Stdin, Input::Stdin], &options).contains("more than once"));
        let parquet = ReadOptions { format: Some(Format::Parquet), ..Default::default() };
        assert!(says(&[Input::Stdin], &parquet).contains("give the file's path"));
    }
}
