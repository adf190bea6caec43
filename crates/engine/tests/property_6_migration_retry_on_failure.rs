//! Property 6 of the mission: for any failed migration operation, the error is logged and the operation is
//! retried with appropriate backoff.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document;
use tierkeep_core::mover::{RETRIES, Record, Status, record_field};
use tierkeep_core::store::{Class, Find, Query};
use tierkeep_core::user::UserId;
use tierkeep_engine::{
    Alert, AlertKind, Alerts, Failed, MigrationService, MoveError, MoverSettings, NoProgress,
    RunOptions, Summary,
};
use tierkeep_testkit::fault::{Fault, Moment};
use tokio_util::sync::CancellationToken;
use tracing::Level;

use crate::logs::Logs;
use crate::scale;
use crate::world::{Backend, DAY, HOUR, World};

const CASES: u32 = 256;

/// One case: how often each document is refused for its own reasons, the wait before the first retry, the
/// database that fails one attempt of every document, with the round before which it does, and the round after which a
/// run comes too early.
#[derive(Clone, Debug)]
struct Plan {
    refusals: Vec<i32>,
    backoff: Duration,
    outage: Option<(i32, Role)>,
    early: i32,
}

fn plans() -> impl Strategy<Value = Plan> {
    let refusals = prop_oneof![4 => 0..=1, 2 => 2..=RETRIES, 1 => Just(RETRIES + 1)];
    let refusals = vec(refusals, 1..3);
    // Long enough that no retry becomes due while the test looks.
    let backoff = prop_oneof![Just(30), Just(3_600), 30..10_000_u64];
    let away = prop_oneof![
        Just(Role::RaseenTempUser),
        Just(Role::RaseenMainUser),
        Just(Role::SrieMainUser),
        Just(Role::EvaluationAudit)
    ];
    let outage = option::of((0..=RETRIES, away));
    (refusals, backoff, outage, 0..=RETRIES).prop_map(|(refusals, backoff, outage, early)| Plan {
        refusals,
        backoff: Duration::from_secs(backoff),
        outage,
        early,
    })
}

/// What a document is known to have gone through.
struct Reference {
    n: u32,
    user: UserId,
    refusals: i32,
    failed: i32,
}

impl Reference {
    fn has_moved(&self, round: i32) -> bool {
        self.refusals <= RETRIES && round > self.refusals
    }

    fn has_given_up(&self) -> bool {
        self.failed > RETRIES
    }
}

struct Case<'a> {
    world: &'a World,
    logs: &'a Logs,
    service: MigrationService,
    plan: &'a Plan,
    references: Vec<Reference>,
}

