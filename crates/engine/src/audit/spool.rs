//! Where decisions wait while `evaluation_audit` is away: the trait, and a spool that forgets.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tierkeep_core::audit::Draft;

/// The most entries that wait in memory, and how many of them are kept for [`SpoolShare::Reserved`].
const IN_MEMORY: usize = 10_000;
const RESERVED: usize = 2_500;

/// The part of a spool that entries may use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SpoolShare {
    /// Entries that callers without credentials cause: all but a reserve.
    Public,
    /// Entries of internal users: all of it.
    Reserved,
}

impl SpoolShare {
    /// Which share, as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Reserved => "reserved",
        }
    }
}

/// Whether a spool refused what it was given last, in each share.
#[derive(Debug, Default)]
pub(super) struct Refusing {
    public: AtomicBool,
    reserved: AtomicBool,
}

impl Refusing {
    /// Notes what became of entries in this share. Where there is room for the public, there is room for all.
    pub(super) fn note(&self, share: SpoolShare, refused: bool) {
        match share {
            SpoolShare::Public => self.public.store(refused, Ordering::Relaxed),
            SpoolShare::Reserved => self.reserved.store(refused, Ordering::Relaxed),
        }
        if share == SpoolShare::Public && !refused {
            self.reserved.store(false, Ordering::Relaxed);
        }
    }

    /// The most that is refused: what needs the reserve, or else what the public causes.
    pub(super) fn share(&self) -> Option<SpoolShare> {
        if self.reserved.load(Ordering::Relaxed) {
            Some(SpoolShare::Reserved)
        } else if self.public.load(Ordering::Relaxed) {
            Some(SpoolShare::Public)
        } else {
            None
        }
    }
}

/// The oldest of what waits, until it is [`done`](Spool::done).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Portion {
    /// Names it to the spool.
    pub name: String,
    /// What is in it, in the order in which it was written.
    pub drafts: Vec<Draft>,
    /// Lines of it that cannot be read.
    pub damaged: usize,
}

/// A place where entries wait. Calls may block.
///
/// What was pushed is handed out in its order, and again until it is done; also by another process, once the one
/// that pushed it has ended.
pub trait Spool: Send + Sync + fmt::Debug {
    /// Keeps the entries behind all others of this process; on success they survive a crash, if anything here does.
    ///
    /// # Errors
    /// When there is no more room in this share, or the operating system says no; nothing of it counts then.
    fn push(&self, drafts: &[Draft], share: SpoolShare) -> io::Result<()>;

    /// The oldest portion that no other caller is handing out.
    ///
    /// # Errors
    /// What the operating system says.
    fn take(&self) -> io::Result<Option<Portion>>;

    /// Forgets a portion: it was delivered.
    ///
    /// # Errors
    /// What the operating system says; the portion may be handed out again.
    fn done(&self, portion: &Portion) -> io::Result<()>;
}

/// A spool that ends with the process: for who embeds the engine and gives no other.
#[derive(Debug, Default)]
pub struct MemorySpool(Mutex<VecDeque<Draft>>);

impl MemorySpool {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Draft>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool for MemorySpool {
    fn push(&self, drafts: &[Draft], share: SpoolShare) -> io::Result<()> {
        let most = match share {
            SpoolShare::Public => IN_MEMORY - RESERVED,
            SpoolShare::Reserved => IN_MEMORY,
        };
        let mut waiting = self.lock();
        if waiting.len().saturating_add(drafts.len()) > most {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the spool is full",
            ));
        }
        waiting.extend(drafts.iter().cloned());
        Ok(())
    }

    fn take(&self) -> io::Result<Option<Portion>> {
        let drafts: Vec<Draft> = self.lock().iter().cloned().collect();
        Ok((!drafts.is_empty()).then(|| Portion {
            name: drafts.len().to_string(),
            drafts,
            damaged: 0,
        }))
    }

    fn done(&self, portion: &Portion) -> io::Result<()> {
        let mut waiting = self.lock();
        let delivered = portion.drafts.len().min(waiting.len());
        waiting.drain(..delivered);
        Ok(())
    }
}
