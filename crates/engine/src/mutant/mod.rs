//! Guards taken away on purpose, so that the tests can show that they would notice.
//!
//! A mutant is given to one [`Engine`](crate::Engine) and queried at the one line where its guard is; what runs
//! instead is in `wrong`. Without the feature `mutants`, which only tests switch on, the answer is a constant `false`.

#[cfg(feature = "mutants")]
pub(crate) mod wrong;

/// A guard that is missing.
#[cfg_attr(
    not(feature = "mutants"),
    expect(
        dead_code,
        reason = "the steps without these guards are compiled for tests alone"
    )
)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mutant {
    /// A move deletes from temp whatever is there, not only the version that was proven.
    UnguardedDelete,
    /// A move writes to main over whatever is there, newer or not.
    UnguardedWriteToMain,
    /// A document enters temp live, without the second look at main.
    EnterInOneStep,
    /// A writer that finds an abandoned entry confirms it instead of replacing it.
    ConfirmAbandoned,
    /// A write without a condition names no window of versions: one that was given up may come late.
    UnboundedWindow,
    /// The fence of an erasure comes from the ledger alone.
    FenceFromTheLedger,
    /// An erasure forgets which databases it could not read.
    UnreadIsForgotten,
    /// An erasure whose answer was lost chooses its fence again.
    FenceChosenAgain,
    /// A copy-up takes main's copy, whatever srie holds.
    CopyUpFromMainAlone,
    /// A copy that is newer than what moves counts as proof of it.
    HigherIsFine,
    /// A move begins without a record of it.
    MoveWithoutRecord,
    /// The intent of a batch is removed before its moves have records.
    IntentRemovedFirst,
    /// An erasure removes what is there and leaves no tombstones.
    ErasureWithoutTombstones,
    /// A tombstone goes over whatever is there, newer lives included.
    UnguardedTombstones,
    /// A mover does not look into the ledger after writing, nor does the sweep of cut-off moves.
    NoLedgerAfterWriting,
    /// What another program wrote is copied as it was read, without a look whether temp still holds it.
    CopiedAsItWasRead,
    /// Who adopts a document does not look which moves of its user are open.
    OpenMovesUnseen,
}

/// The guard that is missing here, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mutation {
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

impl Mutation {
    #[cfg(feature = "mutants")]
    pub(crate) fn has(self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    #[cfg(not(feature = "mutants"))]
    #[expect(
        clippy::unused_self,
        reason = "the signature is that of the other build"
    )]
    pub(crate) const fn has(self, _: Mutant) -> bool {
        false
    }
}

#[cfg(feature = "mutants")]
impl From<Mutant> for Mutation {
    fn from(mutant: Mutant) -> Self {
        Self {
            mutant: Some(mutant),
        }
    }
}
