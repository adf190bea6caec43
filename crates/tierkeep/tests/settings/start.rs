//! Tokens, the secret of the data directory, and readers that close the output.

use std::fs;
use std::process::{Command, Stdio};

use rstest::rstest;
use tierkeep::config::{IdentitySettings, Inputs, Loaded, ServiceSettings};
use tierkeep_identity::JwtVerifier;

use super::{PASSWORD, Place, text};

const SUBJECT: &str = "507F1F77BCF86CD799439011";

fn identity(place: &Place) -> IdentitySettings {
    let data_dir = place.path("d");
    let environment = [("TIERKEEP_DATA_DIR", text(&data_dir))];
    let loaded = Loaded::gather(&Inputs::of_environment(environment));
    ServiceSettings::of(&loaded).unwrap().identity
}

#[test]
fn a_development_token_is_believed_by_the_service_of_its_directory() {
    let place = Place::new();
    place.directory("d");
    let ran = place.run(&[
        "token",
        "--sub",
        SUBJECT,
        "--role",
        "hr",
        "--ttl",
        "5m",
        "--github-login",
        "octocat",
        "--data-dir",
        "d",
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.both());
    assert!(
        ran.stderr.contains("generated a signing secret"),
        "{}",
        ran.stderr
    );
    let clock = std::sync::Arc::new(tierkeep::clock::SystemClock);
    let verifier = JwtVerifier::new(identity(&place).jwt().unwrap(), clock).unwrap();
    let verified = verifier.verify(ran.stdout.trim()).unwrap();
    assert_eq!(verified.subject, SUBJECT.to_ascii_lowercase());
    assert_eq!(verified.github_login.as_deref(), Some("octocat"));
    assert_eq!(
        verified.role.map(tierkeep_identity::RoleClaim::as_str),
        Some("hr")
    );

    let again = place.run(&["token", "--sub", SUBJECT, "--data-dir", "d", "--json"]);
    assert_eq!(again.stderr, "");
    assert!(
        verifier
            .verify(again.json()["token"].as_str().unwrap())
            .is_ok()
    );
}

#[rstest]
#[case("TIERKEEP_CLUSTER_URL", "mongodb://127.0.0.1:9", "SECRET_KEY")]
#[case("SECRET_KEY", PASSWORD, "RASEEN_TEMP_USER_DB_URL")]
fn a_token_needs_a_secret_and_databases(
    #[case] name: &str,
    #[case] value: &str,
    #[case] missing: &str,
) {
    let mut place = Place::new();
    place.set(name, value);
    place
        .run(&["token", "--sub", SUBJECT])
        .assert_refused(&["missing configuration", missing]);
}

#[test]
fn a_token_for_mongodb_lasts_12_hours_at_most() {
    Place::with_databases()
        .run(&["token", "--sub", SUBJECT, "--ttl", "13h"])
        .assert_refused(&["--ttl is 13h", "at most 12h"]);
}

#[test]
fn a_token_that_is_not_in_the_audit_trail_is_not_issued_for_mongodb() {
    let mut place = Place::with_databases();
    place.set("TIERKEEP_CONNECT_RETRIES", "0");
    let ran = place.run(&["token", "--sub", SUBJECT, "--ttl", "12h"]);
    assert_eq!(ran.code, Some(3), "{}", ran.both());
    assert_eq!(ran.stdout, "");
}

#[test]
fn where_public_keys_check_tokens_the_claims_are_named() {
    let place = Place::new();
    place.directory("d");
    let mut place = place;
    let key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let file = place.write("key.pem", key);
    place.set("TIERKEEP_JWT_PUBLIC_KEY_FILE", text(&file));
    place.set("TIERKEEP_JWT_AUDIENCE", "evaluation");
    place
        .run(&["token", "--sub", SUBJECT, "--role", "hr", "--data-dir", "d"])
        .assert_refused(&[
            "no signing key",
            "sub=\"507f1f77bcf86cd799439011\", type=\"access\", exp, role=\"hr\", aud=\"evaluation\"",
        ]);
}

#[test]
fn a_token_makes_no_directory() {
    let place = Place::new();
    place
        .run(&["token", "--sub", SUBJECT, "--data-dir", "typo"])
        .assert_refused(&["the data directory typo does not exist", "tierkeep serve"]);
    assert!(!place.path("typo").exists());
}

#[test]
fn a_data_directory_that_cannot_be_written_to_is_named() {
    let place = Place::new();
    place.run(&["init", "--data-dir", "d"]);
    place.run(&["token", "--sub", SUBJECT, "--data-dir", "d"]);
    let unshare = |line: &str| {
        Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", line])
            .current_dir(place.directory.path())
            .output()
            .unwrap()
    };
    let read_only = "mount --bind d d && mount -o remount,ro,bind d";
    let has_namespaces = unshare(read_only).status.success();
    if !has_namespaces && rustix::process::geteuid().is_root() {
        // Root writes everywhere, and here may not mount.
        return;
    }
    let program = env!("CARGO_BIN_EXE_tierkeep");
    for verb in ["status", "init", "serve --listen 127.0.0.1:0"] {
        let output = if has_namespaces {
            unshare(&format!(
                "{read_only} && exec {program} {verb} --data-dir d"
            ))
        } else {
            let line = format!("chmod 0500 d && exec {program} {verb} --data-dir d");
            Command::new("sh")
                .args(["-c", &line])
                .current_dir(place.directory.path())
                .output()
                .unwrap()
        };
        super::Ran::of(&output).assert_refused(&[
            "d cannot be written to",
            "the mount options of the file system",
        ]);
        if has_namespaces {
            super::Ran::of(&output).assert_refused(&["Read-only file system"]);
        }
    }
}

#[test]
fn no_token_is_issued_where_a_directory_and_urls_are_given() {
    let mut place = Place::new();
    place.set("TIERKEEP_CLUSTER_URL", "mongodb://127.0.0.1:9");
    place
        .run(&["token", "--sub", SUBJECT, "--data-dir", "d"])
        .assert_refused(&["TIERKEEP_CLUSTER_URL (environment)"]);
    assert!(!place.path("d").exists());
}

#[test]
fn a_token_that_would_never_be_valid_is_refused() {
    let place = Place::new();
    place
        .run(&["token", "--sub", SUBJECT, "--ttl", "0s", "--data-dir", "d"])
        .assert_refused(&["--ttl", "at least 1s"]);
    assert!(!place.path("d").exists());
}

#[rstest]
#[case(&["token", "--sub", SUBJECT, "--data-dir", "d"])]
#[case(&["serve", "--listen", "127.0.0.1:0", "--data-dir", "d"])]
fn a_secret_that_is_too_short_is_wrong_configuration_and_opens_nothing(#[case] verb: &[&str]) {
    let place = Place::new();
    fs::create_dir(place.path("d")).unwrap();
    place.write("d/secret.key", "short");
    place
        .run(verb)
        .assert_refused(&["secret.key holds 5 bytes", "remove the file"]);
    assert_eq!(fs::read_dir(place.path("d")).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn the_secret_of_the_directory_is_its_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.run(&["init", "--data-dir", "d"]);
    place.run(&["token", "--sub", SUBJECT, "--data-dir", "d"]);
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("d/secret.key"), 0o600);
    assert_eq!(mode("d"), 0o700);
}

#[test]
fn a_reader_that_goes_early_is_no_failure() {
    let place = Place::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tierkeep"))
        .args(["config", "template"])
        .env_clear()
        .current_dir(place.directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn log_lines_take_the_form_that_is_asked_for() {
    let mut place = Place::new();
    // The first token in a directory makes its key, and says so.
    let line = |place: &Place, directory: &str| {
        place.directory(directory);
        place
            .run(&["token", "--sub", SUBJECT, "--data-dir", directory])
            .stderr
    };
    let json: serde_json::Value = serde_json::from_str(line(&place, "d").trim_end()).unwrap();
    assert_eq!(json["file"], "d/secret.key");
    assert_eq!(json["level"], "WARN");
    place.set("TIERKEEP_LOG", "text");
    let text = line(&place, "e");
    assert!(text.contains(" WARN "), "{text}");
    assert!(text.contains("e/secret.key"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

fn processors() -> u32 {
    let processors = std::thread::available_parallelism().unwrap().get();
    u32::try_from(processors).unwrap()
}

#[rstest]
#[case::on_sqlite(&[("TIERKEEP_DATA_DIR", "d")], 2)]
#[case::on_mongodb(&[("TIERKEEP_CLUSTER_URL", "mongodb://127.0.0.1:1")], processors().max(2))]
#[case::as_it_is_said(&[("TIERKEEP_DATA_DIR", "d"), ("TIERKEEP_PUBLIC_CONCURRENCY", "5")], 5)]
fn so_many_public_requests_are_at_work_at_once(
    #[case] environment: &[(&str, &str)],
    #[case] turns: u32,
) {
    let secret = ("SECRET_KEY", "a-secret-of-at-least-thirty-two-bytes!");
    let environment = environment.iter().copied().chain([secret]);
    let loaded = Loaded::gather(&Inputs::of_environment(environment));
    let settings = ServiceSettings::of(&loaded).unwrap();
    assert_eq!(settings.http.traffic.concurrency.get(), turns);
}
