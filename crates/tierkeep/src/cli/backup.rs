//! `backup`: owns replicating main to srie by hand.

use std::io::{self, IsTerminal as _};

use clap::Args;
use tierkeep_core::audit::AuditKind;
use tierkeep_engine::{BackedUp, Backup, Purpose};
use tokio_util::sync::CancellationToken;

use super::{Context, audit, restore};
use crate::exit::Exit;
use crate::lifecycle;
use crate::output::Format;

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
    let backup = Backup::new(engine);
    let visible = context.format == Format::Text && io::stderr().is_terminal();
    let done = if visible {
        let bar = super::counting("{spinner} {pos} checked, {per_sec}{msg}");
        let told = |done: &BackedUp| {
            bar.set_position(done.checked);
            bar.set_message(format!(", {} copied", done.backed_up));
        };
        let done = backup.run(&told, &stop).await;
        bar.finish_and_clear();
        done?
    } else {
        backup.run(&|_| (), &stop).await?
    };
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
