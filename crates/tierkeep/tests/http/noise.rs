//! An hour of anonymous noise, by the injected clock: how much the audit trail, the spool and the log grow, and that
//! internal users are served throughout.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use futures_util::future::join_all;
use tierkeep_core::audit::Draft;
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{Cursor, Find, Query};
use tierkeep_engine::{MemorySpool, Portion, Spool, SpoolShare};

use super::logging::listen;
use crate::common::{ACCOUNT_TOKEN, Ask, Backend, Options, Public, SUBJECT, World};

const SECTION: &str = "/v1/user/scan_cache";
/// What an hour may cost, in bytes.
const MOST_BYTES: u64 = 10 << 20;
/// Of how many requests about eight name one public user: only the first is a decision to be kept.
const EACH_NAME: u32 = 64;
const EACH_MINUTE: u32 = 240;
/// What a decision cost before they were counted, in the trail.
const ENTRY_BYTES: u64 = 753;

/// A spool that counts bytes, and has room for few entries of the public.
#[derive(Debug, Default)]
struct Counting {
    kept: MemorySpool,
    bytes: AtomicU64,
}

impl Spool for Counting {
    fn push(&self, drafts: &[Draft], share: SpoolShare) -> io::Result<()> {
        self.kept.push(drafts, share)?;
        for draft in drafts {
            let line = serde_json::to_vec(draft).unwrap().len() as u64 + 1;
            self.bytes.fetch_add(line, Ordering::Relaxed);
        }
        Ok(())
    }

    fn take(&self) -> io::Result<Option<Portion>> {
        self.kept.take()
    }

    fn done(&self, portion: &Portion) -> io::Result<()> {
        self.kept.done(portion)
    }
}

async fn trail(world: &World) -> Vec<RawDocumentBuf> {
    let mut all: Vec<RawDocumentBuf> = Vec::new();
    loop {
        let after = all.last().map(|last| Cursor::after(last));
        let find = Find::new(Query::All).after(after);
        let audit = &world.stores[&Role::EvaluationAudit];
        let page = audit.find(collection::AUDIT_TRAIL, &find).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// What callers without credentials can think of, from three addresses.
fn noise(world: &World, [forged, expired]: &[String; 2], n: u32) -> Ask {
    let ask = match n % 8 {
        0 => world.ask("GET", "/v1/user"),
        1 => world.ask("GET", "/v1/route").jwt("made.up.token"),
        2 => world.ask("GET", "/v1/admin/overview"),
        3 => world.ask("PUT", SECTION).jwt(forged),
        4 => world.ask("GET", "/v1/route").named("a.b"),
        5 => {
            let named = world.ask("GET", "/v1/route").named("reader");
            named.jwt("made.up.token")
        }
        6 => {
            let name = format!("name{}", n / EACH_NAME);
            world.ask("GET", "/v1/route").named(&name)
        }
        _ => world.ask("GET", "/v1/hr/hr_candidates").jwt(expired),
    };
    ask.header("x-forwarded-for", format!("192.0.2.{}", n % 3))
}

#[tokio::test]
async fn an_hour_of_anonymous_noise_leaves_little_and_takes_nothing_from_internal_users() {
    let usual = Public {
        rate: 50,
        burst: 100,
        new_users: 600,
        concurrency: 8,
        writes: true,
    };
    let spool = Arc::new(Counting::default());
    let options = Options {
        public: Some(usual),
        ..Options::default()
    };
    let world = World::with_spool(Backend::Memory, options, Arc::clone(&spool) as _).await;
    let (lines, _guard) = listen();
    let tokens = [world.forged(SUBJECT), world.expired(SUBJECT)];
    let away = |minute: u32| (10..40).contains(&minute);
    let mut served = 0;
    for minute in 0..60_u32 {
        world.faults.set_down(Role::EvaluationAudit, away(minute));
        for part in 0..4 {
            let from = (minute * 4 + part) * EACH_MINUTE / 4;
            let asked = (from..from + EACH_MINUTE / 4).map(|n| noise(&world, &tokens, n).send());
            join_all(asked).await;
            // A returning user, and a user whose first request this is.
            let known = world.internal("PUT", SECTION).json("{}");
            let subject = format!("{:024x}", minute * 4 + part);
            let newcomer = world.ask("GET", "/v1/route");
            let newcomer = newcomer.jwt(&world.token(&subject, None));
            let token = format!("{ACCOUNT_TOKEN}{}", 1_000 + minute * 4 + part);
            let newcomer = newcomer.github(&token);
            let (known, newcomer) = tokio::join!(known.send(), newcomer.send());
            assert!(known.status.is_success(), "{minute}: {known:?}");
            newcomer.expect(200);
            served += 2;
            let step = Duration::from_secs(15);
            world.clock.advance(step);
            world.jwt_clock.advance(step);
        }
        world.engine.audit_trail().note_counted().await;
        if !away(minute) {
            world.engine.audit_trail().deliver().await.unwrap();
        }
    }
    world.engine.audit_trail().note_all_counted().await;
    world.engine.audit_trail().deliver().await.unwrap();
    assert_eq!(served, 480);

    let trail = trail(&world).await;
    let trail_bytes: u64 = trail.iter().map(|it| it.as_bytes().len() as u64).sum();
    let spool_bytes = spool.bytes.load(Ordering::Relaxed);
    // The line of a request that is served is each user's own.
    let about_noise = |line: &&str| !line.contains("\"status\":20");
    let log_bytes: u64 = lines
        .text()
        .lines()
        .filter(about_noise)
        .map(|line| line.len() as u64 + 1)
        .sum();
    // One by one they would have cost more than that in the trail alone.
    assert!(u64::from(EACH_MINUTE) * 60 * ENTRY_BYTES > MOST_BYTES);
    println!("trail {trail_bytes}, spool {spool_bytes}, log {log_bytes} bytes");
    assert!(trail_bytes + spool_bytes + log_bytes < MOST_BYTES);
    // Each new user has an entry, and the counts cover all other requests.
    let of = |prefix: &str| {
        let users = trail.iter().filter_map(|it| it.get_str("user_id").ok());
        users.filter(|user| user.starts_with(prefix)).count()
    };
    assert_eq!(of("internal_"), 241);
    let decided: u64 = trail.iter().map(decisions).sum();
    let requests = EACH_MINUTE * 60;
    let expected = requests - requests / 8 + requests / EACH_NAME;
    assert_eq!(decided, u64::from(expected));
    let found = world.engine.audit_trail().verify(None).await.unwrap();
    assert_eq!(found.violations, []);
}

/// For how many of the noise's decisions an entry speaks.
fn decisions(entry: &RawDocumentBuf) -> u64 {
    if entry.get_str("decision").unwrap() == "internal" {
        return 0;
    }
    let reason = entry.get_str("reason").unwrap();
    let Some((_, more)) = reason.rsplit_once("; ") else {
        return 1;
    };
    match more.split_once(" more from ") {
        Some((count, "this address before")) => 1 + count.parse::<u64>().unwrap(),
        Some((count, _)) => count.parse().unwrap(),
        None => 1,
    }
}
