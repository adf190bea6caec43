//! The help of every command, and the errors for wrong usage.

use rstest::rstest;

use super::Place;

#[rstest]
#[case("")]
#[case("serve")]
#[case("init")]
#[case("migrate")]
#[case("migrate run")]
#[case("migrate status")]
#[case("migrate retry")]
#[case("migrate pause")]
#[case("migrate resume")]
#[case("simulate")]
#[case("status")]
#[case("doctor")]
#[case("explain")]
#[case("erase")]
#[case("identity")]
#[case("identity show")]
#[case("identity unbind")]
#[case("alerts")]
#[case("alerts list")]
#[case("alerts test")]
#[case("quarantine")]
#[case("quarantine list")]
#[case("quarantine show")]
#[case("quarantine export")]
#[case("quarantine release")]
#[case("export")]
#[case("import-dump")]
#[case("verify")]
#[case("restore")]
#[case("backup")]
#[case("config")]
#[case("config show")]
#[case("config check")]
#[case("config template")]
#[case("token")]
#[case("completions")]
#[case("man")]
fn every_verb_explains_itself(#[case] verb: &str) {
    let mut place = Place::new();
    place.set("COLUMNS", "100");
    let arguments: Vec<&str> = verb.split_whitespace().chain(["--help"]).collect();
    let ran = place.run(&arguments);
    assert_eq!(ran.code, Some(0));
    assert_eq!(ran.stderr, "");
    insta::assert_snapshot!(format!("help {verb}").trim().replace(' ', "_"), ran.stdout);
}

#[rstest]
#[case("")]
#[case("serv")]
#[case("migrate run --older-than soon")]
#[case("migrate run --user srie06")]
#[case("migrate run --limit 0")]
#[case("migrate retry")]
#[case("migrate retry --all --user internal_507f1f77bcf86cd799439011")]
#[case("migrate retry --user srie06")]
#[case("token")]
#[case("token --sub 12")]
#[case("token --sub 507f1f77bcf86cd799439011 --role developer")]
#[case("simulate --for 32d")]
#[case("simulate --for 0s")]
#[case("erase")]
#[case("erase srie06")]
#[case("identity show")]
#[case("identity show srie06 --data-dir d")]
#[case("identity show 507f1f77bcf86cd799439011 --github-id octocat")]
#[case("identity unbind external_srie06 --data-dir d")]
#[case("verify --prefer main")]
#[case("verify --repair --prefer temp")]
#[case("verify --sample 0")]
#[case("quarantine")]
#[case("quarantine show")]
#[case("quarantine release x --keep all --data-dir d")]
#[case("restore")]
#[case("restore --all --user internal_507f1f77bcf86cd799439011")]
#[case("restore --user srie06")]
#[case("restore --user external_srie06 --data-dir d")]
#[case("restore --users-file nowhere --data-dir d")]
#[case("status -o xml")]
#[case("status --every 1s")]
#[case("status --watch --every 0s")]
#[case("status -v -q")]
fn wrong_usage_ends_with_two_and_leaves_stdout_empty(#[case] line: &str) {
    let ran = Place::new().run(&line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(ran.code, Some(2), "{}", ran.both());
    assert_eq!(ran.stdout, "");
}

#[test]
fn global_options_are_accepted_anywhere() {
    let place = Place::new();
    let after = place.run(&["config", "check", "--data-dir", "d", "-o", "json"]);
    let before = place.run(&["-o", "json", "--data-dir", "d", "config", "check"]);
    let short = place.run(&["--json", "config", "--data-dir", "d", "check"]);
    assert_eq!(after.json()["ok"], true);
    assert_eq!(after.stdout, before.stdout);
    assert_eq!(after.stdout, short.stdout);
}

#[rstest]
#[case("bash")]
#[case("elvish")]
#[case("fish")]
#[case("powershell")]
#[case("zsh")]
fn every_shell_learns_every_verb(#[case] shell: &str) {
    let ran = Place::new().run(&["completions", shell]);
    assert_eq!(ran.code, Some(0), "{}", ran.both());
    assert_eq!(ran.stderr, "");
    for verb in ["serve", "migrate", "export", "import-dump", "completions"] {
        assert!(ran.stdout.contains(verb), "{shell} lacks {verb}");
    }
    let unknown = Place::new().run(&["completions", "cmd"]);
    assert_eq!(unknown.code, Some(2));
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let ran = Place::new().run(&["man"]);
    assert_eq!(ran.code, Some(0), "{}", ran.both());
    assert_eq!(ran.stderr, "");
    for page in [
        "tierkeep",
        "tierkeep-serve",
        "tierkeep-migrate-run",
        "tierkeep-export",
    ] {
        let title = format!(".TH {page} 1");
        let has = |line: &str| line == title || line.starts_with(&format!("{title} "));
        assert!(ran.stdout.lines().any(has), "{page} has no page");
    }
}
