//! Property 7: for any database, the connection string that is meant for it is used, without cross-wiring.
//!
//! Random assignments of connection strings to the seven roles, by variable, file variable, settings file or
//! the one for all, against a model that knows hosts and databases as data and not as text. Then random
//! deployments are opened on both backends, and what is written through a role is looked for in every place.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use bson::{doc, rawdoc};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use secrecy::ExposeSecret as _;
use tierkeep::clock::SystemClock;
use tierkeep::config::{Backend, Inputs, Loaded, Problems, Settings};
use tierkeep::open::{Servers, open};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Find, Inserted, Query, Store as _};
use tierkeep_engine::{Engine, Purpose};
use tierkeep_sqlite::SqliteStore;

use crate::common::databases::server_url;

const CASES: u32 = 512;
const CLUSTER_URL: &str = "TIERKEEP_CLUSTER_URL";

/// A connection string, taken apart.
#[derive(Clone, Debug)]
struct Url {
    host: u8,
    database: Option<String>,
    user: bool,
    second_host: bool,
}

impl Url {
    /// Every host has a second name, so that two strings can name the same host by either name.
    fn text(&self) -> String {
        let user = if self.user { "user:hunter2@" } else { "" };
        let more = if self.second_host {
            format!(",{}.example:27018", self.host)
        } else {
            String::new()
        };
        let path = self.database.as_deref().unwrap_or_default();
        format!(
            "mongodb://{user}{}.Example{more}/{path}?appName=x",
            self.host
        )
    }

    fn database_for(&self, role: Role) -> String {
        self.database
            .clone()
            .unwrap_or_else(|| role.name().to_owned())
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Variable,
    FileVariable,
    Key,
    FileKey,
}

type Assignment = Option<(Way, Url)>;

/// What a path names; the role's own database and another role's among it.
fn database(role: Option<Role>) -> impl Strategy<Value = Option<String>> {
    let own = role.map(|role| role.name().to_owned());
    prop_oneof![
        12 => Just(None),
        3 => Just(own),
        2 => proptest::sample::select(vec!["people", "archive"]).prop_map(|name| Some(name.to_owned())),
        1 => proptest::sample::select(Role::ALL.to_vec()).prop_map(|role| Some(role.name().to_owned())),
    ]
}

fn url(role: Option<Role>) -> impl Strategy<Value = Url> {
    (0..9_u8, database(role), any::<bool>(), any::<bool>()).prop_map(
        |(host, database, user, second_host)| Url {
            host,
            database,
            user,
            second_host,
        },
    )
}

fn assignment(role: Option<Role>, given: u32) -> impl Strategy<Value = Assignment> {
    let way = prop_oneof![
        Just(Way::Variable),
        Just(Way::FileVariable),
        Just(Way::Key),
        Just(Way::FileKey)
    ];
    prop_oneof![1 => Just(None), given => (way, url(role)).prop_map(Some)]
}

/// The string for all, and one for each role.
fn deployment() -> impl Strategy<Value = (Assignment, Vec<Assignment>)> {
    let own: Vec<_> = Role::ALL
        .map(|role| assignment(Some(role), 12).boxed())
        .into();
    (assignment(None, 2), own)
}

fn inputs(directory: &Path, all: &[(&str, &Assignment)]) -> Inputs {
    let mut environment = Vec::new();
    let mut toml = Vec::new();
    for (index, (name, assignment)) in all.iter().enumerate() {
        let Some((way, url)) = assignment else {
            continue;
        };
        let file = directory.join(index.to_string());
        fs::write(&file, format!("{}\n", url.text())).unwrap();
        let file = file.to_str().unwrap().to_owned();
        let key = name.to_ascii_lowercase();
        match way {
            Way::Variable => environment.push(((*name).to_owned(), url.text())),
            Way::FileVariable => environment.push((format!("{name}_FILE"), file)),
            Way::Key => toml.push(format!("{key} = {:?}", url.text())),
            Way::FileKey => toml.push(format!("{key}_file = {file:?}")),
        }
    }
    let config = directory.join("tierkeep.toml");
    fs::write(&config, toml.join("\n")).unwrap();
    Inputs {
        config: Some(config),
        ..Inputs::of_environment(environment)
    }
}

/// The pairs of roles that are wired across, by the model.
fn crossed(meant: &[(Role, Url)]) -> Vec<(Role, Role)> {
    let mut pairs = Vec::new();
    for (index, (role, url)) in meant.iter().enumerate() {
        let named = url.database.as_deref().and_then(Role::by_name);
        pairs.extend(
            named
                .filter(|named| named != role)
                .map(|named| (*role, named)),
        );
        for (other, other_url) in &meant[index + 1..] {
            let same = url.database_for(*role) == other_url.database_for(*other);
            if same && url.host == other_url.host {
                pairs.push((*role, *other));
            }
        }
    }
    pairs
}

fn is_named(problems: &Problems, names: &[&str]) -> bool {
    problems.as_slice().iter().any(|problem| {
        names.iter().all(|name| {
            problem.subjects.iter().any(|it| it == name) && problem.message.contains(name)
        })
    })
}

#[test]
fn every_role_gets_its_own_database_or_the_start_is_refused() {
    let (accepted, wired, incomplete) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let count = |cell: &Cell<u32>| cell.set(cell.get() + 1);
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&deployment(), |(cluster, own)| {
        let directory = tempfile::tempdir().unwrap();
        let names = [CLUSTER_URL]
            .into_iter()
            .chain(Role::ALL.map(Role::url_variable));
        let all: Vec<_> = names.zip([&cluster].into_iter().chain(&own)).collect();
        let loaded = Loaded::gather(&inputs(directory.path(), &all));
        let result = Settings::of(&loaded);

        let chosen = Role::ALL.into_iter().zip(&own);
        let meant: Vec<(Role, Url)> = chosen
            .filter_map(|(role, own)| Some((role, own.as_ref().or(cluster.as_ref())?.1.clone())))
            .collect();
        let crossed = crossed(&meant);
        let missing: Vec<Role> = Role::ALL
            .into_iter()
            .filter(|role| !meant.iter().any(|(other, _)| other == role))
            .collect();

        match result {
            Ok(settings) => {
                count(&accepted);
                prop_assert!(crossed.is_empty() && missing.is_empty());
                let Backend::Mongo(connections) = settings.backend else {
                    return Err(TestCaseError::fail("the embedded store was not selected"));
                };
                prop_assert_eq!(connections.len(), Role::ALL.len());
                for (role, url) in &meant {
                    let connection = &connections[role];
                    prop_assert_eq!(connection.url.expose_secret(), url.text());
                    prop_assert_eq!(&connection.database, &url.database_for(*role));
                }
            }
            Err(problems) => {
                prop_assert!(!crossed.is_empty() || !missing.is_empty(), "{}", problems);
                for (first, second) in &crossed {
                    prop_assert!(
                        is_named(&problems, &[first.name(), second.name()]),
                        "{first} and {second} are not named together: {problems}"
                    );
                }
                for role in &missing {
                    prop_assert!(is_named(&problems, &[role.url_variable()]), "{}", problems);
                }
                prop_assert!(!problems.to_string().contains("hunter2"));
                count(if crossed.is_empty() {
                    &incomplete
                } else {
                    &wired
                });
            }
        }
        Ok(())
    });
    result.unwrap();
    for (what, cell) in [
        ("accepted", accepted),
        ("wired across", wired),
        ("incomplete", incomplete),
    ] {
        assert!(
            cell.get() >= CASES / 50,
            "only {} of {CASES} cases were {what}",
            cell.get()
        );
    }
}

