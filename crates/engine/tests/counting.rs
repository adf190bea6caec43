//! Audit entries caused by anonymous callers: repeated ones are counted, and internal users are not affected.

use std::time::Duration;

use rstest::rstest;
use tierkeep_core::audit::audit_field;
use tierkeep_core::db::Role;
use tierkeep_engine::{AuditKeeper, AuditTrail, Decided, Kept, Refused};

use crate::audit::{decide, external, internal, process, settings, stored, text, whole};
use crate::world::{Backend, World};

/// What a caller at this address is refused for.
async fn refuse(trail: &AuditTrail, from: u8, request_id: &str) -> Kept {
    let refused = Refused {
        reason: "the JWT is missing",
        actor: None,
        request_id: Some(request_id),
        from: Some([192, 0, 2, from].into()),
    };
    trail.refuse(refused).await.unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_an_address_and_minute_are_one_entry(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    const MINUTE: Duration = Duration::from_mins(1);
    let world = World::new(backend).await;
    let engine = process(&world, settings()).await;
    let trail = engine.audit_trail();
    for minute in ["first", "second"] {
        for n in 0..100 {
            let kept = refuse(trail, 1, minute).await;
            assert_eq!(kept == Kept::Counted, n > 0);
        }
        world.clock.advance(MINUTE);
    }
    refuse(trail, 2, "another").await;
    trail.note_counted().await;
    world.clock.advance(MINUTE);
    trail.note_counted().await;
    let all = stored(&world).await;
    let said = |name| all.iter().map(|it| text(it, name)).collect::<Vec<_>>();
    assert_eq!(
        said(audit_field::REASON),
        [
            "the JWT is missing",
            "the JWT is missing; 99 more from this address before",
            "the JWT is missing",
            "the JWT is missing; 99 more from one address",
        ]
    );
    assert_eq!(
        said(audit_field::REQUEST_ID),
        ["first", "second", "another", "-"]
    );
    // What is still counted when the process ends is written then.
    refuse(trail, 2, "again").await;
    refuse(trail, 2, "again").await;
    AuditKeeper::finish(&engine).await;
    assert_eq!(whole(trail).await.count, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_the_public_filled_takes_internal_users() {
    let world = World::new(Backend::Memory).await;
    let engine = process(&world, settings()).await;
    let trail = engine.audit_trail();
    world.faults.set_down(Role::EvaluationAudit, true);
    let mut filled = 0;
    loop {
        let decision = external(&format!("user{filled}"));
        let decided = Decided {
            decision: &decision,
            actor: None,
            account: None,
            request_id: None,
            from: None,
        };
        if trail.decided(decided).await.is_err() {
            break;
        }
        filled += 1;
    }
    assert!(filled > 1_000, "{filled}");
    // Those without credentials are refused and counted nevertheless, and a name is only counted.
    assert_eq!(refuse(trail, 1, "r").await, Kept::Counted);
    let decision = external("another");
    let decided = Decided {
        decision: &decision,
        actor: None,
        account: None,
        request_id: None,
        from: Some([192, 0, 2, 1].into()),
    };
    assert_eq!(trail.decided(decided).await.unwrap(), Kept::Counted);
    // But nothing is stored for it.
    trail.before_change(decided).await.unwrap_err();
    for _ in 0..100 {
        decide(trail, &internal(), Some("7")).await;
    }
    world.faults.set_down(Role::EvaluationAudit, false);
    trail.deliver().await.unwrap();
    trail.note_all_counted().await;
    assert_eq!(whole(trail).await.count, filled + 3);
}
