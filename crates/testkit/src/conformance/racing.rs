//! Laws of concurrent calls: L16, L17, L23.

use std::future::Future;
use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, doc, rawdoc};
use tierkeep_core::document::{self, OPS_KEPT, State};
use tierkeep_core::store::{Change, Fence, Find, Guard, Inserted, Put, Query, Store, Written};
use tokio::task::JoinSet;

use super::fixture::{Bench, live, live_at, live_within, set_section, version};
use crate::documents::native_user;

const RACERS: u32 = 16;

/// Runs `racer` sixteen times at once; answers what each came to.
async fn race<T, F>(racer: impl Fn(u32) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut racers: JoinSet<T> = (0..RACERS).map(racer).collect();
    let mut outcomes = Vec::new();
    while let Some(outcome) = racers.join_next().await {
        outcomes.push(outcome.expect("a racer finishes"));
    }
    outcomes
}

async fn race_writes(
    bench: &Bench,
    id: &str,
    write: impl Fn(u32) -> (Guard, Change),
) -> Vec<RawDocumentBuf> {
    let outcomes = race(|n| {
        let (bench, id) = (bench.clone(), id.to_owned());
        let (guard, change) = write(n);
        async move { bench.write(id, &guard, &change).await }
    })
    .await;
    let applied = outcomes.into_iter().filter_map(|outcome| match outcome {
        Written::Applied(document) => Some(document),
        Written::Unmatched | Written::TooLarge | Written::Rejected(_) => None,
    });
    applied.collect()
}

/// L17.
pub async fn of_writes_to_one_version_one_applies(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "of_writes_to_one_version_one_applies").await;
    let user = native_user(1, 1);
    bench.given(&[user.build()]).await;
    for round in 1..=5 {
        let applied = race_writes(&bench, user.id(), |n| {
            let op = format!("{round}-{n}");
            (
                live_at(round, &op),
                set_section(rawdoc! { "by": op.as_str() }, &op),
            )
        })
        .await;
        assert_eq!(applied.len(), 1, "round {round}");
        assert_eq!(bench.stored(user.id()).await.as_ref(), applied.first());
        assert_eq!(document::version(&applied[0]), Some(version(round + 1)));
    }
}

/// L17: of writes within one window as many apply as it is wide, one after the other.
pub async fn of_writes_in_one_window_as_many_apply_as_it_is_wide(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "of_writes_in_one_window_as_many_apply_as_it_is_wide").await;
    let user = native_user(1, 1);
    bench.given(&[user.build()]).await;
    let applied = race_writes(&bench, user.id(), |n| {
        let op = n.to_string();
        (live(&op), set_section(rawdoc! { "by": i64::from(n) }, &op))
    })
    .await;
    let mut versions: Vec<_> = applied
        .iter()
        .filter_map(|d| document::version(d))
        .collect();
    versions.sort_unstable();
    let expected: Vec<_> = (2..=9).map(version).collect();
    assert_eq!(versions, expected);
    let last = bench.stored(user.id()).await;
    let highest = applied.into_iter().max_by_key(|d| document::version(d));
    assert_eq!(last, highest);
}

/// L2, L17: an operation that is sent many times at once applies once.
pub async fn an_operation_sent_many_times_applies_once(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "an_operation_sent_many_times_applies_once").await;
    let user = native_user(1, 1);
    bench.given(&[user.build()]).await;
    let applied = race_writes(&bench, user.id(), |_| {
        (live("op"), set_section(rawdoc! { "x": 1 }, "op"))
    })
    .await;
    assert_eq!(applied.len(), 1);
    let stored = bench.stored(user.id()).await.expect("it is stored");
    assert_eq!(document::version(&stored), Some(version(2)));
}

