//! The help of every verb, and what is said to those who did not read it.

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
#[case("explain")]
#[case("erase")]
#[case("config")]
#[case("config show")]
#[case("config check")]
#[case("config template")]
#[case("token")]
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
#[case("status -o xml")]
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
