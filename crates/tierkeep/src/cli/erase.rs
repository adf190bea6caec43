//! `erase`: owns the erasure of one user by an operator.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::Role;
use tierkeep_core::erasure::tiers;
use tierkeep_core::store::StoreError;
use tierkeep_core::user::UserId;
use tierkeep_engine::{
    AuditFilter, AuditTrail, ErasureService, Explanation, Inspector, Listed, Purpose,
};

use super::question::confirmed;
use super::{Context, audit};
use crate::exit::Exit;

/// How many exports are named, the newest first.
const EXPORTS_NAMED: usize = 20;
/// How many entries of the trail are read at a time.
const PAGE: usize = 1_000;

/// Arguments of `erase`.
#[derive(Args, Clone, Debug)]
pub struct EraseArgs {
    /// The complete user id (`internal_…` or `external_…`); `tierkeep explain` finds it by name
    #[arg(value_name = "USER_ID", value_parser = UserId::parse)]
    pub user: UserId,
    /// Only show the copies that would be erased, and exports that may also hold the user's data
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation; without a terminal, there is no question
    #[arg(long)]
    pub yes: bool,
}

#[derive(Serialize)]
struct ErasureReport {
    user_id: String,
    dry_run: bool,
    pending: Vec<Role>,
    /// The copies that were or would be erased.
    copies: Vec<Erasable>,
    /// Exports that may hold the user's data: files are out of reach.
    exports: Exports,
}

#[derive(Clone, Serialize)]
struct Erasable {
    database: Role,
    version: Option<i64>,
    size: usize,
}

/// Exports in the audit trail: of everything, or of this user.
#[derive(Clone, Default, Serialize)]
struct Exports {
    count: u64,
    /// The newest, RFC 3339 times with what was written where.
    newest: Vec<ExportMade>,
}

#[derive(Clone, Serialize)]
struct ExportMade {
    at: String,
    /// Absolute; none in entries of earlier versions.
    directory: Option<String>,
}

/// Erases one user from every database.
///
/// # Errors
/// A user without any data; wrong configuration; databases that cannot be reached, and then nothing was
/// erased.
pub async fn run(args: &EraseArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let user = &args.user;
    let purpose = if args.dry_run {
        Purpose::Look
    } else {
        Purpose::Work
    };
    let (engine, _) = context.open(&settings, purpose).await?;
    let trail = engine.audit_trail().clone();
    let erasures = ErasureService::new(engine.clone());
    if !erasures.is_known(user).await? {
        anyhow::bail!("no such user: {user}");
    }
    let found = Inspector::new(engine, settings.mover).explain(user).await;
    let mut report = ErasureReport {
        user_id: user.to_string(),
        dry_run: args.dry_run,
        pending: away(found.as_ref()),
        copies: erasable(found.as_ref()),
        exports: exports(&trail, user).await?,
    };
    if !args.dry_run {
        let question = format!("Permanently erase {user}: {}?", copies(&report.copies));
        if !args.yes && !confirmed(&question)? {
            anyhow::bail!("nothing was erased");
        }
        audit::does(&trail, AuditKind::Erasure, "erase", Some(user)).await?;
        report.pending = erasures.erase(user).await?.pending;
    }
    let exit = if report.pending.is_empty() {
        Exit::Done
    } else {
        Exit::Unreachable
    };
    context.output().result(&report, |it| text(user, it))?;
    Ok(exit)
}

/// The databases of which it is not known what they hold.
fn away(found: Option<&Explanation>) -> Vec<Role> {
    found.map_or_else(Vec::new, |found| found.unreachable.clone())
}

fn erasable(found: Option<&Explanation>) -> Vec<Erasable> {
    let copies = found.map_or(&[][..], |found| found.copies.as_slice());
    let live = copies.iter().filter(|copy| copy.state != "erased");
    live.map(|copy| Erasable {
        database: copy.database,
        version: copy.version,
        size: copy.size,
    })
    .collect()
}

async fn exports(trail: &AuditTrail, user: &UserId) -> Result<Exports, StoreError> {
    let filter = AuditFilter {
        kind: Some(AuditKind::AdminAction),
        user: None,
    };
    let mut exports = Exports::default();
    let mut after = None;
    loop {
        let page = trail.page(&filter, after, PAGE).await?;
        for item in page.items {
            let Listed::Entry(entry) = item else {
                continue;
            };
            let is_export = matches!(entry.decision(), Some("export" | "copy"));
            let is_of_another = entry.user_id().is_some_and(|it| it != user.as_str());
            if is_export && !is_of_another {
                exports.count += 1;
                exports.newest.insert(
                    0,
                    ExportMade {
                        at: rfc3339(entry.at()),
                        directory: entry.reason().map(str::to_owned),
                    },
                );
                exports.newest.truncate(EXPORTS_NAMED);
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(exports);
        }
    }
}

fn copies(copies: &[Erasable]) -> String {
    if copies.is_empty() {
        return "no copies".to_owned();
    }
    let copies: Vec<String> = copies
        .iter()
        .map(|copy| {
            let version = copy
                .version
                .map_or_else(String::new, |version| format!(" version {version},"));
            format!("{}{version} {} bytes", copy.database, copy.size)
        })
        .collect();
    copies.join("; ")
}

fn text(user: &UserId, report: &ErasureReport) -> String {
    let names = |roles: &[Role]| {
        let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
        names.join(", ")
    };
    let pending = names(&report.pending);
    let mut text = match (report.dry_run, report.pending.is_empty()) {
        (true, is_known) => {
            let mut text = format!("would erase {user}: {}", copies(&report.copies));
            if !is_known {
                let _ = write!(text, "\nunavailable, so unknown: {pending}");
            }
            text
        }
        (false, true) => format!("erased {user} from {}", names(tiers(user.user_type()))),
        (false, false) => format!(
            "erased {user}, but not confirmed by {pending}\n`tierkeep serve` completes the erasure when they are \
             available again; repeating the command does too"
        ),
    };
    let exports = &report.exports;
    if exports.count > 0 {
        let _ = write!(
            text,
            "\n{} recorded in the audit trail may hold the user's data; erase it there by hand:",
            if exports.count == 1 {
                "1 export".to_owned()
            } else {
                format!("{} exports", exports.count)
            }
        );
        for export in &exports.newest {
            let directory = export.directory.as_deref().unwrap_or("directory unknown");
            let _ = write!(text, "\n  {}  {directory}", export.at);
        }
        let more = exports.count - exports.newest.len() as u64;
        if more > 0 {
            let _ = write!(text, "\n  and {more} earlier");
        }
    }
    text
}