/// L12: of many inserts of one `_id` one is stored.
pub async fn of_inserts_of_one_id_one_is_stored(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "of_inserts_of_one_id_one_is_stored").await;
    let outcomes = race(|n| {
        let bench = bench.clone();
        async move {
            let entry = native_user(1, 1).entering(&n.to_string(), DateTime::from_millis(1));
            (n, bench.insert(&[entry.build()]).await)
        }
    })
    .await;
    let stored: Vec<_> = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome == [Inserted::Stored])
        .map(|(n, _)| n.to_string())
        .collect();
    let existed = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome == [Inserted::Exists]);
    assert_eq!((stored.len(), existed.count()), (1, RACERS as usize - 1));
    let winner = bench
        .stored(native_user(1, 1).id())
        .await
        .expect("it is stored");
    assert_eq!(document::nonce(&winner), stored.first().map(String::as_str));
}

/// L13: of many inserts that clash on another key one is stored.
pub async fn of_inserts_that_clash_one_is_stored(store: &Arc<dyn Store>) {
    let bench = Bench::unique(store, "of_inserts_that_clash_one_is_stored").await;
    let outcomes = race(|n| {
        let bench = bench.clone();
        let record = super::fixture::record(&format!("r{n}"), "u", 1);
        async move { bench.insert(&[record]).await }
    })
    .await;
    let stored = outcomes
        .iter()
        .filter(|outcome| **outcome == [Inserted::Stored])
        .count();
    assert_eq!(stored, 1, "{outcomes:?}");
    assert_eq!(bench.count(&Query::All).await, 1);
}

/// L17: of many that would enter over one tombstone one does.
pub async fn of_entries_over_a_tombstone_one_applies(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "of_entries_over_a_tombstone_one_applies").await;
    let erased = native_user(1, 1 << 40).state(State::Erased);
    bench.given(&[erased.build()]).await;
    let applied = race_writes(&bench, erased.id(), |n| {
        let entry =
            native_user(1, (1 << 40) + 1).entering(&n.to_string(), DateTime::from_millis(1));
        (
            Guard::Tombstone(version(1 << 40)),
            Change::Replace(entry.build()),
        )
    })
    .await;
    assert_eq!(applied.len(), 1);
    assert_eq!(bench.stored(erased.id()).await.as_ref(), applied.first());
}

/// L17: a removal and writes exclude each other: nothing written is lost unseen.
pub async fn a_removal_and_a_write_exclude_each_other(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_removal_and_a_write_exclude_each_other").await;
    for n in 1..=8 {
        let user = native_user(n, 1);
        bench.given(&[user.build()]).await;
        let deleted = {
            let bench = bench.clone();
            let fence = Fence::Version {
                version: version(1),
                ids: vec![user.id().into()],
            };
            tokio::spawn(async move { bench.delete(&[fence]).await })
        };
        let change = set_section(rawdoc! { "new": 1 }, "op");
        let written = bench.write(user.id(), &live("op"), &change).await;
        let deleted = deleted.await.expect("the delete finishes");
        match bench.stored(user.id()).await {
            None => assert_eq!((written, deleted), (Written::Unmatched, 1)),
            Some(stored) => assert_eq!((written, deleted), (Written::Applied(stored), 0)),
        }
    }
}

/// L16.
pub async fn versions_never_fall_under_racing_puts(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "versions_never_fall_under_racing_puts").await;
    let users = |version| -> Vec<_> {
        let content = rawdoc! { "of": version };
        (1..=10)
            .map(|n| native_user(n, version).content(content.clone()).build())
            .collect()
    };
    let outcomes = race(|n| {
        let bench = bench.clone();
        let mut batch = users(i64::from((n * 7) % RACERS) + 1);
        if n % 2 == 0 {
            batch.reverse();
        }
        async move { bench.put(&batch).await }
    })
    .await;
    assert_eq!(outcomes, vec![vec![Put::Settled; 10]; RACERS as usize]);
    assert_eq!(
        bench.find(Find::new(Query::All)).await,
        users(i64::from(RACERS))
    );
}

/// L16, L17: also for replacements of what is older.
pub async fn versions_never_fall_under_racing_replacements(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "versions_never_fall_under_racing_replacements").await;
    let at = |number: i64| {
        let user = native_user(1, number).content(rawdoc! { "of": number });
        document::without(&user.build(), &["user_id"], &[])
    };
    bench.given(&[at(1)]).await;
    let id = native_user(1, 1).id().to_owned();
    let applied = race_writes(&bench, &id, |n| {
        let number = i64::from((n * 7) % RACERS) + 2;
        (Guard::Older(version(number)), Change::Replace(at(number)))
    })
    .await;
    let highest = at(i64::from(RACERS) + 1);
    assert!(applied.contains(&highest));
    assert_eq!(bench.stored(id.as_str()).await, Some(highest));
}

