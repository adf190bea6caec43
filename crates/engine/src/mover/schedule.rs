//! When a service looks again: about every interval, and never so late that a document waits longer than
//! one after its retention has passed.

use std::time::Duration;

use bson::Bson;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{RaseenTempUser, UserDatabase};
use tierkeep_core::document;
use tierkeep_core::store::{Cursor, Find, Query, StoreError};
use tokio::time::Instant;

use crate::mover::MigrationService;

/// How long after `begun`, the beginning of the last look, the next one begins: the interval, give or take
/// a tenth, so that several services drift apart.
///
/// A wait longer than the interval asks temp first; where it cannot say, the wait is the interval.
pub(crate) async fn next_look(
    service: &MigrationService,
    interval: Duration,
    begun: Instant,
) -> Duration {
    let fraction = service.engine.randomness().fraction();
    let wait = interval.mul_f64(0.9 + fraction / 5.0);
    let longer = wait.saturating_sub(interval);
    if longer.is_zero() {
        return wait;
    }
    match first_due_within(service, longer, begun).await {
        Ok(None) => wait,
        Ok(Some(after)) => interval + after,
        Err(_) => interval,
    }
}

/// How long after `begun` the first document comes due, if one does within `longer`. Looks at one key of
/// the index, and at none where nothing is due so soon.
async fn first_due_within(
    service: &MigrationService,
    longer: Duration,
    begun: Instant,
) -> Result<Option<Duration>, StoreError> {
    let temp = service.engine.databases.raseen_temp_db().store();
    let now = temp.hello().await?.now;
    let begun_at = clock::before(now, begun.elapsed());
    let seen_to = clock::before(begun_at, service.settings.retention);
    let seen = Cursor {
        staged_at: Bson::DateTime(seen_to),
        id: Bson::MaxKey,
    };
    let soon = Find::new(Query::Due(clock::after(seen_to, longer)))
        .head()
        .limit(1)
        .after(Some(seen));
    let found = temp.find(RaseenTempUser::USERS, &soon).await?;
    if let Some(staged_at) = found.first().and_then(|head| document::staged_at(head)) {
        return Ok(Some(staged_at.saturating_duration_since(seen_to)));
    }
    // What other programs wrote is ordered by no date.
    let foreign = Find::new(Query::Unstaged).keys().limit(1);
    let foreign = temp.find(RaseenTempUser::USERS, &foreign).await?;
    Ok((!foreign.is_empty()).then_some(Duration::ZERO))
}