#[test]
fn a_database_s_own_variable_wins_over_the_one_for_all() {
    let environment = [
        (CLUSTER_URL, "mongodb://all.example"),
        ("SRIE_MAIN_USER_DB_URL", "mongodb://srie.example/backup"),
    ];
    let loaded = Loaded::gather(&Inputs::of_environment(environment));
    let Backend::Mongo(connections) = Settings::of(&loaded).unwrap().backend else {
        panic!("the embedded store was not selected")
    };
    for (role, connection) in connections {
        let (url, database) = match role {
            Role::SrieMainUser => ("mongodb://srie.example/backup", "backup"),
            Role::ExternalUsers
            | Role::RaseenTempUser
            | Role::RaseenMainUser
            | Role::RaseenMainHr
            | Role::SrieMainHr
            | Role::EvaluationAudit => ("mongodb://all.example", role.name()),
        };
        assert_eq!(
            (connection.url.expose_secret(), connection.database.as_str()),
            (url, database)
        );
    }
}

/// How many deployments are opened on each backend.
const OPENED: u32 = 256;

/// Every role's marker is found at the address in its settings, by a reader that knows only the address.
fn marker(case: u32, role: Role) -> RawDocumentBuf {
    rawdoc! { "_id": format!("{case}-{role}"), "kind": "marker", "role": role.name() }
}

async fn mark(engine: &Engine, case: u32) {
    for role in Role::ALL {
        let store = engine.databases().store(role).unwrap();
        assert_eq!(store.role(), role);
        let stored = store
            .insert("markers", &[marker(case, role)])
            .await
            .unwrap();
        assert_eq!(stored, [Inserted::Stored]);
    }
}

