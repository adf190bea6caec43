//! `backup`: owns replicating main to srie by hand.

use clap::Args;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::db::Role;
use tierkeep_engine::{BackedUp, Backup, Purpose};
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::{Context, audit, restore};
use crate::exit::Exit;
use crate::lifecycle;

/// What has a backup.
const BACKED_UP: [Role; 2] = [Role::RaseenMainUser, Role::RaseenMainHr];

/// Arguments of `backup`.
#[derive(Args, Clone, Copy, Debug)]
pub struct BackupArgs {}

/// Replicates what has no completed backup.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub async fn run(_args: BackupArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let (engine, _) = context.open(&settings, Purpose::Work).await?;
    let trail = engine.audit_trail();
    audit::does(trail, AuditKind::AdminAction, "backup", None).await?;
    let stop = CancellationToken::new();
    lifecycle::cancel_on_signal(stop.clone());
    let progress = Progress::of(context, "checked");
    let progress = progress.counting(&engine, &BACKED_UP).await;
    let backup = Backup::new(engine);
    let told = |done: &BackedUp| progress.at(done.checked, format!(", {} copied", done.backed_up));
    let done = backup.run(&told, &stop).await;
    drop(progress);
    let done = done?;
    context.output().result(&done, text)?;
    Ok(if done.failed() > 0 || !done.complete {
        Exit::Failed
    } else {
        Exit::Done
    })
}

fn text(done: &BackedUp) -> String {
    let mut text = format!(
        "backed up {} of {} documents, in {} ms\n\
         unchanged: {}, newer in the backup: {}, erased: {}\n\
         corrupt: {}, conflicts: {}, refused: {}",
        done.backed_up,
        done.checked,
        done.elapsed_ms,
        done.unchanged,
        done.newer_in_backup,
        done.erased,
        done.corrupt,
        done.conflicts,
        done.refused,
    );
    if !done.complete {
        text.push_str("\nstopped before the end; repeat the command to continue");
    }
    text.push_str(&restore::troubles(&done.problems));
    text
}
