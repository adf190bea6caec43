//! How documents move from temp to main with their backup in srie: planning, the steps of a batch,
//! retries and records. Decides everything, performs nothing.
//!
//! A batch is a state machine: [`Batch::action`] says what to do next, the engine does it, and
//! [`Batch::observe`] takes the answer. Each phase names facts that are already on disk, so a crash
//! anywhere is a restart from planning: every action is idempotent and guarded by versions.
//!
//! **Architecture invariant:** nothing is deleted from temp but what [`Phase::Check`] has read back, whole
//! and by digest (or as far as [`Verify::Version`] asks), from both main and srie at exactly the version that
//! temp is then asked to delete.

mod action;
mod batch;
mod intent;
mod item;
mod plan;
mod record;
mod retry;

pub use action::{Action, Copied, Copies, Observation, Recorded, Seen, SeenInTemp, Target};
pub use batch::{Batch, Fate, OutOfOrder, Phase};
pub use intent::{Intent, IntentHead};
pub use item::{Item, Original};
pub use plan::{Candidate, Park, Planned, Verify, classify, main_form};
pub use record::{Move, Record, Status, record_field};
pub use retry::{Attempt, RETRIES, held_attempt, next_attempt};
