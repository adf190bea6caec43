//! A random run with real concurrency: writers, movers that are cut off, upkeep, and a nemesis, all at once, each with
//! the reference model of its own users. Four seconds, in a full run a minute; the seed is printed and can be given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rstest::rstest;
use tierkeep_core::clock::Clock as _;
use tierkeep_core::db::Role;
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, Mutant, SEEN_FOR, UsersError};
use tierkeep_testkit::fault::{Fault, Moment};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::actors::{self, Told, marks};
use super::ledger::Ledger;
use super::plan::SECTIONS;
use super::reference::{Contradiction, Deed, Reference, Token, Write};
use super::sight::look;
use super::stage::{Process, Stage};
use crate::scale;
use crate::sharded;
use crate::world::{Backend, DAY, HOUR, patient_users, user};

const CLIENTS: u32 = 4;
const USERS_EACH: u32 = 2;
const MOVERS: u32 = 3;

const TIERS: [Role; 4] = [
    Role::RaseenTempUser,
    Role::RaseenMainUser,
    Role::SrieMainUser,
    Role::EvaluationAudit,
];

/// One user, with the one client that writes and reads it.
struct Mine {
    id: UserId,
    reference: Reference,
    ledger: Ledger,
    tokens: Token,
}

/// What was done.
#[derive(Default, Debug)]
struct Done {
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    read: AtomicU64,
    erased: AtomicU64,
    moved: AtomicU64,
    cut_off: AtomicU64,
    faults: AtomicU64,
}

fn add(count: &AtomicU64, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}

/// All that take part share this.
#[derive(Clone)]
struct Run {
    stage: Arc<Stage>,
    done: Arc<Done>,
    stop: CancellationToken,
}

impl Mine {
    async fn step(
        &mut self,
        run: &Run,
        process: &Process,
        random: &mut StdRng,
    ) -> Result<(), Contradiction> {
        match random.random_range(0..100) {
            0..60 => self.write(run, process, random).await,
            60..98 => self.read(run, process).await,
            _ => self.erase(run, process).await,
        }
    }

    async fn write(
        &mut self,
        run: &Run,
        process: &Process,
        random: &mut StdRng,
    ) -> Result<(), Contradiction> {
        self.tokens += 1;
        let newest = self.reference.newest();
        let write = Write {
            token: self.tokens,
            section: SECTIONS.choose(random).unwrap(),
            deed: *[Deed::Put, Deed::Put, Deed::Patch, Deed::Patch, Deed::Remove]
                .choose(random)
                .unwrap(),
            condition: match (random.random_range(0..8), newest) {
                (0, Some(version)) => Condition::Version(version),
                (1, None) => Condition::Absent,
                _ => Condition::None,
            },
        };
        self.reference.begin(write.clone());
        let told = actors::write(process, 0, &self.id, &write).await;
        let Told::Wrote(_, token, told) = told else {
            return Err("a write came to something else".to_owned());
        };
        if told.is_ok() {
            add(&run.done.acknowledged, 1);
        }
        let unknown = self.reference.told(token, told)?;
        add(&run.done.unknown, u64::from(unknown));
        Ok(())
    }

    async fn read(&mut self, run: &Run, process: &Process) -> Result<(), Contradiction> {
        let users = patient_users(&process.engine);
        let found = match users.read(&self.id).await {
            Ok(found) => found,
            Err(UsersError::Unavailable(_)) => return Ok(()),
            Err(error) => return Err(format!("a read of {}: {error}", self.id)),
        };
        add(&run.done.read, 1);
        let Some(found) = found else {
            return self.reference.seen(None);
        };
        let version = found.version().ok_or("a document has no version")?;
        let seen = marks(&found.document);
        self.reference.seen(Some((version, &seen)))
    }

    async fn erase(&mut self, run: &Run, process: &Process) -> Result<(), Contradiction> {
        self.ledger.asked = true;
        let told = actors::erase(process, 0, &self.id).await;
        if let Told::Erased(_, Ok(erased)) = told {
            add(&run.done.erased, 1);
            let fence = Version::of_erasure(erased.epoch).unwrap();
            self.reference.erasing(fence);
            if !erased.pending.contains(&Role::RaseenTempUser) {
                self.reference.erased(fence)?;
            }
        }
        self.look_into_the_ledger(run).await
    }

    async fn look_into_the_ledger(&mut self, run: &Run) -> Result<(), Contradiction> {
        let stage = &run.stage;
        self.ledger
            .look(stage, &self.id, &mut self.reference, false)
            .await
    }
}

