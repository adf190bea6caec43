//! The rights that the operators' page grants to the users of the databases are sufficient, and `doctor` names each
//! right that is missing, with the command that grants it.

use std::collections::BTreeMap;

use bson::{Document, doc};
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::Role;

use super::super::program::{Backend, Deployment, github};
use super::flow;
use super::secured::{PASSWORD, Secured, USER};
use crate::common::full;

const PAGE: &str = include_str!("../../../../../docs/operations/servers.md");
/// What only makes what is missing.
const PREPARING: [&str; 2] = ["createIndex", "collMod"];

/// The actions that the page gives in each database.
fn documented() -> BTreeMap<Role, Vec<&'static str>> {
    let words = |list: &'static str| -> Vec<&'static str> {
        let words = list
            .split(',')
            .map(|word| word.trim().trim_matches(['"', '[', ']']));
        words.filter(|word| !word.is_empty()).collect()
    };
    let after = |begin: &str| {
        PAGE.lines()
            .find_map(|line| line.trim().strip_prefix(begin))
    };
    let work = words(after("const work = ").unwrap());
    assert_eq!(work.len(), 7);
    let of_role = |role: Role| {
        let given = after(&format!("{}: ", role.name())).unwrap();
        let mut actions = Vec::new();
        for word in words(given.trim_end_matches(',')) {
            if ["work", "...work"].contains(&word) {
                actions.extend(work.clone());
            } else {
                actions.push(word);
            }
        }
        (role, actions)
    };
    Role::ALL.into_iter().map(of_role).collect()
}

fn privileges(role: Role, actions: &[&str]) -> Vec<Document> {
    let actions: Vec<&str> = actions.to_vec();
    vec![doc! { "resource": { "db": role.name(), "collection": "" }, "actions": actions }]
}

