//! Writes, moves, outages and erasures in any order: erased content never returns.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, State};
use tierkeep_core::user::{UserId, UserType};

use crate::common::{Answer, Ask, Backend, HOUR, KNOWN_TOKEN, World, full, hold_in, runtime};

const SECTION: &str = "/v1/user/scan_cache";
const GRACE: Duration = Duration::from_hours(720);

#[derive(Clone, Copy, Debug)]
enum Step {
    Put,
    Patch,
    Remove,
    Erase,
    Move,
    Down(Role),
    Heal,
    Finish,
    ForgetTombstones,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let calm = prop_oneof![
        4 => Just(Step::Put),
        4 => Just(Step::Patch),
        1 => Just(Step::Remove),
        4 => Just(Step::Erase),
        4 => Just(Step::Move),
        1 => Just(Step::Finish),
        1 => Just(Step::ForgetTombstones),
    ];
    let outage = prop_oneof![
        Just(Step::Down(Role::SrieMainUser)),
        Just(Step::Down(Role::RaseenMainUser)),
        Just(Step::Heal),
    ];
    // Calls that fail in an outage are retried for some time.
    let stormy = prop_oneof![3 => calm.clone(), 1 => outage];
    prop_oneof![9 => vec(calm, 3..10), 1 => vec(stormy, 3..10)]
}

struct Case<'a> {
    world: &'a World,
    user: UserId,
    subject: String,
    /// How many lives have ended.
    lives: i64,
    down: bool,
}

impl Case<'_> {
    fn ask(&self, method: &str, path: &str) -> Ask {
        match self.user.user_type() {
            UserType::Internal => self
                .world
                .ask(method, path)
                .jwt(&self.world.token(&self.subject, None))
                .github(KNOWN_TOKEN),
            UserType::External => {
                let ask = if (method, path) == ("DELETE", "/v1/user") {
                    self.world.admin(method, path)
                } else {
                    self.world.ask(method, path)
                };
                ask.named(&self.subject)
            }
        }
    }

    /// The request succeeds, finds nothing, or fails because a database is away.
    fn check(&self, answer: &Answer, fine: &[u16]) {
        let status = answer.status.as_u16();
        let away = self.down && status == 503;
        assert!(fine.contains(&status) || away, "{answer:?}");
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Put => {
                let body = json!({ "life": self.lives }).to_string();
                let answer = self.ask("PUT", SECTION).json(body).send().await;
                self.check(&answer, &[200, 201]);
            }
            Step::Patch => {
                let body = json!({ format!("in{}", self.lives): self.lives }).to_string();
                let answer = self.ask("PATCH", SECTION).json(body).send().await;
                self.check(&answer, &[200, 201]);
            }
            Step::Remove if self.user.user_type() == UserType::External => {}
            Step::Remove => {
                let answer = self.ask("DELETE", SECTION).send().await;
                self.check(&answer, &[200, 404]);
            }
            Step::Erase => {
                let answer = self.ask("DELETE", "/v1/user").send().await;
                assert!(
                    [202, 204, 404].contains(&answer.status.as_u16()),
                    "{answer:?}"
                );
                self.lives += i64::from(answer.status.is_success());
            }
            Step::Move => {
                let run = self.world.admin("POST", "/v1/admin/migrations/run");
                run.json(r#"{"older_than":"0s"}"#).send().await.expect(202);
                self.world.mover.finished().await;
            }
            Step::Down(role) => {
                self.down = true;
                self.world.faults.set_down(role, true);
            }
            Step::Heal => {
                self.down = false;
                self.world.faults.heal();
            }
            Step::Finish => {
                self.world.erasures.finish_pending().await.unwrap();
            }
            Step::ForgetTombstones => {
                self.world.clock.advance(GRACE + HOUR);
                // What is away keeps its own.
                self.world.erasures.remove_tombstones(GRACE).await.ok();
            }
        }
        let answer = self.ask("GET", SECTION).send().await;
        self.check(&answer, &[200, 404]);
        if answer.status == 200 {
            self.assert_of_this_life(&answer.value());
        }
    }

    fn assert_of_this_life(&self, section: &Value) {
        let lives = section.as_object().unwrap().values();
        for life in lives {
            assert_eq!(*life, self.lives, "{section}");
        }
    }
}

async fn nothing_returns(world: &World, n: u32, internal: bool, steps: Vec<Step>) {
    let subject = if internal {
        format!("{n:024x}")
    } else {
        format!("user{n}")
    };
    let user = if internal {
        UserId::internal(&subject)
    } else {
        UserId::external(&subject)
    };
    let mut case = Case {
        world,
        user: user.unwrap(),
        subject,
        lives: 0,
        down: false,
    };
    for step in steps {
        case.take(step).await;
    }
    for step in [Step::Heal, Step::Finish, Step::Move] {
        case.take(step).await;
    }
    let roles = Role::ALL.into_iter().filter(|role| role.users().is_some());
    for role in roles {
        let Some(copy) = world.document(role, case.user.as_str()).await else {
            continue;
        };
        if document::state(&copy) == Some(State::Erased) {
            assert!(copy.get("scan_cache").unwrap().is_none());
        } else if let Ok(cache) = copy.get_document("scan_cache") {
            let shown = bson::Document::try_from(cache).unwrap();
            case.assert_of_this_life(&serde_json::to_value(&shown).unwrap());
        }
    }
}

/// How many cases are tried: a quarter of them on a database, where a step takes long; all in memory and in a full run.
fn cases(backend: Backend) -> u32 {
    match backend {
        Backend::Sqlite | Backend::Mongo if !full() => 64,
        Backend::Memory | Backend::Sqlite | Backend::Mongo => 256,
    }
}

#[rstest]
fn erased_content_never_returns(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(true, false)] internal: bool,
) {
    let runtime = runtime();
    let world = runtime.block_on(World::new(backend));
    let case = AtomicU32::new(0);
    hold_in(
        cases(backend),
        &steps(),
        |steps| {
            nothing_returns(
                &world,
                case.fetch_add(1, Ordering::Relaxed),
                internal,
                steps,
            )
        },
        &runtime,
    );
}
