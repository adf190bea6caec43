//! The sources of settings, and the errors for wrong ones.

use rstest::rstest;
use serde_json::json;
use tierkeep_core::db::Role;

use super::{PASSWORD, Place, text};

#[rstest]
#[case("serve", true)]
#[case("init", false)]
#[case("status", false)]
fn missing_variables_are_listed_at_once_with_their_purpose(
    #[case] verb: &str,
    #[case] identity: bool,
) {
    let ran = Place::new().run(&[verb]);
    ran.assert_refused(&["missing configuration", "--data-dir DIR"]);
    for role in Role::ALL {
        ran.assert_refused(&[role.url_variable(), role.purpose()]);
    }
    assert_eq!(
        ran.stderr.contains("SECRET_KEY"),
        identity,
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stdout, "");
}

#[test]
fn only_what_is_missing_is_listed() {
    let mut place = Place::new();
    place.set("SECRET_KEY", PASSWORD);
    for role in Role::ALL
        .into_iter()
        .filter(|role| *role != Role::SrieMainHr)
    {
        place.set(
            role.url_variable(),
            &format!("mongodb://127.0.0.1:9/x_{role}"),
        );
    }
    let ran = place.run(&["config", "check"]);
    ran.assert_refused(&["SRIE_MAIN_HR_DB_URL"]);
    assert!(
        !ran.stderr.contains("EXTERNAL_USERS_DB_URL"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("SECRET_KEY"), "{}", ran.stderr);
}

#[test]
fn one_url_serves_all_seven() {
    let ran = Place::with_databases().run(&["config", "check"]);
    assert_eq!(ran.code, Some(0), "{}", ran.both());
    assert_eq!(ran.stdout, "the configuration is complete\n");
}

#[test]
fn a_data_directory_needs_nothing_else_and_excludes_urls() {
    let mut place = Place::new();
    assert_eq!(
        place.run(&["config", "check", "--data-dir", "d"]).code,
        Some(0)
    );
    assert!(!place.path("d").exists());
    place.set("SRIE_MAIN_USER_DB_URL", "mongodb://127.0.0.1:9/x");
    place
        .run(&["config", "check", "--data-dir", "d"])
        .assert_refused(&[
            "TIERKEEP_DATA_DIR (--data-dir)",
            "SRIE_MAIN_USER_DB_URL (environment)",
        ]);
}

#[test]
fn a_wrong_duration_names_key_value_source_and_form() {
    let mut place = Place::with_databases();
    let file = place.write("s.toml", "\nretention = \"a day\"\n");
    let arguments = ["config", "check", "--config", text(&file)];
    place.run(&arguments).assert_refused(&[
        "TIERKEEP_RETENTION is \"a day\"",
        "s.toml line 2, key retention",
        "expected a duration such as 24h",
    ]);
    place.set("TIERKEEP_RETENTION", "24");
    place
        .run(&arguments)
        .assert_refused(&["TIERKEEP_RETENTION is \"24\" (environment)"]);
}

#[test]
fn everything_wrong_is_said_at_once() {
    let mut place = Place::new();
    place
        .set("TIERKEEP_RETENTION", "soon")
        .set("TIERKEEP_LISTEN", "everywhere")
        .set("TIERKEEP_SECTIONS", "metadata,scan_cache,scan_cache")
        .set("TIERKEEP_HR_COLLECTIONS", "tierkeep_identity,hr,hr,a.b")
        .set("TIERKEEP_COLOUR", "red")
        .set("SECRET_KEY", "short");
    place.write(
        "tierkeep.toml",
        "batch_bytes = \"4MB\"\nbatchbytes = 3\nmax_body = true\n",
    );
    let ran = place.run(&["config", "check"]);
    ran.assert_refused(&[
        "problems with the configuration",
        "TIERKEEP_RETENTION",
        "TIERKEEP_LISTEN",
        "\"metadata\" is a reserved field",
        "lists \"scan_cache\" twice",
        "\"tierkeep_identity\" has a reserved name",
        "lists \"hr\" twice",
        "HR collection \"a.b\" is not",
        "unknown variable TIERKEEP_COLOUR",
        "SECRET_KEY has 5 bytes",
        "TIERKEEP_BATCH_BYTES is \"4MB\" (tierkeep.toml line 1, key batch_bytes)",
        "unknown key \"batchbytes\" in tierkeep.toml line 2; did you mean \"batch_bytes\"?",
        "TIERKEEP_MAX_BODY is the truth value true",
        "EXTERNAL_USERS_DB_URL",
    ]);
    let ran = place.run(&["config", "check", "--json"]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.json()["ok"], false);
    assert_eq!(ran.json()["problems"].as_array().unwrap().len(), 13);
}

#[test]
fn an_unknown_variable_is_refused_unless_it_is_a_test_s() {
    let mut place = Place::with_databases();
    place.set("TIERKEEP_TEST_ANYTHING", "x");
    assert_eq!(place.run(&["config", "check"]).code, Some(0));
    place.set("TIERKEEP_RETENTON", "1h");
    place.run(&["config", "check"]).assert_refused(&[
        "unknown variable TIERKEEP_RETENTON (environment); did you mean \"TIERKEEP_RETENTION\"?",
    ]);
}

#[test]
fn a_value_and_a_file_for_it_exclude_each_other() {
    let mut place = Place::with_databases();
    let file = place.write("secret", PASSWORD);
    place.set("SECRET_KEY_FILE", text(&file));
    place
        .run(&["config", "check"])
        .assert_refused(&["SECRET_KEY and SECRET_KEY_FILE are both set"]);
}

#[test]
fn values_come_from_files_trimmed() {
    let mut place = Place::new();
    let url = place.write("url", "  mongodb://127.0.0.1:9\n");
    let secret = place.write("secret", &format!("{PASSWORD}\n"));
    place.set("TIERKEEP_CLUSTER_URL_FILE", text(&url));
    place.write(
        "tierkeep.toml",
        &format!("secret_key_file = {:?}\n", text(&secret)),
    );
    assert_eq!(place.run(&["config", "check"]).code, Some(0));
    let (value, source) = place.shown(&[], "SECRET_KEY");
    assert_eq!(value, "***");
    assert!(
        source.starts_with("tierkeep.toml line 1, key secret_key_file, file "),
        "{source}"
    );
}

#[rstest]
#[case("nowhere", "cannot be read")]
#[case("empty", "is empty")]
fn a_file_without_a_value_is_named(#[case] name: &str, #[case] reason: &str) {
    let mut place = Place::with_databases();
    place.write("empty", " \n");
    place.environment.retain(|(name, _)| name != "SECRET_KEY");
    place.set("SECRET_KEY_FILE", name);
    place
        .run(&["config", "check"])
        .assert_refused(&["SECRET_KEY_FILE", name, reason]);
}

#[test]
fn a_setting_that_is_no_secret_has_no_file() {
    let mut place = Place::with_databases();
    place.set("TIERKEEP_RETENTION_FILE", "x");
    place
        .run(&["config", "check"])
        .assert_refused(&["TIERKEEP_RETENTION cannot come from a file"]);
}

#[test]
fn a_path_that_names_another_role_s_database_is_refused_by_both_names() {
    let mut place = Place::with_databases();
    place.set(
        "SRIE_MAIN_USER_DB_URL",
        "mongodb://u:hunter2@127.0.0.1:10/raseen_main_user",
    );
    for verb in [
        "serve",
        "init",
        "migrate run",
        "status",
        "explain srie06",
        "config check",
    ] {
        let arguments: Vec<&str> = verb.split(' ').collect();
        let ran = place.run(&arguments);
        ran.assert_refused(&[
            "srie_main_user",
            "raseen_main_user",
            "SRIE_MAIN_USER_DB_URL",
        ]);
        assert!(!ran.both().contains("hunter2"));
    }
}

#[test]
fn roles_that_lead_to_one_database_are_refused_by_both_names() {
    let mut place = Place::with_databases();
    place.set("RASEEN_MAIN_HR_DB_URL", "mongodb://h1,h2/people");
    place.set(
        "SRIE_MAIN_HR_DB_URL",
        "mongodb://u:hunter2@h3,H2:27017/people?replicaSet=x",
    );
    let ran = place.run(&["config", "check"]);
    ran.assert_refused(&["raseen_main_hr and srie_main_hr resolve to the same database"]);
    assert!(!ran.both().contains("hunter2"));
    assert!(!ran.both().contains("h2"));
}

#[test]
fn the_template_is_valid_without_its_comment_signs_and_changes_nothing() {
    let place = Place::new();
    let before = place.run(&["config", "show", "--json"]).json();
    let template = place.run(&["config", "template"]).stdout;
    let template = template.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(['#', ' ']) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    });
    let template: String = template.collect();
    place.write("tierkeep.toml", &template);
    let after = place.run(&["config", "show", "--json"]);
    assert_eq!(after.code, Some(0), "{}", after.both());
    let values = |shown: &serde_json::Value| -> Vec<serde_json::Value> {
        let all = shown["settings"].as_array().unwrap();
        all.iter()
            .map(|row| json!([row["name"], row["value"]]))
            .collect()
    };
    assert_eq!(values(&before), values(&after.json()));
    for row in before["settings"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        assert!(template.contains(&format!("Variable: {name}")), "{name}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let mut place = Place::new();
    place
        .set("SECRET_KEY", PASSWORD)
        .set("TIERKEEP_RETENTION", "wrong");
    place.set("TIERKEEP_ALERT_WEBHOOK_URL", PASSWORD);
    place.set("GITHUB_API_URL", &format!("ftp://me:{PASSWORD}@127.0.0.1"));
    for role in Role::ALL {
        place.set(
            role.url_variable(),
            &format!("mongo://user:{PASSWORD}@127.0.0.1:9/%zz"),
        );
    }
    place.write(
        "tierkeep.toml",
        &format!("secret_key_previous = {PASSWORD}\n"),
    );
    place.write("a.env", &format!("{PASSWORD}\n"));
    for arguments in [
        ["config", "show"],
        ["config", "check"],
        ["serve", "-vv"],
        ["migrate", "run"],
    ] {
        for more in [&[][..], &["--json"], &["--env-file", "a.env"]] {
            let ran = place.run(&[&arguments[..], more].concat());
            assert_eq!(ran.code, Some(2), "{}", ran.both());
            assert!(!ran.both().contains("hunter2"), "{}", ran.both());
        }
    }
    assert_eq!(place.shown(&[], "SECRET_KEY").0, "***");
}

#[test]
fn an_env_file_is_read_only_when_asked_for() {
    let mut place = Place::with_databases();
    place.write(
        ".env",
        "TIERKEEP_RETENTION=1h\nTIERKEEP_SCAN_INTERVAL=\"7s\"\n",
    );
    assert_eq!(place.shown(&[], "TIERKEEP_RETENTION").0, "24h");
    let asked = ["--env-file", ".env"];
    assert_eq!(
        place.shown(&asked, "TIERKEEP_RETENTION"),
        (json!("1h"), ".env line 1".to_owned())
    );
    place.set("TIERKEEP_RETENTION", "2h");
    assert_eq!(place.shown(&asked, "TIERKEEP_RETENTION").0, "2h");
    assert_eq!(place.shown(&asked, "TIERKEEP_SCAN_INTERVAL").0, "7s");
    place
        .run(&["config", "check", "--env-file", "none"])
        .assert_refused(&["none cannot be read"]);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let mut place = Place::new();
    place.write(
        "tierkeep.toml",
        "tierkeep_data_dir = 'of-file'\nRETENTION = '3h'\n",
    );
    let other = place.write(
        "other.toml",
        "data_dir = 'of-other'\nstrict_identity = true\n",
    );
    let of = |place: &Place, arguments: &[&str]| place.shown(arguments, "TIERKEEP_DATA_DIR");
    assert_eq!(
        of(&place, &[]),
        (
            json!("of-file"),
            "tierkeep.toml line 1, key tierkeep_data_dir".to_owned()
        )
    );
    let with_other = ["--config", text(&other)];
    assert_eq!(of(&place, &with_other).0, "of-other");
    assert_eq!(place.shown(&with_other, "TIERKEEP_RETENTION").0, "24h");
    assert_eq!(place.shown(&with_other, "TIERKEEP_STRICT_IDENTITY").0, "on");
    place.set("TIERKEEP_DATA_DIR", "of-environment");
    assert_eq!(of(&place, &with_other).0, "of-environment");
    let with_flag = ["--config", text(&other), "--data-dir", "of-flag"];
    assert_eq!(
        of(&place, &with_flag),
        (json!("of-flag"), "--data-dir".to_owned())
    );
}

#[test]
fn another_environment_is_another_deployment_of_the_same_binary() {
    let mut here = Place::with_databases();
    here.set("TIERKEEP_RETENTION", "24h")
        .set("TIERKEEP_LISTEN", "127.0.0.1:8081");
    let mut there = Place::new();
    there
        .set("TIERKEEP_DATA_DIR", "d")
        .set("TIERKEEP_RETENTION", "0s");
    for (place, retention, listen) in [
        (&here, "24h", "127.0.0.1:8081"),
        (&there, "0s", "127.0.0.1:8080"),
    ] {
        assert_eq!(place.run(&["config", "check"]).code, Some(0));
        assert_eq!(place.shown(&[], "TIERKEEP_RETENTION").0, retention);
        assert_eq!(place.shown(&[], "TIERKEEP_LISTEN").0, listen);
    }
}

#[test]
fn a_file_that_is_named_must_exist_and_be_toml() {
    let place = Place::with_databases();
    place
        .run(&["config", "check", "--config", "none.toml"])
        .assert_refused(&["none.toml cannot be read"]);
    place.write("tierkeep.toml", "retention 24h\n");
    place
        .run(&["config", "check"])
        .assert_refused(&["tierkeep.toml line 1 cannot be read"]);
}

#[test]
fn an_unreadable_file_hides_what_is_missing_and_says_so_itself() {
    let place = Place::new();
    let ran = place.run(&["serve", "--config", "none.toml"]);
    ran.assert_refused(&["none.toml cannot be read"]);
    assert!(
        !ran.stderr.contains("missing configuration"),
        "{}",
        ran.stderr
    );
}

#[rstest]
#[case(&["--data-dir", "d"], true)]
#[case(&["--data-dir", "d", "--listen", "[::1]:0"], true)]
#[case(&["--data-dir", "d", "--listen", "0.0.0.0:8080"], false)]
#[case(&[], false)]
fn github_may_be_left_out_on_one_machine_alone(#[case] arguments: &[&str], #[case] accepted: bool) {
    let mut place = if arguments.is_empty() {
        Place::with_databases()
    } else {
        Place::new()
    };
    place.set("TIERKEEP_GITHUB_VERIFY", "off");
    let listen = arguments
        .iter()
        .position(|argument| *argument == "--listen");
    if let Some(at) = listen {
        place.set("TIERKEEP_LISTEN", arguments[at + 1]);
    }
    let arguments = &arguments[..listen.unwrap_or(arguments.len())];
    let ran = place.run(&[&["config", "check"], arguments].concat());
    assert_eq!(ran.code == Some(0), accepted, "{}", ran.both());
    assert_eq!(
        ran.stderr.contains("TIERKEEP_GITHUB_VERIFY is off"),
        !accepted
    );
}

#[test]
fn a_short_secret_before_the_directory_s_own_is_refused() {
    let mut place = Place::new();
    place.set("SECRET_KEY_PREVIOUS", "short");
    place
        .run(&["config", "check", "--data-dir", "d"])
        .assert_refused(&["SECRET_KEY_PREVIOUS has 5 bytes"]);
}

#[test]
fn one_kind_of_key_checks_tokens() {
    let mut place = Place::with_databases();
    let file = place.write("key.pem", "no key");
    place.set("TIERKEEP_JWT_PUBLIC_KEY_FILE", text(&file));
    place
        .run(&["config", "check"])
        .assert_refused(&["SECRET_KEY and TIERKEEP_JWT_PUBLIC_KEY_FILE are all set"]);
    place.environment.retain(|(name, _)| name != "SECRET_KEY");
    place
        .run(&["config", "check"])
        .assert_refused(&["TIERKEEP_JWT_PUBLIC_KEY_FILE: "]);
}

#[test]
fn a_value_that_cannot_be_read_is_named() {
    let mut place = Place::with_databases();
    place.set("TIERKEEP_PUBLIC_BURST", "many");
    place
        .run(&["config", "check"])
        .assert_refused(&["TIERKEEP_PUBLIC_BURST is \"many\""]);
}

/// A service that is named tierkeep, or whose name begins so, brings these.
#[test]
fn variables_of_kubernetes_services_are_no_settings() {
    let mut place = Place::with_databases();
    for (name, value) in [
        ("TIERKEEP_SERVICE_HOST", "10.96.14.3"),
        ("TIERKEEP_SERVICE_PORT", "8080"),
        ("TIERKEEP_SERVICE_PORT_HTTP", "8080"),
        ("TIERKEEP_PORT", "tcp://10.96.14.3:8080"),
        ("TIERKEEP_PORT_8080_TCP", "tcp://10.96.14.3:8080"),
        ("TIERKEEP_PORT_8080_TCP_PROTO", "tcp"),
        ("TIERKEEP_PORT_8080_TCP_PORT", "8080"),
        ("TIERKEEP_PORT_8080_TCP_ADDR", "10.96.14.3"),
        ("TIERKEEP_OPS_PORT", "tcp://10.96.14.4:9090"),
    ] {
        place.set(name, value);
    }
    let checked = place.run(&["config", "check"]);
    assert_eq!(checked.code, Some(0), "{}", checked.both());
    place.set("TIERKEEP_PORT", "8080");
    place
        .run(&["config", "check"])
        .assert_refused(&["unknown variable TIERKEEP_PORT (environment)"]);
}

#[test]
fn an_env_file_of_any_editor_is_read() {
    let place = Place::new();
    let text = format!(
        "\u{feff}SECRET_KEY={PASSWORD}\t# ours\r\nexport\tTIERKEEP_DATA_DIR=d\r\nTIERKEEP_JWT_ISSUER= # none yet\r\n"
    );
    place.write("a.env", &text);
    let asked = ["--env-file", "a.env"];
    let checked = place.run(&[&["config", "check"][..], &asked].concat());
    assert_eq!(checked.code, Some(0), "{}", checked.both());
    assert_eq!(place.shown(&asked, "TIERKEEP_DATA_DIR").0, "d");
    assert_eq!(place.shown(&asked, "TIERKEEP_JWT_ISSUER").1, "default");
    let set = place.shown(&asked, "SECRET_KEY");
    assert_eq!(set.1, "a.env line 1");
    // The secret ends before the comment: the token is believed where it is given by itself.
    place.directory("d");
    let token = place.run(&[&["token", "--sub", "507f1f77bcf86cd799439011"][..], &asked].concat());
    let clock = std::sync::Arc::new(tierkeep::clock::SystemClock);
    let keys = tierkeep_identity::JwtKeys::Secret {
        current: PASSWORD.into(),
        previous: None,
    };
    let settings = tierkeep_identity::JwtSettings::new(keys);
    let verifier = tierkeep_identity::JwtVerifier::new(settings, clock).unwrap();
    assert!(verifier.verify(token.stdout.trim()).is_ok());
}

#[test]
fn the_secrets_of_the_data_directory_are_shown_as_set() {
    let place = Place::new();
    place.directory("d");
    let asked = ["--data-dir", "d"];
    assert_eq!(place.shown(&asked, "SECRET_KEY").0, serde_json::Value::Null);
    place.run(&[
        "token",
        "--sub",
        "507f1f77bcf86cd799439011",
        "--data-dir",
        "d",
    ]);
    let (value, source) = place.shown(&asked, "SECRET_KEY");
    assert_eq!(value, "***");
    assert_eq!(source, "file d/secret.key of the data directory");
}

#[rstest]
#[case(
    "mongodb://me:hunter2@h/?tls=true&tlsCAFile=/none.pem",
    "the file of its option \"tlsCAFile\""
)]
#[case(
    "mongodb://me:hunter2@a,b/?directConnection=true",
    "its option \"directConnection\""
)]
#[case("mongodb://me:hunter2@h/?w=-7&appName=x", "its option \"w\" or")]
#[case("mongodb://me:hun:ter2@h/", "percent-encoded")]
fn what_the_driver_does_not_understand_is_found_without_a_server(
    #[case] url: &str,
    #[case] said: &str,
) {
    let mut place = Place::new();
    place.set("SECRET_KEY", PASSWORD);
    place.set("TIERKEEP_CLUSTER_URL", url);
    let checked = place.run(&["config", "check"]);
    checked.assert_refused(&["TIERKEEP_CLUSTER_URL (environment)", said]);
    assert!(!checked.both().contains("ter2"), "{}", checked.both());
}

