//! Stored against shown content: the same bytes when it is put back, or an answer that names what is not exact.

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{DateTime, rawdoc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{Edit, field};
use tierkeep_core::hr::{self, Content, HrId, Writing};
use tierkeep_core::store::{Find, Inserted, Query};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_testkit::documents::{NativeUser, TypedValue, typed_values};

use crate::common::{Backend, SUBJECT, World};

const SECTION: &str = "/v1/user/scan_cache";
const COLLECTION: &str = "hr_candidates";

/// A section whose text is in Latin-1.
fn latin1() -> RawDocumentBuf {
    let mut bytes = rawdoc! { "name": "caf?", "a": 1 }.into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
    bytes[at] = 0xe9;
    RawDocumentBuf::from_bytes(bytes).unwrap()
}

async fn plant(world: &World, role: Role, user: &UserId, section: RawDocumentBuf) -> bool {
    let document = NativeUser::new(user, 3).set("scan_cache", section).build();
    let store = &world.stores[&role];
    let users = role.users().unwrap();
    let inserted = store.insert(users, &[document]).await.unwrap();
    matches!(inserted.as_slice(), [Inserted::Stored])
}

/// A record with this content behind tierkeep's own fields, where they are found whatever the content is.
fn record(id: &HrId, content: &RawDocument) -> RawDocumentBuf {
    let writing = Writing {
        id,
        before: None,
        version: Version::FIRST,
        op: "op",
        at: DateTime::from_millis(1_800_000_000_000),
    };
    let empty = Content::new(RawDocumentBuf::new()).unwrap();
    let mut bytes = hr::as_backup(&writing.record(&empty).unwrap()).into_bytes();
    bytes.pop();
    bytes.extend_from_slice(&content.as_bytes()[4..]);
    let length = i32::try_from(bytes.len()).unwrap().to_le_bytes();
    bytes[..4].copy_from_slice(&length);
    let record = RawDocumentBuf::from_bytes(bytes).unwrap();
    Edit::new()
        .set_meta(field::DIGEST, Digest::of_hr_record(&record).as_str())
        .apply(&record)
}

/// SQLite iterates over the fields of a record before it stores one, which such a value as a field ends.
const REFUSED_BY_SQLITE: &str = "regular expression that is not UTF-8";

async fn plant_record(world: &World, id: &HrId, content: RawDocumentBuf) -> bool {
    let record = record(id, &content);
    let mut stored = true;
    for role in [Role::RaseenMainHr, Role::SrieMainHr] {
        let one = std::slice::from_ref(&record);
        let inserted = world.stores[&role].insert(COLLECTION, one).await.unwrap();
        stored &= matches!(inserted.as_slice(), [Inserted::Stored]);
    }
    stored
}

async fn stored_record(world: &World, id: &HrId) -> RawDocumentBuf {
    let find = Find::new(Query::Ids(vec![id.to_bson()]));
    let found = world.stores[&Role::RaseenMainHr].find(COLLECTION, &find);
    found.await.unwrap().pop().unwrap()
}

fn section(document: &RawDocument) -> &RawDocument {
    document.get_document("scan_cache").unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_not_utf8_is_shown_and_named(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = UserId::internal(SUBJECT).unwrap();
    assert!(plant(&world, Role::RaseenTempUser, &user, latin1()).await);
    let part = world.internal("GET", SECTION).send().await.expect(200);
    assert_eq!(part.text(), "{\"name\":\"caf\u{fffd}\",\"a\":1}");
    assert_eq!(part.header("tierkeep-inexact"), Some("not_utf8 /name"));
    let whole = world.internal("GET", "/v1/user").send().await.expect(200);
    assert_eq!(whole.value()["scan_cache"], part.value());
    assert_eq!(whole.value()["user_id"], user.as_str());
    let told = whole.header("tierkeep-inexact");
    assert_eq!(told, Some("not_utf8 /scan_cache/name"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_hr_record_that_is_not_utf8_is_shown_and_listed(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let (first, second) = (HrId::parse("a").unwrap(), HrId::parse("b").unwrap());
    assert!(plant_record(&world, &first, rawdoc! { "x": 1 }).await);
    assert!(plant_record(&world, &second, latin1()).await);
    let path = format!("/v1/hr/{COLLECTION}");
    let one = world.hr("GET", &format!("{path}/b")).send().await;
    let one = one.expect(200);
    assert_eq!(one.value()["name"], "caf\u{fffd}");
    assert_eq!(one.header("tierkeep-inexact"), Some("not_utf8 /name"));
    let list = world.hr("GET", &path).send().await.expect(200);
    let items = list.value()["items"].as_array().unwrap().len();
    assert_eq!(items, 2, "{}", list.text());
    let told = list.header("tierkeep-inexact");
    assert_eq!(told, Some("not_utf8 /items/1/name"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_section_that_is_not_an_object_is_not_missing(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = UserId::internal(SUBJECT).unwrap();
    let odd = NativeUser::new(&user, 3).set("scan_cache", "text").build();
    let temp = &world.stores[&Role::RaseenTempUser];
    temp.insert("internal_users", &[odd]).await.unwrap();
    let part = world.internal("GET", SECTION).send().await.expect(200);
    assert_eq!(part.text(), "\"text\"");
    assert_eq!(part.header("tierkeep-inexact"), Some("not_an_object /"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_a_section_is_put_back_as_it_was_or_the_answer_says_that_it_cannot_be(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let mut wrong = Vec::new();
    for (n, value) in typed_values().into_iter().enumerate() {
        let name = format!("typed{n}");
        let user = UserId::external(&name).unwrap();
        let before = value.section.clone();
        if !plant(&world, Role::ExternalUsers, &user, before.clone()).await {
            wrong.push(format!("{}: not taken by the store", value.name));
            continue;
        }
        let ask = |method| world.ask(method, SECTION).named(&name);
        let shown = ask("GET").send().await.expect(200);
        let put = ask("PUT").json(shown.body.clone()).send().await;
        let stored = world.document(Role::ExternalUsers, user.as_str()).await;
        let stored = stored.unwrap();
        let is_same = section(&stored).as_bytes() == before.as_bytes();
        let again = ask("GET").send().await.expect(200);
        if let Some(fault) = fault(
            &value,
            put.status.as_u16(),
            is_same,
            shown.header("tierkeep-inexact"),
        ) {
            wrong.push(format!("{fault}; shown {}; put {put:?}", shown.text()));
        }
        // What is put is what is read back.
        if put.status.is_success() && again.body != shown.body {
            wrong.push(format!("{}: read back as {}", value.name, again.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_an_hr_record_is_put_back_as_it_was_or_the_answer_says_that_it_cannot_be(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let mut wrong = Vec::new();
    for (n, value) in typed_values().into_iter().enumerate() {
        let id = HrId::parse(&format!("typed{n}")).unwrap();
        if !plant_record(&world, &id, value.section.clone()).await {
            if backend == Backend::Sqlite && value.name == REFUSED_BY_SQLITE {
                continue;
            }
            wrong.push(format!("{}: not taken by the store", value.name));
            continue;
        }
        let ask = |method| world.hr(method, &format!("/v1/hr/{COLLECTION}/{id}"));
        let shown = ask("GET").send().await.expect(200);
        let mut body = shown.value();
        let kept = body.as_object_mut().unwrap();
        kept.retain(|name, _| !hr::RESERVED.contains(&name.as_str()));
        let put = ask("PUT").json(body.to_string()).send().await;
        let stored = stored_record(&world, &id).await;
        let is_same = Content::of(&stored).as_raw().as_bytes() == value.section.as_bytes();
        let told = shown.header("tierkeep-inexact");
        if let Some(fault) = fault(&value, put.status.as_u16(), is_same, told) {
            wrong.push(format!("{fault}; shown {}; put {put:?}", shown.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with the answers about a value, if anything is.
fn fault(value: &TypedValue, status: u16, is_same: bool, told: Option<&str>) -> Option<String> {
    let name = value.name;
    match value.inexact {
        None if told.is_some() => Some(format!("{name}: told to be inexact: {told:?}")),
        None if !is_same => Some(format!("{name}: stored as something else")),
        None if !(200..300).contains(&status) => Some(format!("{name}: refused")),
        Some(reason) if !told.is_some_and(|told| told.starts_with(reason.as_str())) => {
            Some(format!("{name}: not told to be {reason}: {told:?}"))
        }
        None | Some(_) => None,
    }
}
