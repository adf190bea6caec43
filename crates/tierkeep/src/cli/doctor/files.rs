//! What lies on this machine: secrets and data that others can read or replace, the spool, and what is set unwisely.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use tierkeep_core::bson::DateTime;
use tierkeep_core::clock;
use tierkeep_core::db::Role;
use tierkeep_engine::{Finding, Severity};
use tierkeep_identity::GithubVerification;

use super::PATIENCE;
use crate::config::{Loaded, ServiceSettings, Source};
use crate::spool::FileSpool;

/// Looks at every file that holds a secret, and at the spool.
pub(super) fn examine(loaded: &Loaded) -> Vec<Finding> {
    let mut files = BTreeSet::new();
    for effective in loaded.all().filter(|it| it.setting.kind.is_secret()) {
        files.extend(effective.file.clone());
        match &effective.source {
            Source::EnvFile { file, .. } | Source::SettingsFile { file, .. } => {
                files.insert(file.clone());
            }
            Source::Flag(_) | Source::Environment | Source::Default => {}
        }
    }
    if let Some(data_dir) = loaded.path("TIERKEEP_DATA_DIR") {
        let kept = ["secret.key", "audit.key", "webhook.key"];
        files.extend(kept.map(|name| data_dir.join(name)));
    }
    let mut findings: Vec<Finding> = files.iter().filter_map(|file| open_to_all(file)).collect();
    findings.extend(
        loaded
            .path("TIERKEEP_DATA_DIR")
            .map(data_dir)
            .unwrap_or_default(),
    );
    findings.extend(loaded.path("TIERKEEP_SPOOL_DIR").and_then(spool));
    findings
}

#[cfg(unix)]
fn open_to_all(file: &Path) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o777;
    let shown = file.display();
    (mode & 0o007 != 0).then(|| {
        Finding::new(
            "permissions",
            Severity::Warning,
            None,
            format!(
                "{shown} holds a secret, and other users of this host can open it (mode {mode:03o})"
            ),
            format!("chmod 600 {shown}, owned by the user that runs tierkeep"),
        )
    })
}

#[cfg(not(unix))]
fn open_to_all(_file: &Path) -> Option<Finding> {
    None
}

/// What others can do with a data directory: who can write to it replaces files in it, whatever their modes are.
#[cfg(unix)]
fn data_dir(data_dir: &Path) -> Vec<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| Some(fs::metadata(path).ok()?.permissions().mode() & 0o7777);
    let finding =
        |message, remedy| Finding::new("permissions", Severity::Warning, None, message, remedy);
    let shown = data_dir.display();
    let mut findings = Vec::new();
    if let Some(mode) = mode(data_dir).filter(|mode| mode & 0o002 != 0) {
        let message = format!(
            "other users of this host can create and replace files in the data directory {shown}, including databases \
             and keys (mode {mode:03o})"
        );
        let remedy = format!("chmod 700 {shown}, owned by the user that runs tierkeep");
        findings.push(finding(message, remedy));
    }
    let names = Role::ALL.map(|role| ["", "-wal", "-shm"].map(|end| format!("{role}.db{end}")));
    for file in names.concat().iter().map(|name| data_dir.join(name)) {
        if let Some(mode) = mode(&file).filter(|mode| mode & 0o006 != 0) {
            let shown = file.display();
            let message = format!(
                "{shown} holds users' data, and other users of this host can open it (mode {mode:03o})"
            );
            let remedy = format!("chmod 600 {shown}, owned by the user that runs tierkeep");
            findings.push(finding(message, remedy));
        }
    }
    findings
}

#[cfg(not(unix))]
fn data_dir(_data_dir: &Path) -> Vec<Finding> {
    Vec::new()
}

/// A directory that is not there yet is made when something waits.
fn spool(directory: &Path) -> Option<Finding> {
    let shown = directory.display();
    let existing = directory.ancestors().find(|path| path.exists())?;
    let within = existing.display();
    let (message, remedy) = if !existing.is_dir() {
        (
            format!("TIERKEEP_SPOOL_DIR is {shown}, and {within} is not a directory"),
            "set it to a directory that the user that runs tierkeep can write to".to_owned(),
        )
    } else if fs::metadata(existing).is_ok_and(|it| it.permissions().readonly()) {
        (
            format!("TIERKEEP_SPOOL_DIR is {shown}, and no user can write to {within}"),
            format!("chmod u+w {within}"),
        )
    } else {
        return None;
    };
    Some(Finding::new(
        "spool",
        Severity::Error,
        None,
        message,
        remedy,
    ))
}

/// Decisions that should have reached the audit trail by now.
pub(super) fn waiting(directory: &Path, now: DateTime) -> Option<Finding> {
    let before = clock::before(now, PATIENCE).to_system_time();
    let shown = directory.display();
    let (message, remedy) = match FileSpool::new(directory).waiting_since(before) {
        Ok(0) => return None,
        Ok(waiting) => (
            format!("{waiting} decisions in {shown} have not been written to evaluation_audit"),
            "check that evaluation_audit answers and that tierkeep serve runs with this spool, which delivers them in \
             order"
                .to_owned(),
        ),
        // Told already.
        Err(error) if error.kind() == ErrorKind::NotADirectory => return None,
        Err(error) => (
            format!("the spool in {shown} cannot be read: {error}"),
            "run tierkeep doctor as the user that runs tierkeep serve".to_owned(),
        ),
    };
    let severity = Severity::Warning;
    Some(Finding::new("spool", severity, None, message, remedy))
}

/// What works, and could be wiser.
pub(super) fn unwise(service: &ServiceSettings) -> Vec<Finding> {
    let mut notes = Vec::new();
    let mut note = |check, message: &str, remedy: &str| {
        notes.push(Finding::new(check, Severity::Note, None, message, remedy));
    };
    if !service.settings.audit.keeps_key() {
        note(
            "audit_key",
            "the key of the audit trail is stored in evaluation_audit, where every user with write access can read it",
            "set TIERKEEP_AUDIT_KEY or TIERKEEP_AUDIT_KEY_FILE; openssl rand -hex 32 generates one",
        );
    }
    if !service.settings.audit.has_spool() {
        note(
            "spool",
            "decisions made while evaluation_audit is unavailable are lost in a crash",
            "set TIERKEEP_SPOOL_DIR to a directory on persistent storage",
        );
    }
    if service.identity.github.verification == GithubVerification::Off {
        note(
            "github",
            "GitHub tokens are not verified: any GitHub token is accepted",
            "remove TIERKEEP_GITHUB_VERIFY, except for a trial on one host",
        );
    }
    let alerts = &service.settings.alerts;
    if alerts.webhook.is_none() && alerts.email.is_none() {
        note(
            "alerts",
            "alerts are not delivered: no webhook and no mail address is configured",
            "set TIERKEEP_ALERT_WEBHOOK_URL or TIERKEEP_ALERT_EMAIL, and test it with tierkeep alerts test",
        );
    }
    notes
}