impl Case<'_> {
    async fn run(&self) -> Result<Summary, MoveError> {
        let stop = CancellationToken::new();
        let options = RunOptions::default();
        self.service
            .migrate_expired_data(options, &NoProgress, &stop)
            .await
    }

    async fn records(&self, user: &UserId) -> Vec<(Record, Option<String>)> {
        let find = Find::new(Query::Equal(doc! { record_field::USER_ID: user.as_str() }));
        let store = self.world.store(Role::EvaluationAudit);
        let found = store.find(collection::MIGRATION_RECORDS, &find).await;
        let read = |document: &RawDocumentBuf| {
            let error = document.get_str(record_field::ERROR).ok();
            (Record::read(document).unwrap(), error.map(str::to_owned))
        };
        found.unwrap().iter().map(read).collect()
    }

    /// Every attempt fails because a database is down: this is logged and costs no document a retry.
    async fn outage(&self, away: Role) -> Result<(), TestCaseError> {
        let mut before = Vec::new();
        for reference in &self.references {
            before.push(self.records(&reference.user).await);
        }
        let fault = Fault::nth(1, Moment::Before).to(away).times(u64::MAX);
        self.world.faults.plan(fault.class(Class::NoServer, 0));
        self.logs.taken();
        let stopped = self.run().await;
        self.world.faults.heal();
        let lines = self.logs.taken();
        // A run that finds nothing to do may not need the database.
        if let Err(stopped) = stopped {
            prop_assert_eq!(stopped.error.database, away);
            let said = |line: &crate::logs::Line| line.says(Level::ERROR, &[away.name(), "error"]);
            prop_assert!(lines.iter().any(said), "{:?}", lines);
        }
        for (reference, before) in self.references.iter().zip(before) {
            for (record, _) in self.records(&reference.user).await {
                let counted = before.first().map_or(0, |(before, _)| before.retry_count);
                prop_assert_eq!(record.retry_count, counted);
            }
        }
        Ok(())
    }

    /// An attempt at everything whose time has come.
    async fn attempt(&mut self, round: i32) -> Result<(), TestCaseError> {
        let tried =
            |reference: &&mut Reference| !reference.has_moved(round) && !reference.has_given_up();
        self.logs.taken();
        let begun = self.world.now().await;
        self.run().await.unwrap();
        let ended = self.world.now().await;
        let lines = self.logs.taken();
        let mut failed = Vec::new();
        for reference in self.references.iter_mut().filter(tried) {
            if round < reference.refusals {
                reference.failed += 1;
                failed.push((reference.user.clone(), reference.failed));
            }
        }
        for (user, times) in failed {
            let (level, outcome) = if times > RETRIES {
                (Level::ERROR, "failed permanently".to_owned())
            } else {
                (Level::WARN, format!("retry {times} of {RETRIES}"))
            };
            let parts = [user.as_str(), "error=", &outcome];
            prop_assert!(
                lines.iter().any(|line| line.says(level, &parts)),
                "{:?} is missing in {:?}",
                parts,
                lines
            );
            let records = self.records(&user).await;
            let [(record, Some(reason))] = records.as_slice() else {
                return Err(TestCaseError::fail(format!("{records:?}")));
            };
            prop_assert!(!reason.is_empty());
            if times > RETRIES {
                prop_assert_eq!(
                    (record.status, record.retry_count),
                    (Status::Failed, RETRIES)
                );
                continue;
            }
            prop_assert_eq!(
                (record.status, record.retry_count),
                (Status::Pending, times)
            );
            let doubled = self.plan.backoff * 2_u32.pow(u32::try_from(times - 1).unwrap());
            let whole = doubled.min(HOUR);
            let next = record.next_attempt_at.unwrap();
            prop_assert!(
                next >= clock::after(begun, whole / 2),
                "{} is too soon",
                next
            );
            prop_assert!(next <= clock::after(ended, whole), "{} is too late", next);
        }
        Ok(())
    }

    /// Each document is where the attempts so far have brought it; other documents are not delayed.
    async fn stands(&self, round: i32) -> Result<(), TestCaseError> {
        let temp = self.copies(Role::RaseenTempUser).await;
        let main = self.copies(Role::RaseenMainUser).await;
        for reference in &self.references {
            let user = reference.user.to_string();
            let moved = reference.has_moved(round);
            prop_assert_eq!(
                (temp.contains(&user), main.contains(&user)),
                (!moved, moved),
                "{} after round {}",
                user,
                round
            );
        }
        Ok(())
    }

    /// Whose documents `role` holds.
    async fn copies(&self, role: Role) -> BTreeSet<String> {
        let users = self.references.iter().map(|it| it.user.to_string());
        let find = Find::new(Query::Users(users.collect()));
        let found = self.world.store(role).find(role.users().unwrap(), &find);
        let user = |copy: &RawDocumentBuf| document::user_id(copy).unwrap().to_owned();
        found.await.unwrap().iter().map(user).collect()
    }

    /// Before its time nothing is tried again.
    async fn waits(&self) -> Result<(), TestCaseError> {
        let early = self.run().await.unwrap();
        prop_assert_eq!((early.moved, early.failed), (0, 0));
        for reference in &self.references {
            for (record, _) in self.records(&reference.user).await {
                prop_assert_eq!(record.retry_count, reference.failed.min(RETRIES));
            }
        }
        Ok(())
    }

    /// The time of every next attempt comes.
    async fn time_passes(&self) {
        for reference in &self.references {
            for (record, _) in self.records(&reference.user).await {
                if record.next_attempt_at.is_some() {
                    let set = doc! { record_field::NEXT_ATTEMPT_AT: self.world.now().await };
                    let ids = [Bson::ObjectId(record.id)];
                    let store = self.world.store(Role::EvaluationAudit);
                    let records = collection::MIGRATION_RECORDS;
                    store.amend(records, &ids, &doc! {}, &set).await.unwrap();
                }
            }
        }
    }

    async fn alerts(&self, user: &UserId) -> Vec<Alert> {
        let alerts = Alerts::new(Arc::clone(&self.world.engine));
        let mut after = None;
        let mut found = Vec::new();
        loop {
            let page = alerts.open(&mut after).await.unwrap();
            if page.is_empty() {
                return found;
            }
            let theirs = |alert: &Alert| alert.subject == user.as_str();
            found.extend(page.into_iter().filter(theirs));
        }
    }
}

