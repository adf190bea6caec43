//! Documents for tests: those that break naive copies, those that another program would write, and
//! tierkeep's own. Builds documents only; never stores or reads one.

mod build;
mod hostile;
mod random;
mod types;

pub use build::{NativeUser, SeedUser, native_user, seed_user};
pub use hostile::{hostile_documents, hostile_sections, object, odd_staged_at};
pub use random::{arb_key, arb_section, arb_value};
pub use types::{TypedValue, typed_values};
