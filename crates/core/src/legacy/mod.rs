//! The predecessor's data: what each of its documents is, whose it is, and what becomes of it.
//!
//! **Architecture invariant:** no user's id is ever guessed, no date is compared as it is stored, and nothing
//! here writes. Whatever cannot be understood is a [`Refusal`] that quotes what was found.
//!
//! Where to look: [`kind`] (what a collection holds), [`owner`] (whose a document is), [`dates`] (its times),
//! [`entry`] (all that is kept of one document until its user is put together), [`fields`] (what all of these read it
//! by), [`merge`] (which documents count), [`compose`] (the user document that they become), [`record`] (what becomes of
//! HR documents), [`secrets`] (what is left behind), [`source`] (what reading the predecessor's database must be able to
//! do).

pub mod compose;
pub mod dates;
pub mod entry;
pub mod fields;
pub mod kind;
pub mod merge;
pub mod owner;
pub mod record;
pub mod secrets;
pub mod source;

pub use compose::{Composed, compose};
pub use dates::Dates;
pub use entry::{Entry, Part};
pub use fields::Fields;
pub use kind::{Derived, SourceKind};
pub use merge::{Chosen, Dated, choose};
pub use owner::{Claim, Refusal};
pub use record::{Record, record};
pub use source::{Source, SourceError};