async fn holds(world: &World, logs: &Logs, first: u32, plan: &Plan) -> Result<(), TestCaseError> {
    let settings = MoverSettings {
        retry_backoff: plan.backoff,
        ..world.settings
    };
    let mut references = Vec::new();
    for (n, refusals) in (first..).zip(plan.refusals.iter().copied()) {
        if refusals > 0 {
            world.squat(n).await;
        }
        references.push(Reference {
            n,
            user: world.staged(n, DAY + HOUR).await,
            refusals,
            failed: 0,
        });
    }
    let mut case = Case {
        world,
        logs,
        service: MigrationService::new(Arc::clone(&world.engine), settings),
        plan,
        references,
    };
    for round in 0..=RETRIES {
        if let Some((_, away)) = plan.outage.filter(|(before, _)| *before == round) {
            let refuses = case
                .references
                .iter()
                .any(|it| it.refusals > round - 1 && it.refusals > 0);
            // Beside main's, the backup's refusals would count as well.
            let away = if refuses && away == Role::RaseenMainUser {
                Role::SrieMainUser
            } else {
                away
            };
            case.outage(away).await?;
        }
        for reference in &case.references {
            if reference.refusals > 0 && reference.refusals == round {
                world.clear(reference.n).await;
            }
        }
        case.attempt(round).await?;
        case.stands(round + 1).await?;
        if round == plan.early {
            case.waits().await?;
        }
        if case.references.iter().all(|it| it.has_moved(round + 1)) {
            break;
        }
        case.time_passes().await;
    }
    for reference in &case.references {
        let alerts = case.alerts(&reference.user).await;
        let expected = usize::from(reference.has_given_up());
        prop_assert_eq!(alerts.len(), expected, "{:?}", alerts);
        for alert in alerts {
            prop_assert_eq!((alert.kind, alert.count), (AlertKind::MigrationFailed, 1));
        }
        if reference.has_given_up() {
            world.clear(reference.n).await;
            let by_hand = Failed::Of(reference.user.clone());
            prop_assert_eq!(case.service.retry(&by_hand).await.unwrap().retried, 1);
        }
    }
    let given_up = case.references.iter().filter(|it| it.has_given_up());
    let given_up = u64::try_from(given_up.count()).unwrap();
    if given_up > 0 {
        prop_assert_eq!(case.run().await.unwrap().moved, given_up);
    }
    Ok(())
}

#[rstest]
fn a_failed_move_is_logged_and_retried_with_growing_waits(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    // One thread, so that all that is logged is logged here.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let world = runtime.block_on(World::new(backend));
    runtime.block_on(world.refuse_equals());
    let logs = Logs::collected();
    let mut runner = TestRunner::new(Config {
        cases: scale::cases(CASES),
        max_shrink_iters: 64,
        ..Config::default()
    });
    let next = std::cell::Cell::new(1_u32);
    runner
        .run(&plans(), |plan| {
            let first = next.get();
            next.set(first + 10);
            runtime.block_on(holds(&world, &logs, first, &plan))
        })
        .unwrap();
    runtime.block_on(world.check_invariants());
}