/// L17 for [`Store::amend`]: of many that would take a lease one does.
pub async fn of_amendments_of_one_state_one_matches(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "of_amendments_of_one_state_one_matches").await;
    bench
        .given(&[rawdoc! { "_id": "lease", "fence": 1_i64 }])
        .await;
    for fence in 1..=5_i64 {
        let outcomes = race(|n| {
            let bench = bench.clone();
            async move {
                let set = doc! { "fence": fence + 1, "holder": i64::from(n) };
                (
                    n,
                    bench
                        .amend(&["lease".into()], &doc! { "fence": fence }, &set)
                        .await,
                )
            }
        })
        .await;
        let winners: Vec<_> = outcomes
            .iter()
            .filter(|(_, matched)| *matched == 1)
            .collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        let holder = Query::Equal(doc! { "holder": Bson::from(i64::from(winners[0].0)) });
        assert_eq!(bench.count(&holder).await, 1);
    }
}

/// L9: readers beside writers see whole documents of one moment each.
pub async fn readers_see_whole_documents_while_others_write(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "readers_see_whole_documents_while_others_write").await;
    let user = native_user(1, 1).content(rawdoc! { "a": 1_i64, "b": 1_i64 });
    bench.given(&[user.build()]).await;
    race(|n| {
        let (bench, id) = (bench.clone(), user.id().to_owned());
        async move {
            for step in 0..5 {
                if n % 2 == 0 {
                    let op = format!("{n}-{step}");
                    let value = i64::from(n * 100 + step);
                    let change = set_section(rawdoc! { "a": value, "b": value }, &op);
                    let stored = bench.stored(id.as_str()).await;
                    let seen = stored.as_deref().and_then(document::version);
                    let seen = seen.expect("it has a version").get();
                    let guard = live_within(seen, OPS_KEPT, &op);
                    bench.write(id.as_str(), &guard, &change).await;
                } else {
                    let stored = bench.stored(id.as_str()).await.expect("it is always there");
                    let section = stored.get_document("scan_cache").expect("a section");
                    assert_eq!(section.get_i64("a").ok(), section.get_i64("b").ok());
                }
            }
        }
    })
    .await;
}

/// L23: each racer appends runs behind what it last saw, as writers of a chain do. Every place is taken once, by
/// documents that follow the one before them.
pub async fn of_racing_appends_no_place_is_left_out(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "of_racing_appends_no_place_is_left_out").await;
    let first = rawdoc! { "_id": 0_i64, "user_id": "first", "prev": "" };
    bench.given(&[first]).await;
    race(|racer| {
        let bench = bench.clone();
        async move {
            let by = racer.to_string();
            for _ in 0..6 {
                let all = bench.find(Find::new(Query::All)).await;
                let last = all.last().expect("the first was given");
                let from: i64 = all.len().try_into().expect("a few hundred");
                let mut prev = document::user_id(last).expect("a link").to_owned();
                let mut run: Vec<RawDocumentBuf> = Vec::new();
                for place in from..from + 5 {
                    run.push(rawdoc! {
                        "_id": place, "user_id": format!("{by}/{place}"), "prev": prev.as_str(),
                    });
                    prev = format!("{by}/{place}");
                }
                bench.append(&run).await;
            }
        }
    })
    .await;
    let all = bench.find(Find::new(Query::All)).await;
    assert!(all.len() > 30, "only {} were stored", all.len());
    for (place, pair) in (0_i64..).zip(all.windows(2)) {
        assert_eq!(document::id(&pair[1]), Bson::Int64(place + 1));
        let follows = pair[1].get_str("prev").expect("a link");
        assert_eq!(document::user_id(&pair[0]), Some(follows), "{place}");
    }
}