/// Does what the page says, by the commands that the shell would send.
async fn users_as_documented(server: &Secured) {
    assert!(PAGE.contains(r#"createRole({ role: "tierkeep", privileges: [{ resource: { db: name, collection: "" }, actions }], roles: [] })"#));
    assert!(PAGE.contains(
        r#"createUser({ user: "tierkeep", pwd: passwordPrompt(), roles: ["tierkeep"] })"#
    ));
    for (role, actions) in documented() {
        let privileges = privileges(role, &actions);
        let created = doc! { "createRole": "tierkeep", "privileges": privileges, "roles": [] };
        server.run(role.name(), created).await;
        let password = PASSWORD.replace("%40", "@");
        let created = doc! { "createUser": USER, "pwd": password, "roles": ["tierkeep"] };
        server.run(role.name(), created).await;
    }
}

/// The user of one database by its certificate, as the page says.
async fn certified_user(server: &Secured) -> String {
    let created = "createUser: \"CN=raseen_main_user,OU=tierkeep,O=Example\",";
    assert!(PAGE.contains(created));
    assert!(PAGE.contains(r#"roles: [{ role: "tierkeep", db: "raseen_main_user" }]"#));
    let certificate = server.authority.client("raseen_main_user");
    let user = doc! {
        "createUser": "CN=raseen_main_user,OU=tierkeep,O=Example",
        "roles": [{ "role": "tierkeep", "db": "raseen_main_user" }],
    };
    server.run("$external", user).await;
    let options = format!(
        "&tlsCertificateKeyFile={}&authMechanism=MONGODB-X509&authSource=%24external",
        certificate.display()
    );
    server.url("", "raseen_main_user", &options)
}

/// A deployment on that server, by users and passwords.
fn deployment(server: &Secured, github: &str) -> Deployment {
    let mut deployment = Deployment::new(Backend::Mongo);
    for role in Role::ALL {
        deployment = deployment.with(role.url_variable(), &server.own_url(role));
    }
    deployment
        .with("GITHUB_API_URL", github)
        .with("TIERKEEP_RETENTION", "1ms")
        .with("TIERKEEP_SCAN_INTERVAL", "1h")
        .with("TIERKEEP_CONNECT_RETRIES", "0")
}

/// What doctor finds about rights: the database's name and what would grant the right.
fn lacking(deployment: &Deployment) -> Vec<(String, String, String)> {
    let output = deployment.run(&["doctor", "--json"]);
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let findings = found["findings"].as_array().unwrap().iter();
    let text = |finding: &Value, part: &str| finding[part].as_str().unwrap().to_owned();
    let rights = findings.filter(|it| it["check"] == "rights");
    let mut lacking: Vec<_> = rights
        .map(|it| {
            (
                text(it, "database"),
                text(it, "severity"),
                text(it, "remedy"),
            )
        })
        .collect();
    lacking.sort();
    lacking
}

/// Takes an action away in these databases; doctor must name it in each, with what grants it; then grants it like that.
async fn without(server: &Secured, deployment: &Deployment, action: &str, roles: &[Role]) {
    let documented = documented();
    for role in roles {
        let kept: Vec<&str> = documented[role]
            .iter()
            .copied()
            .filter(|it| *it != action)
            .collect();
        let taken = doc! { "updateRole": "tierkeep", "privileges": privileges(*role, &kept) };
        server.run(role.name(), taken).await;
    }
    let severity = if PREPARING.contains(&action) {
        "warning"
    } else {
        "error"
    };
    let mut expected: Vec<_> = roles
        .iter()
        .map(|role| {
            let name = role.name();
            let grant = format!(
                "db.getSiblingDB(\"{name}\").grantPrivilegesToRole(\"tierkeep\", [{{ resource: {{ db: \"{name}\", collection: \
                 \"\" }}, actions: [\"{action}\"] }}])"
            );
            (name.to_owned(), severity.to_owned(), grant)
        })
        .collect();
    expected.sort();
    assert_eq!(lacking(deployment), expected, "{action}");
    for role in roles {
        let granted = doc! {
            "grantPrivilegesToRole": "tierkeep", "privileges": privileges(*role, &[action]),
        };
        server.run(role.name(), granted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_suffice_and_each_that_is_taken_away_is_named_with_its_grant() {
    let github = github().await;
    let dir = tempfile::tempdir().unwrap();
    let server = Secured::start(dir.path()).await;
    users_as_documented(&server).await;
    let mut deployment = deployment(&server, &github.uri());
    flow::works(&deployment).await;
    assert_eq!(lacking(&deployment), []);

    let documented = documented();
    let mut actions = documented[&Role::ExternalUsers].clone();
    actions.sort_unstable();
    for action in actions {
        let has = |role: &Role| documented[role].contains(&action);
        let roles: Vec<Role> = Role::ALL.into_iter().filter(has).collect();
        if full() {
            for role in &roles {
                without(&server, &deployment, action, &[*role]).await;
            }
        } else {
            without(&server, &deployment, action, &roles).await;
        }
    }
    assert_eq!(lacking(&deployment), []);

    // By certificate instead of by password.
    let url = certified_user(&server).await;
    deployment = deployment.with(Role::RaseenMainUser.url_variable(), &url);
    without(&server, &deployment, "update", &[Role::RaseenMainUser]).await;
    assert_eq!(lacking(&deployment), []);
    let _service = deployment.serve();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_right_says_where_its_grant_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = Secured::start(dir.path()).await;
    users_as_documented(&server).await;
    let deployment = deployment(&server, "http://127.0.0.1:1");
    // Nothing is stored before the right is missed.
    let find = doc! {
        "revokePrivilegesFromRole": "tierkeep",
        "privileges": privileges(Role::EvaluationAudit, &["find"]),
    };
    server.run(Role::EvaluationAudit.name(), find).await;
    let refused = deployment.run(&["init"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("evaluation_audit: find failed: unauthorized"),
        "{said}"
    );
    assert!(
        said.contains("help: tierkeep doctor names each right"),
        "{said}"
    );
    assert_eq!(lacking(&deployment).len(), 1);
}
