//! Plays a history against the engine and the reference model, and looks at the databases after each action.

use std::time::Duration;

use bson::DateTime;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock as _};
use tierkeep_core::db::Role;
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, SEEN_FOR, UsersError};
use tierkeep_testkit::Hold;
use tokio::task::JoinHandle;

use super::actors::{self, Acting, Told, marks};
use super::ledger::Ledger;
use super::plan::{Action, Actor, Asks, Course, USERS, step};
use super::reference::{Contradiction, Reference, Token, Write};
use super::sight::{Sight, look};
use super::stage::{Process, Stage};
use super::tally::Tally;
use crate::world::{Backend, DAY, HOUR, patient_users, user};

/// An actor that is held before a call.
struct Standing {
    task: JoinHandle<Told>,
    hold: Hold,
    write: Option<(usize, Token)>,
    moves: bool,
}

pub struct Play<'a> {
    pub stage: &'a Stage,
    process: Process,
    ids: Vec<UserId>,
    references: Vec<Reference>,
    ledgers: Vec<Ledger>,
    standing: Vec<Standing>,
    sight: Sight,
    at_once: bool,
    tokens: Token,
    uptime: Duration,
    newest: DateTime,
    pub tally: Tally,
}

type Outcome = Result<(), Contradiction>;

impl<'a> Play<'a> {
    /// With users from number `first` on, of whom nothing is stored.
    pub fn new(stage: &'a Stage, process: Process, first: u32, at_once: bool) -> Self {
        let ids = (first..).take(USERS).map(user).collect();
        Self {
            stage,
            process,
            ids,
            references: vec![Reference::unknown(); USERS],
            ledgers: vec![Ledger::default(); USERS],
            standing: Vec::new(),
            sight: Sight::default(),
            // A test cannot move the clock of a server.
            at_once: at_once || stage.backend == Backend::Mongo,
            tokens: 0,
            uptime: Duration::ZERO,
            newest: stage.clock.now(),
            tally: Tally::default(),
        }
    }

    /// The process, for the next history.
    pub fn into_process(self) -> Process {
        self.process
    }

    pub async fn act(&mut self, action: &Action) -> Outcome {
        self.tally.done += 1;
        match action {
            Action::Act(actor, course) => self.begin(actor, *course).await?,
            Action::Read(user) => return self.read(*user).await,
            Action::Clock(seconds) => {
                let (by, back) = step(*seconds);
                let now = self.stage.clock.now();
                self.stage.clock.set(if back {
                    clock::before(now, by)
                } else {
                    clock::after(now, by)
                });
                self.newest = self.newest.max(self.stage.clock.now());
                return Ok(());
            }
            Action::Resume(which) => self.resume(*which).await?,
            Action::Kill(which) => self.kill(*which).await?,
            Action::Restart => self.restart().await?,
            Action::Fault(trouble) => {
                self.stage.faults.plan(trouble.fault());
                return Ok(());
            }
            Action::Away(role) => {
                self.stage.faults.set_down(*role, true);
                return Ok(());
            }
            Action::Heal => {
                self.stage.faults.heal();
                return Ok(());
            }
        }
        self.look().await
    }

    async fn begin(&mut self, actor: &Actor, course: Course) -> Outcome {
        let mut write = None;
        let mut moves = false;
        let acting = match actor {
            Actor::Writer {
                user,
                section,
                deed,
                asks,
            } => {
                self.tokens += 1;
                let asked = Write {
                    token: self.tokens,
                    section,
                    deed: *deed,
                    condition: self.condition(*user, *asks),
                };
                write = Some((*user, asked.token));
                self.references[*user].begin(asked.clone());
                actors::write(&self.process, *user, &self.ids[*user], &asked)
            }
            Actor::Mover => {
                moves = true;
                actors::migrate(&self.process, self.at_once)
            }
            Actor::Eraser(user) => {
                self.ledgers[*user].asked = true;
                actors::erase(&self.process, *user, &self.ids[*user])
            }
            Actor::Upkeep => {
                self.uptime += SEEN_FOR;
                let Some(acting) = actors::keep_up(&self.process, self.uptime) else {
                    self.tally.skipped += 1;
                    return Ok(());
                };
                acting
            }
        };
        self.run(acting, course, write, moves).await
    }

    fn condition(&self, user: usize, asks: Asks) -> Condition {
        let newest = self.references[user].newest();
        let version =
            |version: Option<Version>| version.map_or(Condition::Exists, Condition::Version);
        match asks {
            Asks::Nothing => Condition::None,
            Asks::Current => version(newest),
            Asks::Stale => version(newest.and_then(|it| Version::new(it.get() - 1))),
            Asks::Exists => Condition::Exists,
            Asks::Absent => Condition::Absent,
        }
    }

    async fn run(
        &mut self,
        acting: Acting,
        course: Course,
        write: Option<(usize, Token)>,
        moves: bool,
    ) -> Outcome {
        let call = match course {
            Course::Through => {
                let told = tokio::spawn(acting).await.unwrap();
                return self.settle(told);
            }
            Course::Stops(call) | Course::Dies(call) => call,
        };
        let hold = self.stage.faults.hold(call.hold());
        let mut task = tokio::spawn(acting);
        tokio::select! {
            biased;
            told = &mut task => {
                hold.release();
                self.tally.skipped += 1;
                self.settle(told.unwrap())
            }
            () = hold.reached() => {
                self.tally.stood_still += 1;
                self.standing.push(Standing { task, hold, write, moves });
                if matches!(course, Course::Dies(_)) {
                    self.kill(self.standing.len() - 1).await?;
                }
                Ok(())
            }
        }
    }

