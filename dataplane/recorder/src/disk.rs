//! The thread that writes. A disk may be slow, full or gone: what waits for it is bounded, and
//! whoever makes recordings is told.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, rename};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::message::{Ending, RecordingId};

/// Bytes that may wait for the disk: four seconds of 130 Mbit/s. More of them would hide a disk
/// that is too slow for longer, and be lost with the server.
pub const MAX_WAITING_BYTES: usize = 64 << 20;

/// How often a file's data is forced to the disk: so much is lost when the machine fails. When only
/// the server does, the kernel still has it.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// How often free space is looked at.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// A file, unique for the life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileKey(pub u64);

impl FileKey {
    /// One that no file has had.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        FileKey(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What the disk does.
#[derive(Debug)]
pub enum Job {
    /// Make a recording's folder.
    Folder(RecordingId, PathBuf),
    /// Begin a file in it.
    Create(RecordingId, FileKey, PathBuf),
    /// Append to a file.
    Append(FileKey, Vec<u8>),
    /// Write over what stands there.
    Patch(FileKey, u64, Vec<u8>),
    /// Close a file.
    Close(FileKey),
    /// Put a whole file in the place of an older one.
    Replace(RecordingId, PathBuf, Vec<u8>),
    /// Nothing more comes of a recording: say when all before is done.
    End(RecordingId),
}

/// What the disk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskEvent {
    /// Something of a recording could not be written; nothing more of it will be.
    Failed(RecordingId, Ending),
    /// Everything of a recording is written.
    Ended(RecordingId),
}

/// The way to the disk.
pub struct Disk {
    jobs: Sender<Job>,
    events: Receiver<DiskEvent>,
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread. Recordings end while less than `min_free` bytes are free.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(min_free: u64) -> std::io::Result<Self> {
        let (jobs, taken) = channel();
        let (told, events) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut writer = Writer {
            min_free,
            files: HashMap::new(),
            failed: Vec::new(),
            told,
            waiting: Arc::clone(&waiting),
            looked: None,
        };
        let run = move || taken.into_iter().for_each(|job| writer.perform(job));
        let thread = std::thread::Builder::new().name("record-disk".into()).spawn(run)?;
        Ok(Disk { jobs, events, waiting, thread: Some(thread) })
    }

    /// Gives the disk something to do.
    pub fn give(&self, job: Job) {
        self.waiting.fetch_add(job.len(), Ordering::Relaxed);
        // The thread ends with its sender, and does not panic.
        let _ = self.jobs.send(job);
    }

    /// Appends to a file; `false`, and nothing is appended, if too much waits already.
    #[must_use]
    pub fn append(&self, file: FileKey, bytes: Vec<u8>) -> bool {
        if self.waiting.load(Ordering::Relaxed) + bytes.len() > MAX_WAITING_BYTES {
            return false;
        }
        self.give(Job::Append(file, bytes));
        true
    }

