//! Property 5: an internal user needs a valid JWT, a valid GitHub token and no public name. A request that names a
//! public user is external. Every other request is refused, and nothing of it is stored.

use proptest::prelude::*;
use rstest::rstest;
use tierkeep_core::db::Role;

use crate::common::{
    Ask, Backend, KNOWN_TOKEN, Options, UNKNOWN_TOKEN, UNREACHABLE_TOKEN, World, hold, runtime,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Jwt {
    Absent,
    Valid,
    Expired,
    Forged,
    Garbage,
    Basic,
    Twice,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Github {
    Absent,
    Known,
    Unknown,
    Unreachable,
    Malformed,
    Twice,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Absent,
    Valid,
    Empty,
    Malformed,
    Repeated,
    Encoded,
}

#[derive(Clone, Debug)]
struct Case {
    jwt: Jwt,
    github: Github,
    name: Name,
    subject: String,
    method: &'static str,
    /// A header that must not matter.
    noise: (&'static str, &'static str),
}

fn cases() -> impl Strategy<Value = Case> {
    let jwt = prop_oneof![
        1 => Just(Jwt::Absent), 3 => Just(Jwt::Valid), 1 => Just(Jwt::Expired),
        1 => Just(Jwt::Forged), 1 => Just(Jwt::Garbage), 1 => Just(Jwt::Basic), 1 => Just(Jwt::Twice),
    ];
    let github = prop_oneof![
        1 => Just(Github::Absent), 3 => Just(Github::Known), 1 => Just(Github::Unknown),
        1 => Just(Github::Unreachable), 1 => Just(Github::Malformed), 1 => Just(Github::Twice),
    ];
    let name = prop_oneof![
        4 => Just(Name::Absent), 1 => Just(Name::Valid), 1 => Just(Name::Empty),
        1 => Just(Name::Malformed), 1 => Just(Name::Repeated), 1 => Just(Name::Encoded),
    ];
    let noise = prop_oneof![
        Just(("x-user-type", "internal")),
        Just(("cookie", "session=internal")),
        Just(("x-forwarded-user", "admin")),
        Just(("accept", "*/*")),
    ];
    let method = prop_oneof![Just("PUT"), Just("GET"), Just("PATCH"), Just("DELETE")];
    (jwt, github, name, "[0-9a-f]{24}", method, noise).prop_map(
        |(jwt, github, name, subject, method, noise)| Case {
            jwt,
            github,
            name,
            subject,
            method,
            noise,
        },
    )
}

fn ask(world: &World, case: &Case, method: &str, path: &str) -> Ask {
    let subject = &case.subject;
    let valid = world.token(subject, None);
    let ask = world.ask(method, path).header(case.noise.0, case.noise.1);
    let ask = match case.jwt {
        Jwt::Absent => ask,
        Jwt::Valid => ask.jwt(&valid),
        Jwt::Expired => ask.jwt(&world.expired(subject)),
        Jwt::Forged => ask.jwt(&world.forged(subject)),
        Jwt::Garbage => ask.header("authorization", b"Bearer \xff\xfe"),
        Jwt::Basic => ask.header("authorization", format!("Basic {valid}")),
        Jwt::Twice => ask.jwt(&valid).jwt(&valid),
    };
    let ask = match case.github {
        Github::Absent => ask,
        Github::Known => ask.github(KNOWN_TOKEN),
        Github::Unknown => ask.github(UNKNOWN_TOKEN),
        Github::Unreachable => ask.github(UNREACHABLE_TOKEN),
        Github::Malformed => ask.github("two words"),
        Github::Twice => ask.github(KNOWN_TOKEN).github(KNOWN_TOKEN),
    };
    match case.name {
        Name::Absent => ask,
        Name::Valid => ask.named(subject),
        Name::Empty => ask.named(""),
        Name::Malformed => ask.named("a%00b"),
        Name::Repeated => ask.named(subject).named(subject),
        // The parameter's own name may be encoded, too.
        Name::Encoded => ask.query("user%6eame=%ff"),
    }
}

/// The decision table, over what was sent: the user that is served, or the refusal.
fn decided(case: &Case, strict: bool) -> Result<&'static str, (u16, &'static str)> {
    let credentials = case.jwt != Jwt::Absent || case.github != Github::Absent;
    match (case.name, case.jwt, case.github) {
        (Name::Empty | Name::Malformed | Name::Repeated | Name::Encoded, _, _) => {
            Err((422, "invalid_username"))
        }
        (Name::Valid, _, _) if credentials && strict => Err((400, "ambiguous_identity")),
        (Name::Valid, _, _) => Ok("external"),
        (Name::Absent, Jwt::Valid, Github::Known) => Ok("internal"),
        (Name::Absent, Jwt::Valid, Github::Unreachable) => Err((503, "identity_unavailable")),
        (Name::Absent, _, _) => Err((401, "credentials_required")),
    }
}

async fn only_who_is_known_is_served(world: &World, strict: bool, case: Case) {
    let path = "/v1/user/scan_cache";
    let (temp, external) = counts(world).await;
    let route = ask(world, &case, "GET", "/v1/route").send().await;
    let mut request = ask(world, &case, case.method, path);
    if matches!(case.method, "PUT" | "PATCH") {
        request = request.json(r#"{"a":1}"#);
    }
    let answer = request.send().await;
    let writes = matches!(case.method, "PUT" | "PATCH");
    let (temp_after, external_after) = counts(world).await;

    match decided(&case, strict) {
        Ok(user_type) => {
            let id = format!("{user_type}_{}", case.subject);
            let route = route.expect(200).value();
            assert_eq!(
                (&route["user_type"], &route["user_id"]),
                (&user_type.into(), &id.into())
            );
            assert_eq!(writes, answer.status.is_success(), "{answer:?}");
            let new = u64::from(answer.status == 201);
            let internal = u64::from(user_type == "internal");
            assert_eq!(temp_after, temp + new * internal);
            assert_eq!(external_after, external + new * (1 - internal));
        }
        Err((status, code)) => {
            let route = route.refused(status, code);
            let answer = answer.refused(status, code);
            assert_eq!((temp_after, external_after), (temp, external));
            assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
            assert_eq!(route.header("retry-after").is_some(), status == 503);
        }
    }
}

async fn counts(world: &World) -> (u64, u64) {
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        assert_eq!(world.count(role).await, 0, "{role}");
    }
    (
        world.count(Role::RaseenTempUser).await,
        world.count(Role::ExternalUsers).await,
    )
}

#[rstest]
fn property_5_holds(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(false, true)] strict: bool,
) {
    let runtime = runtime();
    let options = Options {
        strict,
        ..Options::default()
    };
    let world = runtime.block_on(World::with(backend, options));
    hold(
        &cases(),
        |case| only_who_is_known_is_served(&world, strict, case),
        &runtime,
    );
}
