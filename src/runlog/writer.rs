//! Writes a run log. Whatever goes wrong with it is told once, and training goes on.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{NAME, RunEvent, RunHappening, RunHeader, RunLog, RunRecord};
use crate::context::Context;
use crate::storage::disk::{self, DiskFile};
use crate::storage::{FileRecord, IoContext, StorageError, plain_record, sync_folder};

/// The log of a run that goes on, for all who write to it.
#[derive(Clone)]
pub(crate) struct RunLogWriter(Arc<Shared>);

struct Shared {
    ctx: Context,
    /// When the run would have begun, had it not been interrupted.
    began: Instant,
    log: Mutex<Option<Log>>,
}

struct Log {
    path: PathBuf,
    file: DiskFile,
    /// Bytes of whole lines.
    whole: u64,
    /// Whether it was told that lines could not be written.
    warned: bool,
    /// Whether the file, and the folder that was made for it, go with the run.
    own_folder: bool,
    /// Epochs and triples at the last moment.
    place: (f64, u64),
}

impl RunLogWriter {
    /// Begins the log of a run in `folder`, which is created if it is not there, and goes with the log then unless that is
    /// published.
    pub(crate) fn create(folder: &Path, header: RunHeader, ctx: &Context) -> Self {
        let path = folder.join(NAME);
        let there = folder.symlink_metadata().is_ok();
        // What a killed run has left is ours as well, if it is a log alone.
        let own_folder =
            !there || folder.read_dir().is_ok_and(|mut all| all.all(|e| e.is_ok_and(|e| e.file_name() == NAME)));
        let open = || {
            if !there {
                disk::create_folder(folder).at(folder, "create")?;
            }
            let file = locked(&path)?;
            file.set_len(0).at(&path, "cut")?;
            Ok(Log { path: path.clone(), file, whole: 0, warned: false, own_folder, place: (0.0, 0) })
        };
        let opened = open();
        if opened.is_err() && !there {
            // Nothing else is in it; failing to tidy up is no reason to fail.
            let _ = disk::remove_tree(folder);
        }
        let writer = Self::with(opened, Duration::ZERO, ctx);
        writer.write(&RunRecord::Run(Box::new(header)));
        writer
    }

    /// Goes on with the log in `folder` of a run that was interrupted, from the `place` after so many epochs and triples. A
    /// line that was cut off goes. Where there is no log that can be read, one begins with `header`.
    pub(crate) fn resume(folder: &Path, header: RunHeader, place: (f64, u64), ctx: &Context) -> Self {
        let path = folder.join(NAME);
        let Ok(read) = RunLog::open(&path) else {
            let writer = Self::create(folder, header, ctx);
            writer.event(RunHappening::Resumed, place, "the log of before cannot be read");
            return writer;
        };
        let kept = read.moments().into_iter().filter(|moment| moment.triples <= place.1).map(|moment| moment.seconds);
        let of_epochs = read.epochs().into_iter().filter(|e| f64::from(e.epoch) <= place.0).map(|e| e.seconds);
        let seconds = kept.chain(of_epochs).fold(0.0, f64::max);
        let open = || {
            let mut file = locked(&path)?;
            let mut text = Vec::new();
            file.read_to_end(&mut text).at(&path, "read")?;
            let whole = memchr::memrchr(b'\n', &text).map_or(0, |last| last as u64 + 1);
            file.set_len(whole).at(&path, "cut")?;
            file.seek(SeekFrom::Start(whole)).at(&path, "write")?;
            Ok(Log { path: path.clone(), file, whole, warned: false, own_folder: false, place })
        };
        let writer = Self::with(open(), Duration::try_from_secs_f64(seconds).unwrap_or_default(), ctx);
        writer.event(RunHappening::Resumed, place, "");
        writer
    }

    fn with(log: Result<Log, StorageError>, before: Duration, ctx: &Context) -> Self {
        if let Err(error) = &log {
            ctx.message(&format!("warning: {error}; training goes on without a run log"));
        }
        let now = Instant::now();
        let began = now.checked_sub(before).unwrap_or(now);
        Self(Arc::new(Shared { ctx: ctx.clone(), began, log: Mutex::new(log.ok()) }))
    }

