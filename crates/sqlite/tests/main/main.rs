//! The laws of every store on SQLite, and what SQLite's own files must withstand.

mod agreement;
mod damage;
mod files;
mod indexes;
mod presence;

use std::path::Path;
use std::sync::Arc;

use tierkeep_core::db::Role;
use tierkeep_core::store::Store;
use tierkeep_sqlite::SqliteStore;
use tierkeep_testkit::ManualClock;
use tierkeep_testkit::conformance::Subject;

fn opened(path: &Path) -> Arc<dyn Store> {
    let clock = Arc::new(ManualClock::default());
    Arc::new(SqliteStore::open(path, Role::RaseenTempUser, clock).expect("the file opens"))
}

async fn fresh_file() -> Subject {
    let directory = tempfile::tempdir().expect("a directory");
    let store = opened(&directory.path().join("raseen_temp_user.db"));
    store.hello().await.expect("hello succeeds");
    Subject {
        store,
        guard: Box::new(directory),
    }
}

tierkeep_testkit::conformance_suite!(fresh_file);