#[rstest]
#[case(
    "TIERKEEP_ALERT_WEBHOOK_URL",
    "http://hooks.example.org/hunter2",
    "must be https unless"
)]
#[case(
    "TIERKEEP_ALERT_WEBHOOK_URL",
    "ftp://hooks.example.org/hunter2",
    "must start with https://"
)]
#[case(
    "TIERKEEP_ALERT_WEBHOOK_SECRET",
    "hunter2",
    "is not whsec_ followed by Base64"
)]
#[case(
    "TIERKEEP_ALERT_EMAIL",
    "hunter2@example.org",
    "is not a URL of a mail server"
)]
#[case(
    "TIERKEEP_ALERT_EMAIL",
    "smtps://me:hunter2@mail.example.org?to=a@b.c",
    "must name one address in from"
)]
fn receivers_of_alerts_are_checked_without_being_shown(
    #[case] name: &str,
    #[case] value: &str,
    #[case] said: &str,
) {
    let mut place = Place::with_databases();
    place.set(name, value);
    let checked = place.run(&["config", "check"]);
    checked.assert_refused(&[name, said, "(environment)"]);
    assert!(!checked.both().contains("hunter2"), "{}", checked.both());
}

#[test]
fn a_webhook_needs_a_secret_that_signs() {
    let mut place = Place::with_databases();
    place.set("TIERKEEP_ALERT_WEBHOOK_URL", "https://hooks.example.org/");
    place.run(&["config", "check"]).assert_refused(&[
        "missing configuration",
        "TIERKEEP_ALERT_WEBHOOK_SECRET  signs",
    ]);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let file = place.write("secret", secret);
    place.set("TIERKEEP_ALERT_WEBHOOK_SECRET_FILE", text(&file));
    assert_eq!(place.run(&["config", "check"]).code, Some(0));
}
