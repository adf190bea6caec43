//! A spool in a directory: decisions that wait there survive a crash of this process and of the machine.
//!
//! Each process appends JSON lines to a file of its own, locked while it does, and begins another one when that is
//! long. Any process that can lock a file may deliver it: the process that wrote it has closed it, or has ended. Lines
//! that a crash cut off were never acknowledged.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tierkeep_core::audit::Draft;
use tierkeep_engine::{Portion, Spool, SpoolShare};
use uuid::Uuid;

use crate::config::private_directory;

/// All that may wait in a directory, in bytes, and how much of it is kept for internal users' decisions.
const MOST_BYTES: u64 = 64 << 20;
const RESERVED_BYTES: u64 = 16 << 20;
/// After this many bytes a file is closed.
const FILE_BYTES: u64 = 256 << 10;
const ENDING: &str = "spool";

/// A spool in a directory, which is made when something waits.
#[derive(Debug)]
pub struct FileSpool {
    directory: PathBuf,
    most_bytes: u64,
    reserved_bytes: u64,
    /// Names the files of this process, and orders them among those of others by when it began.
    process: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: Option<Open>,
    /// What was handed out, still locked.
    taken: Option<(String, File)>,
}

#[derive(Debug)]
struct Open {
    name: String,
    file: File,
    bytes: u64,
}

impl FileSpool {
    /// A spool in this directory.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            most_bytes: MOST_BYTES,
            reserved_bytes: RESERVED_BYTES,
            process: Uuid::now_v7().simple().to_string(),
            state: Mutex::default(),
        }
    }

    /// How many entries wait in files that no process has written to since `before`.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn waiting_since(&self, before: SystemTime) -> io::Result<usize> {
        let mut waiting = 0;
        for name in self.files()?.into_keys() {
            let path = self.directory.join(name);
            // Another process may have delivered it meanwhile.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            if metadata.modified()? <= before {
                let lines = fs::read(&path)?;
                waiting += lines.split(|byte| *byte == b'\n').count() - 1;
            }
        }
        Ok(waiting)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file that no other process has ever seen under its name without its lock.
    fn begin(&self, state: &mut State) -> io::Result<Open> {
        private_directory(&self.directory)?;
        let name = format!("{}-{:08}.{ENDING}", self.process, state.next);
        state.next += 1;
        let draft = self.directory.join(format!(".{name}"));
        let mut options = OpenOptions::new();
        options.append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&draft)?;
        file.lock()?;
        fs::rename(&draft, self.directory.join(&name))?;
        self.sync()?;
        Ok(Open {
            name,
            file,
            bytes: 0,
        })
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// The files that wait, by name; none where there is no directory.
    fn files(&self) -> io::Result<BTreeMap<String, u64>> {
        let listed = match fs::read_dir(&self.directory) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let mut files = BTreeMap::new();
        for entry in listed {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.ends_with(&format!(".{ENDING}")) && !name.starts_with('.');
            // Another process may have delivered it meanwhile.
            if let Some(found) = entry.metadata().ok().filter(|_| ours) {
                files.insert(name, found.len());
            }
        }
        Ok(files)
    }
}

impl Spool for FileSpool {
    fn push(&self, drafts: &[Draft], share: SpoolShare) -> io::Result<()> {
        let mut lines = Vec::new();
        for draft in drafts {
            serde_json::to_writer(&mut lines, draft)?;
            lines.push(b'\n');
        }
        let length = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        let waiting: u64 = self.files()?.values().sum();
        let most_bytes = match share {
            SpoolShare::Public => self.most_bytes.saturating_sub(self.reserved_bytes),
            SpoolShare::Reserved => self.most_bytes,
        };
        if waiting.saturating_add(length) > most_bytes {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the spool in {} is full", self.directory.display()),
            ));
        }
        let mut open = match state.open.take() {
            Some(open) => open,
            None => self.begin(&mut state)?,
        };
        let written = open.file.write_all(&lines);
        if let Err(error) = written.and_then(|()| open.file.sync_data()) {
            // Cuts the file back to its last whole line. If that fails too, the lines that were written are delivered.
            open.file.set_len(open.bytes).ok();
            return Err(error);
        }
        open.bytes += length;
        if open.bytes < FILE_BYTES {
            state.open = Some(open);
        }
        Ok(())
    }

    fn take(&self) -> io::Result<Option<Portion>> {
        let mut state = self.lock();
        state.taken = None;
        let mut busy: Option<String> = None;
        for name in self.files()?.into_keys() {
            let process = name.split('-').next().unwrap_or_default();
            // What a process wrote is delivered in its order, or waits.
            if busy.as_deref() == Some(process) {
                continue;
            }
            if state.open.as_ref().is_some_and(|open| open.name == name) {
                state.open = None;
            }
            let path = self.directory.join(&name);
            let mut file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if file.try_lock().is_err() {
                busy = Some(process.to_owned());
                continue;
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let portion = portion(name, &bytes);
            if portion.drafts.is_empty() && portion.damaged == 0 {
                fs::remove_file(&path).ok();
                continue;
            }
            state.taken = Some((portion.name.clone(), file));
            return Ok(Some(portion));
        }
        Ok(None)
    }

    fn done(&self, portion: &Portion) -> io::Result<()> {
        let mut state = self.lock();
        match fs::remove_file(self.directory.join(&portion.name)) {
            Ok(()) => self.sync()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        state.taken = None;
        Ok(())
    }
}

/// A last line without an end was cut off by a crash: its writer was never told that it is kept.
fn portion(name: String, bytes: &[u8]) -> Portion {
    let mut portion = Portion {
        name,
        drafts: Vec::new(),
        damaged: 0,
    };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else {
            break;
        };
        match serde_json::from_slice(line) {
            Ok(draft) => portion.drafts.push(draft),
            Err(_) => portion.damaged += 1,
        }
    }
    portion
}

