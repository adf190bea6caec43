//! The README is true: every command of its trial is run as printed and prints what the README shows, with `…` for what
//! differs from run to run; and the commands in the table of operators' questions answer them.

use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use tierkeep_identity::RoleClaim;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::acceptance::program::{Backend, Deployment, Service, token, token_of};

/// The way with pip; the Python package's tests install the wheel and start the command that it brings.
const PIP: [&str; 2] = [
    "pip install tierkeep",
    "TIERKEEP_GITHUB_VERIFY=off tierkeep serve --data-dir ./data",
];
/// The command that starts the service; the test starts the built binary in its place.
const SERVE: &str =
    "TIERKEEP_GITHUB_VERIFY=off cargo run --release --locked -- serve --data-dir ./data";
/// The command that runs this test.
const TEST: &str = "cargo xtask test";
/// How the README calls the command line.
const TIERKEEP: &str = "cargo run --release --quiet --";

/// The commands of the README's console blocks, each with what it prints.
fn commands(readme: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            line if inside => match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command.to_owned(), String::new())),
                (None, Some((_, printed))) => {
                    printed.push_str(line);
                    printed.push('\n');
                }
                (None, None) => {}
            },
            _ => {}
        }
    }
    commands
}

/// Whether `actual` is `expected`, where `…` stands for anything within a line and runs of spaces are one.
fn says(actual: &str, expected: &str) -> bool {
    let squeezed = |text: &str| {
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    };
    let (actual, expected) = (squeezed(actual), squeezed(expected));
    let (mut actual, mut expected) = (actual.lines(), expected.lines());
    loop {
        match (actual.next(), expected.next()) {
            (None, None) => return true,
            (Some(actual), Some(expected)) if line_says(actual, expected) => {}
            _ => return false,
        }
    }
}

fn line_says(actual: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| actual.strip_prefix(first)) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
        open = part.is_empty();
    }
    rest.is_empty() || open
}

fn readme() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join("README.md")).unwrap()
}

#[test]
fn every_command_of_the_trial_says_what_is_printed() {
    let readme = readme();
    let commands = commands(&readme);
    let silent = |command: &str| (command.to_owned(), String::new());
    assert_eq!(commands[..PIP.len()], PIP.map(silent));
    let commands = &commands[PIP.len()..];
    assert_eq!(commands[0], silent(SERVE));
    assert_eq!(commands.last(), Some(&silent(TEST)));
    let mut deployment = Deployment::new(Backend::Sqlite);
    deployment.environment.remove("SECRET_KEY");
    let service = deployment.serve();
    let data = &deployment.environment["TIERKEEP_DATA_DIR"];
    let mut script = String::from("set -u\n");
    let trial = &commands[1..commands.len() - 1];
    assert!(trial.len() >= 9, "the README lost its commands");
    for (command, _) in trial {
        let command = command
            .replace(TIERKEEP, env!("CARGO_BIN_EXE_tierkeep"))
            .replace("http://127.0.0.1:8080", &service.base)
            .replace("./data", data)
            .replace("curl ", "curl --silent --show-error ");
        script.push_str(&command);
        script.push_str("\nprintf '\\036'\n");
    }
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(deployment.dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<&str> = said.split('\u{1e}').collect();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.len(), trial.len() + 1, "{complaints}");
    for ((command, expected), actual) in trial.iter().zip(said) {
        assert!(
            says(actual, expected),
            "$ {command}\n{actual}\n--- expected\n{expected}{complaints}"
        );
    }
}

#[test]
fn dots_stand_for_anything_within_a_line() {
    assert!(says("a 12 b\n", "a … b"));
    assert!(says("a   b", "a b"));
    assert!(!says("a 12 c", "a … b"));
    assert!(!says("a\nb", "a"));
    assert!(!says("ab c", "a"));
}

/// The line before the table of operators' questions.
const QUESTIONS: &str = "\n| question | command | dashboard |\n|---|---|---|\n";
/// The user that the questions are about.
const SUBJECT: &str = "507f1f77bcf86cd799439011";

/// What a cell has between backticks and begins with this.
fn quoted<'a>(cell: &'a str, start: &str) -> Vec<&'a str> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.filter(|text| text.starts_with(start)).collect()
}

/// The cookie that an answer sets.
fn cookie(answer: &Response) -> String {
    let set = answer.headers()[SET_COOKIE].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

/// Signs an administrator in as a browser does; answers the session's cookie.
async fn signed_in(client: &Client, service: &Service) -> String {
    let form = client.get(service.url("/")).send().await.unwrap();
    let known = cookie(&form);
    let form = form.text().await.unwrap();
    let (_, csrf) = form.split_once("name=\"csrf\" value=\"").unwrap();
    let csrf = csrf.split('"').next().unwrap();
    let jwt = token_of("507f1f77bcf86cd7994390aa", Some(RoleClaim::Admin));
    let posted = client
        .post(service.url("/ui/sign-in"))
        .header(COOKIE, known);
    let posted = posted
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("csrf={csrf}&token={jwt}&next=/ui/"));
    let answer = posted.send().await.unwrap();
    assert_eq!(answer.headers()[LOCATION], "/ui/");
    cookie(&answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_of_an_operator_has_a_command_and_a_page_that_answer() {
    let receiver = MockServer::start().await;
    let told = Mock::given(method("POST")).respond_with(ResponseTemplate::new(204));
    told.mount(&receiver).await;
    let deployment =
        Deployment::new(Backend::Sqlite).with("TIERKEEP_ALERT_WEBHOOK_URL", &receiver.uri());
    let service = deployment.serve();
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let put = client.put(service.url("/v1/user/scan_cache"));
    let put = put
        .bearer_auth(token(SUBJECT))
        .header("x-github-token", "gho_something")
        .header("content-type", "application/json")
        .body("{\"text\":\"something\"}");
    assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    deployment.json(&["migrate", "run", "--older-than", "0s", "--json"]);
    let session = signed_in(&client, &service).await;

    let user = format!("internal_{SUBJECT}");
    let readme = readme();
    let (_, table) = readme.split_once(QUESTIONS).unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let mut asked = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (commands, pages) = (quoted(cells[2], "tierkeep "), quoted(cells[3], "/ui/"));
        assert!(!commands.is_empty() && !pages.is_empty(), "{row}");
        for command in commands {
            let words = command.split(' ').skip(1);
            let words = words.map(|word| match word {
                "USER" | "ID" => user.as_str(),
                word => word,
            });
            let done = deployment.run(&words.collect::<Vec<_>>());
            assert_eq!(done.status.code(), Some(0), "{command}: {done:?}");
        }
        for page in pages {
            let path = page.replace("{id}", &user);
            let shown = client.get(service.url(&path)).header(COOKIE, &session);
            let shown = shown.send().await.unwrap();
            assert_eq!(shown.status(), StatusCode::OK, "{page}");
            let text = shown.text().await.unwrap();
            assert!(text.contains("<h1"), "{page}");
            assert!(
                !path.contains(&user) || text.contains("srie_main_user"),
                "{page}"
            );
        }
        asked += 1;
    }
    assert!(asked >= 12, "the README lost its questions");
}
