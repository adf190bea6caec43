//! A store tied to its database by type.
//!
//! **Architecture invariant:** a [`Handle<D>`] can only be made from a store that was opened for the role of `D`.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Store;
use crate::db::{Database, Role};

/// A store, known to be the database `D`.
///
/// Handles of two databases are different types:
///
/// ```compile_fail
/// use tierkeep_core::db::{RaseenMainUser, RaseenTempUser};
/// use tierkeep_core::store::Handle;
/// fn write_to_temp(_: &Handle<RaseenTempUser>) {}
/// fn misroute(main: &Handle<RaseenMainUser>) {
///     write_to_temp(main);
/// }
/// ```
pub struct Handle<D: Database> {
    store: Arc<dyn Store>,
    database: PhantomData<fn() -> D>,
}

/// A store was claimed for a role it was not opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the store of {actual} was claimed as {claimed}")]
pub struct WrongRole {
    /// What it was claimed as.
    pub claimed: Role,
    /// What it is.
    pub actual: Role,
}

impl<D: Database> Handle<D> {
    /// Claims `store` as the database `D`.
    ///
    /// # Errors
    /// [`WrongRole`] when the store was opened for another role.
    pub fn claim(store: Arc<dyn Store>) -> Result<Self, WrongRole> {
        if store.role() == D::ROLE {
            Ok(Self {
                store,
                database: PhantomData,
            })
        } else {
            Err(WrongRole {
                claimed: D::ROLE,
                actual: store.role(),
            })
        }
    }

    /// The store behind the handle.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

impl<D: Database> Clone for Handle<D> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            database: PhantomData,
        }
    }
}

impl<D: Database> fmt::Debug for Handle<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&D::ROLE).finish()
    }
}
