//! Connections that differ: over TLS with a private authority, by certificate, without TLS, several hosts in one string; and
//! the errors for those that cannot work.

use bson::doc;
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::Role;

use super::super::program::{Backend, Deployment, github};
use super::flow;
use super::secured::{Authority, Secured};

/// A user that may do everything in these databases, under `name`.
async fn owner(server: &Secured, database: &str, name: &str, roles: &[Role]) {
    let owned: Vec<_> = roles
        .iter()
        .map(|role| doc! { "role": "dbOwner", "db": role.name() })
        .collect();
    let mut created = doc! { "createUser": name, "roles": owned };
    if database != "$external" {
        created.insert("pwd", "hunter2");
    }
    server.run(database, created).await;
}

/// What doctor says of the database of main while its connection string is this one.
fn said(deployment: Deployment, url: &str) -> (Deployment, String) {
    let deployment = deployment.with(Role::RaseenMainUser.url_variable(), url);
    let output = deployment.run(&["doctor", "--json"]);
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let of_main = found["findings"].as_array().unwrap().iter();
    let of_main = of_main.filter(|it| it["database"] == "raseen_main_user");
    let messages: Vec<String> = of_main
        .map(|it| it["message"].as_str().unwrap().to_owned())
        .collect();
    let messages = messages.join("\n");
    assert!(!messages.contains("hunter2"), "{messages}");
    (deployment, messages)
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_reached_each_in_its_own_way() {
    const BY_PASSWORD: [Role; 2] = [Role::RaseenTempUser, Role::EvaluationAudit];
    const BY_CERTIFICATE: [Role; 2] = [Role::RaseenMainUser, Role::RaseenMainHr];
    let github = github().await;
    let dir = tempfile::tempdir().unwrap();
    let server = Secured::start(dir.path()).await;
    owner(&server, "admin", "owner", &BY_PASSWORD).await;
    let subject = "CN=mains,OU=tierkeep,O=Example";
    owner(&server, "$external", subject, &BY_CERTIFICATE).await;
    // The others stay on the server without TLS.
    let mut deployment = Deployment::new(Backend::Mongo)
        .with("GITHUB_API_URL", &github.uri())
        .with("TIERKEEP_RETENTION", "1ms")
        .with("TIERKEEP_SCAN_INTERVAL", "1h");
    for role in BY_PASSWORD {
        let url = server.url("owner:hunter2@", role.name(), "&authSource=admin");
        // A host of the set that is down comes first.
        let url = url.replace('@', "@127.0.0.1:1,");
        deployment = deployment.with(role.url_variable(), &url);
    }
    let certificate = server.authority.client("mains");
    let options = format!(
        "&tlsCertificateKeyFile={}&authMechanism=MONGODB-X509&authSource=%24external",
        certificate.display()
    );
    for role in BY_CERTIFICATE {
        let url = server.url("", role.name(), &options);
        deployment = deployment.with(role.url_variable(), &url);
    }
    flow::works(&deployment).await;
    let healthy = deployment.run(&["doctor"]);
    assert_eq!(healthy.status.code(), Some(0), "{healthy:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_connection_is_said_without_its_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let server = Secured::start(dir.path()).await;
    owner(&server, "admin", "owner", &[Role::RaseenMainUser]).await;
    let quick = "&authSource=admin&serverSelectionTimeoutMS=1500";
    let right = server.url("owner:hunter2@", "raseen_main_user", quick);
    let deployment = Deployment::new(Backend::Mongo).with("TIERKEEP_CONNECT_RETRIES", "0");
    let (deployment, fine) = said(deployment, &right);
    assert!(!fine.contains("does not answer"), "{fine}");

    let other = Authority::new(&dir.path().join("other"));
    let (own, file) = (server.authority.file(), other.file());
    let foreign = right.replace(own.to_str().unwrap(), file.to_str().unwrap());
    let (deployment, unknown) = said(deployment, &foreign);
    assert!(
        unknown.contains("TLS: invalid peer certificate"),
        "{unknown}"
    );

    let plain = right.split("&tls=true").next().unwrap().to_owned() + quick;
    let (deployment, closed) = said(deployment, &plain);
    assert!(closed.contains("requires TLS"), "{closed}");

    let elsewhere = right.replace("127.0.0.1", "127.0.0.2");
    let (deployment, away) = said(deployment, &elsewhere);
    assert!(away.contains("127.0.0.2"), "{away}");

    let wrong = right.replace("owner:hunter2", "owner:hunter22");
    let (deployment, refused) = said(deployment, &wrong);
    assert!(
        refused.contains("the user name or password was rejected"),
        "{refused}"
    );

    let stranger = server.authority.client("stranger");
    let options = format!(
        "&tlsCertificateKeyFile={}&authMechanism=MONGODB-X509&authSource=%24external&serverSelectionTimeoutMS=1500",
        stranger.display()
    );
    let (deployment, refused) = said(deployment, &server.url("", "raseen_main_user", &options));
    assert!(refused.contains("rejected"), "{refused}");

    let port = server.port();
    let (_, unasked) = said(deployment, &server.url("", "raseen_main_user", ""));
    assert!(
        unasked.contains("unauthorized") && !unasked.contains(&port.to_string()),
        "{unasked}"
    );
}