#[test]
fn an_opened_data_directory_keeps_every_role_in_its_own_file() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config {
        cases: OPENED,
        failure_persistence: None,
        ..Config::default()
    });
    let case = Cell::new(0);
    let names = proptest::sample::select(vec!["a", "data dir", "ä", "x/y"]);
    runner
        .run(&(names, any::<bool>()), |(name, by_key)| {
            case.set(case.get() + 1);
            let home = tempfile::tempdir().unwrap();
            let data_dir = home.path().join(name);
            let text = data_dir.to_str().unwrap();
            let inputs = if by_key {
                let config = home.path().join("tierkeep.toml");
                fs::write(&config, format!("tierkeep_data_dir = {text:?}\n")).unwrap();
                Inputs {
                    config: Some(config),
                    ..Inputs::of_environment([] as [(&str, &str); 0])
                }
            } else {
                Inputs::of_environment([("TIERKEEP_DATA_DIR", text)])
            };
            let settings = Settings::of(&Loaded::gather(&inputs)).unwrap();
            runtime.block_on(async {
                let (engine, _) = open(&Servers::new(), &settings, Purpose::Work)
                    .await
                    .unwrap();
                mark(&engine, case.get()).await;
                for role in Role::ALL {
                    let file = data_dir.join(format!("{role}.db"));
                    let store = SqliteStore::open(&file, role, Arc::new(SystemClock)).unwrap();
                    let found = store.find("markers", &Find::new(Query::All)).await.unwrap();
                    assert_eq!(found, [marker(case.get(), role)]);
                }
            });
            Ok(())
        })
        .unwrap();
}

/// Which of a few databases each role is pointed at, and under which of the server's names.
fn wiring() -> impl Strategy<Value = Vec<(usize, bool)>> {
    let engine = prop_oneof![
        3 => Just((0..9).collect::<Vec<usize>>()).prop_shuffle().boxed(),
        1 => proptest::collection::vec(0..9_usize, 9).boxed(),
    ];
    (engine, proptest::collection::vec(any::<bool>(), 9))
        .prop_map(|(engine, names)| engine.into_iter().zip(names).take(7).collect())
}

#[test]
fn an_opened_deployment_keeps_every_role_in_the_database_its_url_names() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = server_url();
    let (_, after) = url.split_once("://").unwrap();
    let (host, _) = after.split_once('/').unwrap();
    let port = host.rsplit(':').next().unwrap().to_owned();
    let options = url.split_once('?').map_or("", |(_, options)| options);
    let unique = bson::oid::ObjectId::new().to_hex();
    let places: Vec<String> = (0..9).map(|n| format!("p7_{unique}_{n}")).collect();
    let client = runtime
        .block_on(mongodb::Client::with_uri_str(&url))
        .unwrap();
    let mut runner = TestRunner::new(Config {
        cases: OPENED,
        failure_persistence: None,
        ..Config::default()
    });
    let (case, refused) = (Cell::new(0), Cell::new(0));
    let result = runner.run(&wiring(), |wiring| {
        case.set(case.get() + 1);
        let place = |role: usize| places[wiring[role].0].as_str();
        let urls = Role::ALL.into_iter().enumerate().map(|(n, role)| {
            let host = if wiring[n].1 {
                "localhost"
            } else {
                "127.0.0.1"
            };
            let url = format!("mongodb://{host}:{port}/{}?{options}", place(n));
            (role.url_variable(), url)
        });
        let key = ("SECRET_KEY", "0123456789abcdef0123456789abcdef".to_owned());
        let inputs = Inputs::of_environment(urls.chain([key]));
        let crossed: Vec<(Role, Role)> = (0..7)
            .flat_map(|one| (one + 1..7).map(move |other| (one, other)))
            .filter(|(one, other)| place(*one) == place(*other))
            .map(|(one, other)| (Role::ALL[one], Role::ALL[other]))
            .collect();
        runtime.block_on(async {
            let opened = match Settings::of(&Loaded::gather(&inputs)) {
                // Two names of one server hide it from the settings; the server does not.
                Ok(settings) => open(&Servers::new(), &settings, Purpose::Look)
                    .await
                    .map_err(|error| format!("{error:#}")),
                Err(problems) => Err(problems.to_string()),
            };
            match opened {
                Ok((engine, _)) => {
                    assert!(crossed.is_empty(), "{crossed:?} were not seen");
                    mark(&engine, case.get()).await;
                    for (n, name) in places.iter().enumerate() {
                        let filter = doc! { "_id": { "$regex": format!("^{}-", case.get()) } };
                        let markers = client
                            .database(name)
                            .collection::<RawDocumentBuf>("markers");
                        let mut cursor = markers.find(filter).await.unwrap();
                        let mut found = Vec::new();
                        while cursor.advance().await.unwrap() {
                            found.push(cursor.deserialize_current().unwrap());
                        }
                        let meant = (0..7).filter(|role| wiring[*role].0 == n);
                        let meant: Vec<_> = meant
                            .map(|role| marker(case.get(), Role::ALL[role]))
                            .collect();
                        assert_eq!(found, meant, "in {name}");
                    }
                }
                Err(message) => {
                    refused.set(refused.get() + 1);
                    assert!(!crossed.is_empty(), "{message}");
                    let named = |(one, other): &(Role, Role)| {
                        message.contains(one.name()) && message.contains(other.name())
                    };
                    assert!(crossed.iter().any(named), "{crossed:?}: {message}");
                }
            }
        });
        Ok(())
    });
    for name in &places {
        let dropped = async { client.database(name).drop().await };
        runtime.block_on(dropped).unwrap();
    }
    result.unwrap();
    assert!(
        refused.get() >= OPENED / 20,
        "{} were refused",
        refused.get()
    );
    assert!(case.get() - refused.get() >= OPENED / 2);
}