    /// What it says next.
    pub fn poll_event(&self) -> Option<DiskEvent> {
        self.events.try_recv().ok()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs = channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Job {
    fn len(&self) -> usize {
        match self {
            Job::Append(_, bytes) | Job::Patch(_, _, bytes) | Job::Replace(_, _, bytes) => {
                bytes.len()
            }
            _ => 0,
        }
    }
}

struct OpenFile {
    recording: RecordingId,
    file: File,
    folder: PathBuf,
    synced: Instant,
}

struct Writer {
    min_free: u64,
    files: HashMap<FileKey, OpenFile>,
    /// Recordings of which nothing is written any more.
    failed: Vec<RecordingId>,
    told: Sender<DiskEvent>,
    waiting: Arc<AtomicUsize>,
    looked: Option<Instant>,
}

impl Writer {
    fn perform(&mut self, job: Job) {
        let len = job.len();
        let recording = match &job {
            Job::Folder(recording, _)
            | Job::Create(recording, ..)
            | Job::Replace(recording, ..)
            | Job::End(recording) => Some(*recording),
            Job::Append(file, _) | Job::Patch(file, ..) | Job::Close(file) => {
                self.files.get(file).map(|file| file.recording)
            }
        };
        if let Some(recording) = recording
            && let Err(error) = self.write(job)
            && !self.failed.contains(&recording)
        {
            tracing::error!(recording = recording.0, %error, "a recording cannot be written");
            self.failed.push(recording);
            // Whoever made the recording has ended, if nobody hears this.
            let _ = self.told.send(DiskEvent::Failed(recording, ending_of(&error)));
        }
        self.waiting.fetch_sub(len, Ordering::Relaxed);
    }

    fn write(&mut self, job: Job) -> std::io::Result<()> {
        match job {
            Job::Folder(_, path) => {
                DirBuilder::new().mode(0o700).create(&path)?;
                self.look_for_space(&path, true)
            }
            Job::Create(recording, key, path) => {
                let file = create(&path)?;
                let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
                let synced = Instant::now();
                self.files.insert(key, OpenFile { recording, file, folder, synced });
                Ok(())
            }
            Job::Append(key, bytes) => self.append(key, &bytes),
            Job::Patch(key, at, bytes) => match self.files.get(&key) {
                Some(open) => open.file.write_all_at(&bytes, at),
                None => Ok(()),
            },
            Job::Close(key) => match self.files.remove(&key) {
                Some(open) => open.file.sync_data(),
                None => Ok(()),
            },
            Job::Replace(_, path, bytes) => {
                let beside = path.with_extension("new");
                create(&beside)?.write_all(&bytes)?;
                rename(&beside, &path)
            }
            Job::End(recording) => {
                self.files.retain(|_, open| open.recording != recording);
                self.failed.retain(|failed| *failed != recording);
                let _ = self.told.send(DiskEvent::Ended(recording));
                Ok(())
            }
        }
    }

    fn append(&mut self, key: FileKey, bytes: &[u8]) -> std::io::Result<()> {
        let Some(open) = self.files.get_mut(&key) else { return Ok(()) };
        if self.failed.contains(&open.recording) {
            return Ok(());
        }
        open.file.write_all(bytes)?;
        if open.synced.elapsed() >= SYNC_INTERVAL {
            open.synced = Instant::now();
            open.file.sync_data()?;
        }
        let folder = open.folder.clone();
        self.look_for_space(&folder, false)
    }

    fn look_for_space(&mut self, folder: &Path, now: bool) -> std::io::Result<()> {
        if !now && self.looked.is_some_and(|looked| looked.elapsed() < SPACE_INTERVAL) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let space = nix::sys::statvfs::statvfs(folder)?;
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        match free < self.min_free {
            true => Err(ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

/// A file that only the server's user reads.
fn create(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn ending_of(error: &std::io::Error) -> Ending {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Ending::DiskFull,
        ErrorKind::FileTooLarge => Ending::TooLarge,
        _ => Ending::WriteFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(disk: &Disk) -> DiskEvent {
        disk.events.recv_timeout(Duration::from_secs(10)).expect("the disk says something")
    }

    #[test]
    fn a_full_disk_is_said_once_and_the_rest_is_left() {
        let disk = Disk::start(0).unwrap();
        let (recording, file) = (RecordingId(1), FileKey(7));
        disk.give(Job::Create(recording, file, "/dev/full".into()));
        for _ in 0..3 {
            assert!(disk.append(file, vec![0; 100]));
        }
        disk.give(Job::End(recording));
        assert_eq!(event(&disk), DiskEvent::Failed(recording, Ending::DiskFull));
        assert_eq!(event(&disk), DiskEvent::Ended(recording));
        assert_eq!(disk.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_folder_that_is_not_to_be_had_ends_its_recording_alone() {
        let disk = Disk::start(0).unwrap();
        let here = std::env::temp_dir().join(format!("opencall-disk-{}", std::process::id()));
        disk.give(Job::Folder(RecordingId(1), "/proc/none/of".into()));
        disk.give(Job::Folder(RecordingId(2), here.clone()));
        disk.give(Job::Create(RecordingId(2), FileKey(1), here.join("a")));
        assert!(disk.append(FileKey(1), b"__cde".to_vec()));
        disk.give(Job::Patch(FileKey(1), 0, b"ab".to_vec()));
        disk.give(Job::Close(FileKey(1)));
        disk.give(Job::End(RecordingId(2)));
        assert_eq!(event(&disk), DiskEvent::Failed(RecordingId(1), Ending::WriteFailed));
        assert_eq!(event(&disk), DiskEvent::Ended(RecordingId(2)));
        assert_eq!(std::fs::read(here.join("a")).unwrap(), b"abcde");
        assert_eq!(here.join("a").metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_dir_all(here).unwrap();
    }

    #[test]
    fn less_free_space_than_is_wanted_ends_a_recording() {
        let disk = Disk::start(u64::MAX).unwrap();
        let here = std::env::temp_dir().join(format!("opencall-space-{}", std::process::id()));
        disk.give(Job::Folder(RecordingId(1), here.clone()));
        assert_eq!(event(&disk), DiskEvent::Failed(RecordingId(1), Ending::DiskFull));
        std::fs::remove_dir_all(here).unwrap();
    }

    #[test]
    fn what_waits_for_a_disk_that_does_nothing_is_bounded() {
        let (jobs, _never_taken) = channel();
        let (_, events) = channel();
        let disk = Disk { jobs, events, waiting: Arc::default(), thread: None };
        let taken = (0..200).filter(|_| disk.append(FileKey(1), vec![0; 1 << 20])).count();
        assert_eq!(taken, MAX_WAITING_BYTES >> 20);
    }
}