#[cfg(test)]
mod tests {
    use tierkeep_core::audit::AuditKind;
    use tierkeep_core::bson::DateTime;

    use super::*;

    fn drafts(ids: std::ops::Range<u32>) -> Vec<Draft> {
        let at = DateTime::from_millis(0);
        ids.map(|id| Draft::new(format!("{id:04}"), AuditKind::Decision, at))
            .collect()
    }

    fn drained(spool: &FileSpool) -> Vec<Draft> {
        let mut all = Vec::new();
        while let Some(portion) = spool.take().unwrap() {
            assert_eq!(portion.damaged, 0);
            spool.done(&portion).unwrap();
            all.extend(portion.drafts);
        }
        all
    }

    #[test]
    fn what_waits_is_handed_out_in_its_order_until_it_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let spool = FileSpool::new(&directory.path().join("spool"));
        assert_eq!(spool.take().unwrap(), None);
        spool.push(&drafts(0..3), SpoolShare::Reserved).unwrap();
        let first = spool.take().unwrap().unwrap();
        assert_eq!(first.drafts, drafts(0..3));
        spool.push(&drafts(3..5), SpoolShare::Reserved).unwrap();
        assert_eq!(spool.take().unwrap(), Some(first));
        assert_eq!(drained(&spool), drafts(0..5));
        assert_eq!(spool.files().unwrap(), BTreeMap::new());
    }

    #[test]
    fn what_another_process_still_writes_waits_and_what_an_ended_one_left_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let other = FileSpool::new(directory.path());
        other.push(&drafts(0..2), SpoolShare::Reserved).unwrap();
        let spool = FileSpool::new(directory.path());
        assert_eq!(spool.take().unwrap(), None);
        spool.push(&drafts(2..4), SpoolShare::Reserved).unwrap();
        assert_eq!(drained(&spool), drafts(2..4));
        drop(other);
        assert_eq!(drained(&spool), drafts(0..2));
    }

    #[test]
    fn a_line_that_a_crash_cut_off_was_never_promised() {
        let directory = tempfile::tempdir().unwrap();
        FileSpool::new(directory.path())
            .push(&drafts(0..2), SpoolShare::Reserved)
            .unwrap();
        let spool = FileSpool::new(directory.path());
        let name = spool.files().unwrap().into_keys().next().unwrap();
        let file = OpenOptions::new()
            .append(true)
            .open(directory.path().join(&name));
        let mut file = file.unwrap();
        file.write_all(b"{\"entry_id\":\"0002\",\"at\":0").unwrap();
        assert_eq!(spool.take().unwrap().unwrap().drafts, drafts(0..2));
        file.write_all(b"\n").unwrap();
        let portion = spool.take().unwrap().unwrap();
        assert_eq!((portion.drafts, portion.damaged), (drafts(0..2), 1));
    }

    #[test]
    fn the_public_leaves_a_reserve() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = FileSpool::new(directory.path());
        (spool.most_bytes, spool.reserved_bytes) = (4_000, 1_000);
        let push = |n: u32, share| spool.push(&drafts(n..n + 1), share).is_ok();
        let public = (0..1_000)
            .take_while(|n| push(*n, SpoolShare::Public))
            .count();
        let public = u32::try_from(public).unwrap();
        assert!(!push(public, SpoolShare::Public));
        let reserved = (public..1_000).take_while(|n| push(*n, SpoolShare::Reserved));
        let reserved = u32::try_from(reserved.count()).unwrap();
        assert!(public > 10 && reserved > 3, "{public} {reserved}");
        assert_eq!(drained(&spool), drafts(0..public + reserved));
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = FileSpool::new(directory.path());
        (spool.most_bytes, spool.reserved_bytes) = (2_000, 0);
        let mut pushed = 0;
        while spool
            .push(&drafts(pushed..pushed + 1), SpoolShare::Reserved)
            .is_ok()
        {
            pushed += 1;
        }
        assert!((5..100).contains(&pushed), "{pushed}");
        assert_eq!(drained(&spool), drafts(0..pushed));
        spool.push(&drafts(0..1), SpoolShare::Reserved).unwrap();
    }

    #[test]
    fn long_spools_have_many_files_and_one_order() {
        let directory = tempfile::tempdir().unwrap();
        let spool = FileSpool::new(directory.path());
        for from in (0..4_000).step_by(500) {
            spool
                .push(&drafts(from..from + 500), SpoolShare::Reserved)
                .unwrap();
        }
        assert!(spool.files().unwrap().len() > 1);
        assert_eq!(drained(&spool), drafts(0..4_000));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("spool");
        let spool = FileSpool::new(&inner);
        spool.push(&drafts(0..1), SpoolShare::Reserved).unwrap();
        let name = spool.files().unwrap().into_keys().next().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&inner.join(name))), (0o700, 0o600));
    }
}
