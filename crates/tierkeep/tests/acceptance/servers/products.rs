//! Products that speak the protocol of MongoDB are refused by name and started on request; Percona's server is not refused.
//!
//! A stand-in gives the answers of each product's public documentation, over a real server.

use bson::raw::RawDocumentBuf;
use bson::rawdoc;
use reqwest::Client;
use rstest::rstest;
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_sharded::imitation::{Disguise, Imitation};

use super::super::program::{Backend, Deployment};
use crate::common::databases::server_url;

/// Fields of the answer of MongoDB that another product lacks.
const OF_MONGODB: &[&str] = &[
    "gitVersion",
    "storageEngines",
    "javascriptEngine",
    "openssl",
];

fn ferretdb_1() -> Disguise {
    Disguise {
        build: rawdoc! { "version": "6.0.42", "ferretdbVersion": "v1.24.0", "ferretdbFeatures": {} },
        ..Disguise::default()
    }
}

fn ferretdb_2() -> Disguise {
    let ferretdb = rawdoc! { "version": "v2.5.0", "package": "docker" };
    Disguise {
        build: rawdoc! { "version": "7.0.77", "ferretdb": ferretdb },
        ..Disguise::default()
    }
}

fn documentdb() -> Disguise {
    let internal = rawdoc! { "documentdb_versions": ["0.113-0", "0.113.0"] };
    Disguise {
        hello: rawdoc! { "internal": internal },
        build: rawdoc! { "version": "7.0.0" },
        lacks: OF_MONGODB,
        refuses_with: Some(115),
    }
}

fn cosmos() -> Disguise {
    Disguise {
        build: rawdoc! { "_t": "BuildInfoResponse", "version": "7.0.0" },
        lacks: OF_MONGODB,
        ..Disguise::default()
    }
}

/// Reached by an address that says nothing, through a tunnel for example; its members have their names.
fn amazon_by_its_members() -> Disguise {
    let member = "c-1.x.eu-west-1.docdb.amazonaws.com:27017";
    Disguise {
        hello: rawdoc! { "setName": "rs0", "hosts": [member], "me": member, "primary": member },
        build: rawdoc! { "version": "5.0.0" },
        lacks: OF_MONGODB,
        refuses_with: None,
    }
}

fn amazon_by_its_refusal() -> Disguise {
    Disguise {
        build: rawdoc! { "version": "5.0.0" },
        lacks: OF_MONGODB,
        refuses_with: Some(303),
        hello: RawDocumentBuf::new(),
    }
}

fn unheard_of() -> Disguise {
    Disguise {
        lacks: OF_MONGODB,
        refuses_with: Some(59),
        ..Disguise::default()
    }
}

/// A deployment whose main database is behind a stand-in in front of the usual server.
async fn behind(disguise: Disguise) -> (Deployment, Imitation) {
    let deployment = Deployment::new(Backend::Mongo);
    let url = server_url();
    let port = url
        .trim_start_matches("mongodb://")
        .split(['/', '?'])
        .next();
    let port = port.and_then(|place| place.rsplit_once(':')).unwrap().1;
    let imitation = Imitation::start(port.parse().unwrap(), disguise)
        .await
        .unwrap();
    let variable = Role::RaseenMainUser.url_variable();
    let database = deployment.environment[variable].clone();
    let database = database
        .split('?')
        .next()
        .unwrap()
        .rsplit_once('/')
        .unwrap()
        .1;
    let url = imitation.url(database);
    (deployment.with(variable, &url), imitation)
}

#[rstest]
#[case(ferretdb_1(), "FerretDB")]
#[case(ferretdb_2(), "FerretDB")]
#[case(documentdb(), "DocumentDB (the extension of PostgreSQL")]
#[case(cosmos(), "Azure Cosmos DB")]
#[case(amazon_by_its_members(), "Amazon DocumentDB")]
#[case(amazon_by_its_refusal(), "Amazon DocumentDB")]
#[case(unheard_of(), "is not MongoDB")]
#[tokio::test(flavor = "multi_thread")]
async fn another_product_is_refused_by_name_and_doctor_says_how_to_start_all_the_same(
    #[case] disguise: Disguise,
    #[case] name: &str,
) {
    let (deployment, _imitation) = behind(disguise).await;
    let refused = deployment.run(&["init"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("raseen_main_user") && said.contains(name),
        "{said}"
    );
    assert!(said.contains("TIERKEEP_UNTESTED_SERVER=on"), "{said}");
    for role in Role::ALL {
        assert_eq!(
            deployment.all(role, "tierkeep_identity").await,
            [],
            "{role}"
        );
    }
    let doctor = deployment.run(&["doctor", "--json"]);
    let found: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let findings = found["findings"].as_array().unwrap();
    let product = findings.iter().find(|it| it["check"] == "product").unwrap();
    assert_eq!(product["severity"], "error");
    assert!(
        product["message"].as_str().unwrap().contains(name),
        "{product}"
    );
    assert!(
        product["remedy"]
            .as_str()
            .unwrap()
            .contains("TIERKEEP_UNTESTED_SERVER=on")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_request_it_starts_all_the_same_and_every_health_answer_warns() {
    let (deployment, _imitation) = behind(ferretdb_2()).await;
    let deployment = deployment.with("TIERKEEP_UNTESTED_SERVER", "on");
    deployment.json(&["init", "--json"]);
    let service = deployment.serve();
    let warning = "the server of raseen_main_user is FerretDB, which was not tested";
    let ask = async |path: &str| {
        let answer = Client::new().get(service.url(path)).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    for (path, expected) in [("/health/live", "ok"), ("/health/ready", "degraded")] {
        let (status, health) = ask(path).await;
        assert_eq!(
            (status, &health["status"]),
            (200, &Value::from(expected)),
            "{path}"
        );
        let reasons = health["reasons"].as_array().unwrap();
        assert!(reasons.contains(&Value::from(warning)), "{path}: {health}");
    }
    let (_, rows) = ask("/health/databases").await;
    for row in rows["databases"].as_array().unwrap() {
        let is_it = row["name"] == "raseen_main_user";
        assert_eq!(
            row.get("warning"),
            is_it.then(|| Value::from(warning)).as_ref(),
            "{row}"
        );
    }
    let (_, row) = ask("/health/databases/raseen_main_user").await;
    assert_eq!(row["warning"], warning);
    let doctor = deployment.run(&["doctor"]);
    let told = String::from_utf8_lossy(&doctor.stdout);
    assert!(
        told.contains("warning[product]") && told.contains("FerretDB"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn perconas_server_is_not_refused() {
    let (deployment, _imitation) = behind(Disguise {
        build: rawdoc! { "version": "6.0.5-4", "psmdbVersion": "6.0.5-4", "psmdbFeatures": ["audit"] },
        ..Disguise::default()
    })
    .await;
    deployment.json(&["init", "--json"]);
    let healthy = deployment.run(&["doctor"]);
    assert_eq!(healthy.status.code(), Some(0), "{healthy:?}");
}