    async fn resume(&mut self, which: usize) -> Outcome {
        if self.standing.is_empty() {
            self.tally.skipped += 1;
            return Ok(());
        }
        let standing = self.standing.remove(which % self.standing.len());
        standing.hold.release();
        let told = standing.task.await.unwrap();
        self.settle(told)
    }

    /// An actor that was held before a call with a timeout may have continued without it and finished.
    async fn kill(&mut self, which: usize) -> Outcome {
        if self.standing.is_empty() {
            self.tally.skipped += 1;
            return Ok(());
        }
        let standing = self.standing.remove(which % self.standing.len());
        standing.task.abort();
        let ended = standing.task.await;
        standing.hold.release();
        match ended {
            Ok(told) => return self.settle(told),
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
        if let Some((user, token)) = standing.write {
            self.references[user].unknown_outcome(token);
        }
        Ok(())
    }

    async fn restart(&mut self) -> Outcome {
        while !self.standing.is_empty() {
            self.kill(0).await?;
        }
        self.uptime = Duration::ZERO;
        self.process = if let Ok(process) = self.stage.process().await {
            process
        } else {
            // It does not start while a database that it needs is away.
            self.stage.faults.heal();
            self.stage.process().await.unwrap()
        };
        Ok(())
    }

    fn settle(&mut self, told: Told) -> Outcome {
        match told {
            Told::Wrote(user, token, told) => {
                self.tally.acknowledged += u32::from(told.is_ok());
                let unknown = self.references[user].told(token, told)?;
                self.tally.unknown += u32::from(unknown);
                Ok(())
            }
            Told::Moved(Ok(summary)) => {
                self.tally.moved += summary.moved;
                if self.standing.iter().all(|standing| !standing.moves) {
                    for ledger in &mut self.ledgers {
                        ledger.outlived = false;
                    }
                }
                Ok(())
            }
            Told::Erased(user, Ok(erased)) => {
                self.tally.erased += 1;
                let fence = Version::of_erasure(erased.epoch).unwrap();
                self.references[user].erasing(fence);
                if erased.pending.contains(&Role::RaseenTempUser) {
                    return Ok(());
                }
                self.references[user].erased(fence)
            }
            Told::Moved(Err(_)) | Told::Erased(_, Err(_)) | Told::Kept => Ok(()),
        }
    }

    async fn read(&mut self, user: usize) -> Outcome {
        let users = patient_users(&self.process.engine);
        let ledger = &self.ledgers[user];
        let found = match users.read(&self.ids[user]).await {
            Ok(found) => found,
            Err(UsersError::Unavailable(_)) => return Ok(()),
            Err(error) => return Err(format!("a read of {}: {error}", self.ids[user])),
        };
        let Some(found) = found else {
            return self.references[user].seen(None);
        };
        let version = found.version().ok_or("a document has no version")?;
        if ledger.outlived && Some(version) < ledger.fence {
            return Ok(());
        }
        let seen = marks(&found.document);
        self.references[user].seen(Some((version, &seen)))
    }

    /// Takes over what the ledger says of erasures, and holds what is stored against the invariants.
    async fn look(&mut self) -> Outcome {
        let moving = self.standing.iter().any(|standing| standing.moves);
        for (user, ledger) in self.ledgers.iter_mut().enumerate() {
            let reference = &mut self.references[user];
            ledger
                .look(self.stage, &self.ids[user], reference, moving)
                .await?;
        }
        let seen = look(self.stage, &self.ids).await;
        let fences = self.fences();
        seen.holds_after(&self.sight, &fences)?;
        if !self.at_once {
            seen.nothing_moved_early(&self.sight, self.newest, DAY)?;
        }
        self.sight = seen;
        Ok(())
    }

    /// Who was erased, and the version below which nothing of them counts.
    fn fences(&self) -> Vec<(&str, Version)> {
        let users = self.ids.iter().zip(&self.ledgers);
        users
            .filter_map(|(id, ledger)| Some((id.as_str(), ledger.fence?)))
            .collect()
    }

    /// Ends what is still under way, after something broke.
    pub async fn clear_away(&mut self) {
        self.stage.faults.heal();
        while !self.standing.is_empty() {
            // What was broken is known already.
            let _ = self.kill(0).await;
        }
    }

    /// Faults stop, all actors run to their end, the retention passes, and the mover drains temp.
    pub async fn drain(&mut self) -> Outcome {
        self.stage.faults.heal();
        while !self.standing.is_empty() {
            self.resume(0).await?;
            self.look().await?;
        }
        self.restart().await?;
        self.stage.clock.set(clock::after(self.newest, DAY + DAY));
        for _ in 0..3 {
            self.newest = self.stage.clock.advance(HOUR + HOUR);
            self.begin(&Actor::Upkeep, Course::Through).await?;
            self.look().await?;
            self.begin(&Actor::Mover, Course::Through).await?;
            self.look().await?;
        }
        let fences = self.fences();
        self.sight.is_settled(&fences, self.newest, DAY)?;
        for user in 0..USERS {
            self.read(user).await?;
            for (version, marks) in self.sight.copies_of(&self.ids[user]) {
                let seen = version.map(|version| (version, &marks));
                self.references[user].seen(seen)?;
            }
        }
        Ok(())
    }
}