    /// Seconds since the run began, without times in which it was interrupted.
    pub(crate) fn seconds(&self) -> f64 {
        self.0.began.elapsed().as_secs_f64()
    }

    /// Whether anything is written at all.
    pub(crate) fn writes(&self) -> bool {
        self.lock().is_some()
    }

    /// Appends a record. Where there is no room for it, it is left out, and what is there stays whole.
    pub(crate) fn write(&self, record: &RunRecord) {
        let Ok(mut line) = serde_json::to_vec(record) else { return };
        line.push(b'\n');
        let mut guard = self.lock();
        let Some(log) = &mut *guard else { return };
        if let RunRecord::Now(moment) = record {
            log.place = (moment.epochs, moment.triples);
        }
        match log.file.write_all(&line) {
            Ok(()) => log.whole += line.len() as u64,
            Err(error) => {
                // What of the line is there goes again. Failing that, the next line would go on with it.
                let whole = log.whole;
                let cut = log.file.set_len(whole).and_then(|()| log.file.seek(SeekFrom::Start(whole)));
                if !log.warned {
                    let error = Err::<(), _>(error).at(&log.path, "write").unwrap_err();
                    self.0.ctx.message(&format!("warning: {error}; training goes on, its run log has gaps"));
                    log.warned = true;
                }
                if cut.is_err()
                    && let Some(log) = guard.take()
                {
                    log.remove();
                }
            }
        }
    }

    /// Appends an event that happened at the place that is told by `epochs` and `triples`.
    pub(crate) fn event(&self, what: RunHappening, (epochs, triples): (f64, u64), text: &str) {
        let event = RunEvent { seconds: self.seconds(), at: now(), what, epochs, triples, text: text.to_string() };
        self.write(&RunRecord::Event(event));
    }

    /// Appends what the user was told.
    pub(crate) fn message(&self, text: &str) {
        self.event(RunHappening::Message, self.place(), text);
    }

    /// Epochs and triples at the last moment.
    pub(crate) fn place(&self) -> (f64, u64) {
        self.lock().as_ref().map_or((0.0, 0), |log| log.place)
    }

    /// Moves the log, which has ended, to `folder`, where the manifest is to list it as `relative`; what it is to say.
    /// Readers keep it open. `None` if there is none, or it cannot be moved: a model is published without it, too.
    pub(crate) fn publish(&self, folder: &Path, relative: &str) -> Option<FileRecord> {
        let log = self.lock().take()?;
        let target = folder.join(NAME);
        let put = || {
            log.file.sync().at(&log.path, "sync")?;
            disk::rename(&log.path, &target).at(&target, "rename to")?;
            plain_record(&target, relative)
        };
        let record = put();
        match record {
            Ok(record) => {
                log.remove_folder();
                Some(record)
            }
            Err(error) => {
                self.0.ctx.message(&format!("warning: {error}; the model has no run log"));
                let _ = disk::remove_file(&target);
                log.remove();
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Log>> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(log) = self.log.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            log.remove();
        }
    }
}

impl Log {
    /// Removes the log of a run that published nothing, if it has a folder of its own; otherwise it is the folder's.
    fn remove(self) {
        if self.own_folder {
            // Failing to tidy up is no reason to fail; the next run finds it.
            let _ = disk::remove_file(&self.path);
            self.remove_folder();
        }
    }

    fn remove_folder(&self) {
        if self.own_folder {
            let folder = disk::parent_of(&self.path);
            let _ = disk::remove_tree(folder).map(|()| sync_folder(disk::parent_of(folder)));
        }
    }
}

/// Opens the file, or creates it, and locks it: that tells readers that it is being written.
fn locked(path: &Path) -> Result<DiskFile, StorageError> {
    let file = DiskFile::open_or_create(path).at(path, "create")?;
    match file.try_lock() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::from(io::ErrorKind::ResourceBusy)).at(path, "lock")
        }
        // Without locks readers cannot tell, and nothing else is lost.
        _ => Ok(file),
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or_default()
}
