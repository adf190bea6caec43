//! Alerts as operators list them: the one raised last comes first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bson::raw::RawDocument;
use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::db::collection;
use tierkeep_core::store::{Find, Query, StoreError};

use crate::alerts::{Alert, Alerts, read};
use crate::databases::pages::Pages;
use crate::databases::retry::repeating;

/// Which alerts are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AlertFilter {
    /// Those whose cause is not gone.
    #[default]
    Open,
    /// Resolved ones too.
    All,
}

/// A position in the list: by when the alert was raised last, from the latest, then by id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AlertCursor {
    last_at_millis: Reverse<i64>,
    id: String,
}

/// One page of alerts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlertPage {
    /// The alerts, newest first.
    pub items: Vec<Alert>,
    /// The position after which the next page begins; `None` at the end.
    pub next: Option<AlertCursor>,
}

impl AlertCursor {
    fn of(alert: &RawDocument) -> Option<Self> {
        Some(Self {
            last_at_millis: Reverse(alert.get_datetime("last_at").ok()?.timestamp_millis()),
            id: alert.get_str("_id").ok()?.to_owned(),
        })
    }

    /// Reads what [`Display`](std::fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (millis, id) = text.split_once('/')?;
        Some(Self {
            last_at_millis: Reverse(millis.parse().ok()?),
            id: id.to_owned(),
        })
    }
}

impl std::fmt::Display for AlertCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.last_at_millis.0, self.id)
    }
}

impl Alerts {
    /// At most `limit` alerts, newest first, those after the position `after`. Reads all alerts that are wanted and keeps
    /// one page of them in memory: no index follows the time.
    ///
    /// An alert that is raised between two pages moves to the front, and is not on the later ones.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn page(
        &self,
        filter: AlertFilter,
        after: Option<&AlertCursor>,
        limit: usize,
    ) -> Result<AlertPage, StoreError> {
        let query = match filter {
            AlertFilter::Open => Query::Equal(doc! { "resolved_at": Bson::Null }),
            AlertFilter::All => Query::All,
        };
        let store = self.engine.databases.audit_db().store();
        let mut pages = Pages::new(store.as_ref(), collection::ALERTS, Find::new(query));
        let mut first = BTreeMap::new();
        let mut has_more = false;
        while let Some(page) = pages.next().await? {
            for alert in &page {
                let (Some(position), Some(shown)) = (AlertCursor::of(alert), read(alert)) else {
                    continue;
                };
                if after.is_some_and(|after| position <= *after) {
                    continue;
                }
                first.insert(position, shown);
                if first.len() > limit {
                    first.pop_last();
                    has_more = true;
                }
            }
        }
        let next = first.last_key_value().map(|(position, _)| position.clone());
        Ok(AlertPage {
            items: first.into_values().collect(),
            next: next.filter(|_| has_more),
        })
    }

    /// How many alerts are open.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn count_open(&self) -> Result<u64, StoreError> {
        let store = self.engine.databases.audit_db().store();
        let open = Query::Equal(doc! { "resolved_at": Bson::Null });
        repeating(|| store.count(collection::ALERTS, &open)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = AlertCursor {
            last_at_millis: Reverse(1_700_000_000_123),
            id: "breaker_open/a/b".to_owned(),
        };
        assert_eq!(AlertCursor::parse(&cursor.to_string()), Some(cursor));
        for wrong in ["", "1", "x/y", "/y"] {
            assert_eq!(AlertCursor::parse(wrong), None, "{wrong}");
        }
    }
}
