//! `doctor`: owns what is checked, in which order, and how it is reported. Must never change anything.
//!
//! Where to look: `files` (what lies on this machine), `servers` (what MongoDB servers are), `data` (what waits or
//! has failed); the databases themselves are looked at by the engine.

mod data;
mod files;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tierkeep_core::clock::Clock;
use tierkeep_engine::{Finding, Severity, UNREACHABLE, examine};

use super::Context;
use crate::config::{Backend, Problem, ServiceSettings, Settings};
use crate::exit::Exit;
use crate::open::{remedy, stores_for_a_look};
use crate::output::Format;

/// The check of findings about settings.
const CONFIGURATION: &str = "configuration";
/// What waits for less is on its way.
const PATIENCE: Duration = Duration::from_mins(1);

/// Arguments of `doctor`.
#[derive(Args, Clone, Copy, Debug)]
pub struct DoctorArgs {
    /// Also warn about settings that work but are risky, such as a key stored next to the data that it protects
    #[arg(long)]
    pub strict: bool,
}

#[derive(Serialize)]
struct Found {
    findings: Vec<Finding>,
}

/// Checks everything, and reports each problem and its remedy.
///
/// # Errors
/// When the result cannot be written.
pub async fn run(args: DoctorArgs, context: &Context) -> anyhow::Result<Exit> {
    let mut findings = Vec::new();
    let service = ServiceSettings::of(&context.loaded);
    match &service {
        Ok(service) => findings.extend(files::unwise(service)),
        Err(problems) => findings.extend(problems.as_slice().iter().map(misconfigured)),
    }
    findings.extend(files::examine(&context.loaded));
    // Without a key for JWTs, for example, the databases can be looked at nevertheless.
    if let Ok(settings) = Settings::of(&context.loaded) {
        let spool = settings.audit.spool_dir();
        findings.extend(spool.and_then(|spool| files::waiting(spool, context.clock.now())));
        findings.extend(databases(&settings, context).await);
    }
    findings.retain(|finding| args.strict || finding.severity != Severity::Note);
    findings.sort_by_key(|finding| finding.severity);
    let exit = exit(&findings);
    let found = Found { findings };
    if !found.findings.is_empty() || context.format == Format::Json {
        context.output().result(&found, text)?;
    }
    Ok(exit)
}

fn misconfigured(problem: &Problem) -> Finding {
    let usual = "tierkeep config template lists every setting and its values";
    let remedy = problem.remedy.as_deref().unwrap_or(usual);
    let message = problem.message.as_str();
    Finding::new(CONFIGURATION, Severity::Error, None, message, remedy)
}

async fn databases(settings: &Settings, context: &Context) -> Vec<Finding> {
    let clock: Arc<dyn Clock> = Arc::clone(&context.clock);
    let stores = match stores_for_a_look(&context.servers, settings, &clock).await {
        Ok(stores) => stores,
        Err(error) => {
            let remedy = "correct the named setting; tierkeep init creates a data directory";
            let message = error.to_string();
            return vec![Finding::new(
                CONFIGURATION,
                Severity::Error,
                None,
                message,
                remedy,
            )];
        }
    };
    let examined = examine(&stores, &clock).await;
    let mut findings = examined.findings;
    // The engine knows no settings: the one that was really used is named here.
    for finding in findings.iter_mut().filter(|it| it.check == UNREACHABLE) {
        if let Some(role) = finding.database {
            finding.remedy = match &settings.backend {
                Backend::Embedded { .. } => remedy(settings, &[role]),
                Backend::Mongo(connections) => {
                    let used = connections.get(&role).map(|it| it.variable.as_str());
                    let usual = role.url_variable();
                    finding.remedy.replace(usual, used.unwrap_or(usual))
                }
            };
        }
    }
    let (reached, prepared) = (&examined.reached, &examined.prepared);
    findings.extend(servers::examine(settings, &context.servers, reached, prepared).await);
    // Where databases are wired wrongly, their data says nothing.
    let sound = findings
        .iter()
        .all(|finding| finding.severity != Severity::Error || finding.check == "topology");
    if sound && !prepared.is_empty() {
        findings.extend(data::examine(settings, context).await);
    }
    findings
}

fn exit(findings: &[Finding]) -> Exit {
    let any = |check: &str| findings.iter().any(|finding| finding.check == check);
    if findings.is_empty() {
        Exit::Done
    } else if any(CONFIGURATION) {
        Exit::Usage
    } else if any(UNREACHABLE) {
        Exit::Unreachable
    } else {
        Exit::Failed
    }
}

fn text(found: &Found) -> String {
    let told = found.findings.iter().map(|finding| {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let message = finding.message.replace('\n', "\n  ");
        let remedy = finding.remedy.replace('\n', "\n        ");
        format!("{severity}[{}]: {message}\n  help: {remedy}", finding.check)
    });
    told.collect::<Vec<_>>().join("\n")
}