/// Writes and reads its users until the end.
async fn client(
    run: Run,
    process: Process,
    mut users: Vec<Mine>,
    seed: u64,
) -> Result<Vec<Mine>, Contradiction> {
    let mut random = StdRng::seed_from_u64(seed);
    while !run.stop.is_cancelled() {
        let which = random.random_range(0..users.len());
        let mine = &mut users[which];
        let stepped = mine.step(&run, &process, &mut random).await;
        if let Err(contradiction) = stepped {
            run.stop.cancel();
            return Err(format!("{}: {contradiction}", mine.id));
        }
    }
    Ok(users)
}

/// Moves whatever is there, again and again; some runs are cut off.
async fn mover(run: Run, process: Process, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    while !run.stop.is_cancelled() {
        let patience =
            Duration::from_millis(random.random_range(1..60) * random.random_range(1..60));
        match tokio::time::timeout(patience, actors::migrate(&process, true)).await {
            Ok(Told::Moved(Ok(summary))) => add(&run.done.moved, summary.moved),
            Ok(_) => {}
            Err(_) => add(&run.done.cut_off, 1),
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..20))).await;
    }
}

/// Clears entries, finishes erasures.
async fn upkeep(run: Run, process: Process) {
    let mut uptime = Duration::ZERO;
    while !run.stop.is_cancelled() {
        uptime += SEEN_FOR / 2;
        if let Some(keeping) = actors::keep_up(&process, uptime) {
            keeping.await;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Makes calls fail, takes databases away, holds calls back, lets calls that were given up arrive late, and moves the
/// clock.
async fn nemesis(run: Run, seed: u64) {
    const OPERATIONS: [&str; 6] = ["insert", "put_newer", "write", "delete", "amend", "find"];
    let mut random = StdRng::seed_from_u64(seed);
    let faults = &run.stage.faults;
    let mut arrivals = JoinSet::new();
    while !run.stop.is_cancelled() {
        add(&run.done.faults, 1);
        let role = *TIERS.choose(&mut random).unwrap();
        let operation = *OPERATIONS.choose(&mut random).unwrap();
        let wait = Duration::from_millis(random.random_range(5..120));
        match random.random_range(0..12) {
            0 => {
                faults.set_down(role, true);
                tokio::time::sleep(wait).await;
                faults.heal();
            }
            1..4 => {
                let hold = faults.hold(Fault::nth(1, Moment::Before).of(operation).to(role));
                tokio::time::sleep(wait * 3).await;
                hold.release();
            }
            4..9 => {
                let moments = [Moment::Before, Moment::Midway, Moment::After];
                let moment = *moments.choose(&mut random).unwrap();
                faults.plan(Fault::nth(1, moment).of(operation).to(role));
                tokio::time::sleep(wait).await;
            }
            9..11 => {
                let operation = *["write", "amend"].choose(&mut random).unwrap();
                let late = faults.delay(Fault::nth(1, Moment::Before).of(operation).to(role));
                let lateness = wait * random.random_range(1..20);
                arrivals.spawn(async move {
                    tokio::time::sleep(lateness).await;
                    if late.is_on_its_way() {
                        late.arrive().await.ok();
                    }
                });
                tokio::time::sleep(wait).await;
            }
            _ => {
                let by = Duration::from_millis(random.random_range(1..3_000));
                run.stage.clock.advance(by);
            }
        }
    }
    faults.heal();
    arrivals.join_all().await;
}

/// Runs all clients and movers for `lasts`; returns the contradiction, if there was one.
async fn random_run(
    stage: Stage,
    seed: u64,
    lasts: Duration,
) -> (Arc<Done>, Result<(), Contradiction>) {
    let run = Run {
        stage: Arc::new(stage),
        done: Arc::default(),
        stop: CancellationToken::new(),
    };
    let mut processes = Vec::new();
    for _ in 0..=MOVERS + CLIENTS {
        processes.push(run.stage.process().await.unwrap());
    }
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let first = number * USERS_EACH + 1;
        let users = (first..first + USERS_EACH).map(|n| Mine {
            id: user(n),
            reference: Reference::unknown(),
            ledger: Ledger::default(),
            tokens: 0,
        });
        let seed = seed.wrapping_add(u64::from(number));
        let process = processes.remove(0);
        clients.spawn(client(run.clone(), process, users.collect(), seed));
    }
    let mut others = JoinSet::new();
    others.spawn(upkeep(run.clone(), processes.remove(0)));
    for (number, process) in (100..).zip(processes) {
        others.spawn(mover(run.clone(), process, seed.wrapping_add(number)));
    }
    others.spawn(nemesis(run.clone(), seed.wrapping_add(200)));
    tokio::select! {
        () = tokio::time::sleep(lasts) => run.stop.cancel(),
        () = run.stop.cancelled() => {}
    }
    let mut outcome = Ok(());
    let mut users = Vec::new();
    others.join_all().await;
    for ended in clients.join_all().await {
        match ended {
            Ok(ended) => users.extend(ended),
            Err(contradiction) => outcome = outcome.and(Err(contradiction)),
        }
    }
    if outcome.is_ok() {
        outcome = settles(&run, users).await;
    }
    (run.done, outcome)
}

/// Faults have stopped: temp drains, and what is left is what was acknowledged.
async fn settles(run: &Run, mut users: Vec<Mine>) -> Result<(), Contradiction> {
    let process = run.stage.process().await.unwrap();
    let ids: Vec<UserId> = users.iter().map(|mine| mine.id.clone()).collect();
    let mut uptime = Duration::ZERO;
    let mut before = look(&run.stage, &ids).await;
    run.stage.clock.advance(DAY);
    for _ in 0..3 {
        uptime += SEEN_FOR;
        run.stage.clock.advance(HOUR + HOUR);
        actors::keep_up(&process, uptime).unwrap().await;
        for mine in &mut users {
            mine.look_into_the_ledger(run).await?;
        }
        if let Told::Moved(Err(stopped)) = actors::migrate(&process, true).await {
            return Err(format!("a run after all faults: {stopped}"));
        }
        let fences: Vec<_> = fences(&users).collect();
        let after = look(&run.stage, &ids).await;
        after.holds_after(&before, &fences)?;
        before = after;
    }
    let fences: Vec<_> = fences(&users).collect();
    before.is_settled(&fences, run.stage.clock.now(), DAY)?;
    for mine in &mut users {
        mine.read(run, &process).await?;
        for (version, marks) in before.copies_of(&mine.id) {
            let seen = version.map(|version| (version, &marks));
            mine.reference.seen(seen)?;
        }
    }
    Ok(())
}

/// Who was erased, and the version below which nothing of them counts.
fn fences(users: &[Mine]) -> impl Iterator<Item = (&str, Version)> {
    users
        .iter()
        .filter_map(|mine| Some((mine.id.as_str(), mine.ledger.fence?)))
}

/// The seed of this run, and how long it lasts.
#[expect(clippy::print_stdout, reason = "who repeats a run needs its seed")]
fn drawn(backend: &str) -> (u64, Duration) {
    let given = scale::variable("TIERKEEP_TEST_SEED");
    let seed = given.map_or_else(rand::random, |seed| seed.parse().unwrap());
    let lasts = Duration::from_secs(if scale::is_full() { 60 } else { 4 });
    println!("{backend}: TIERKEEP_TEST_SEED={seed} for {lasts:?}");
    (seed, lasts)
}

/// What must be true of a run that took part in everything: nothing broke, and enough was done.
#[expect(
    clippy::print_stdout,
    reason = "a run that fails is compared by what it did"
)]
fn assert_sound(backend: &str, seed: u64, done: &Done, outcome: Result<(), Contradiction>) {
    println!("{backend}: {done:?}");
    if let Err(contradiction) = outcome {
        panic!("TIERKEEP_TEST_SEED={seed}: {contradiction}");
    }
    let moves = done.moved.load(Ordering::Relaxed) + done.cut_off.load(Ordering::Relaxed);
    assert!(moves > 2, "{done:?}");
    for count in [&done.acknowledged, &done.read, &done.faults] {
        assert!(count.load(Ordering::Relaxed) > 10, "{done:?}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_random_run_loses_nothing(#[values(Backend::Sqlite, Backend::Mongo)] backend: Backend) {
    let name = format!("{backend:?}");
    let (seed, lasts) = drawn(&name);
    let stage = Stage::beside(backend, None).await;
    let (done, outcome) = random_run(stage, seed, lasts).await;
    assert_sound(&name, seed, &done, outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_random_run_on_shards_loses_nothing_while_chunks_move() {
    let (seed, lasts) = drawn("shards");
    let cluster = sharded::cluster();
    let databases = sharded::stores(cluster).await;
    let shuffle = cluster.shuffle(sharded::namespaces(&databases.0).await);
    let stage = Stage::over(databases, Backend::Mongo, None);
    let (done, outcome) = random_run(stage, seed, lasts).await;
    let chunks = shuffle.stop().await;
    assert_sound("shards", seed, &done, outcome);
    assert!(chunks > 5, "only {chunks} chunks moved");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_random_run_without_the_guard_of_the_delete_loses_what_was_acknowledged(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let (seed, _) = drawn(&format!("{backend:?}"));
    let stage = Stage::beside(backend, Some(Mutant::UnguardedDelete)).await;
    let (done, outcome) = random_run(stage, seed, Duration::from_mins(1)).await;
    let lost = outcome.expect_err("nothing was lost");
    println!("{backend:?}: {lost}, after {done:?}");
}
