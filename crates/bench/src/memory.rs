//! Memory: the peak of `tierkeep migrate run`, for different numbers and sizes of documents.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::place::{Home, Place};
use crate::report::{self, Section};
use crate::{Bench, program};

/// How many of the largest documents there are among the others.
const LARGE: u64 = 16;
/// What the largest documents take, in bytes: as much as there may be, less what a move adds to them.
const LARGE_BYTES: usize = 16 * 1024 * 1024 - 64 * 1024;

/// One set of documents.
#[derive(Clone, Copy, Debug)]
struct Set {
    documents: u64,
    /// How many of them are as large as a document may be.
    large: u64,
    /// Whether another program wrote them.
    foreign: bool,
    goal: &'static str,
}

/// Moves sets of different sizes with the release binary.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let plain = |documents| Set {
        documents,
        large: 0,
        foreign: false,
        goal: "100 MB",
    };
    let foreign = |documents| Set {
        foreign: true,
        ..plain(documents)
    };
    let with_large = Set {
        large: LARGE.min(bench.small()),
        goal: "200 MB",
        ..plain(bench.small())
    };
    let sets = [
        plain(0),
        plain(bench.small()),
        plain(bench.arguments.documents),
        plain(bench.large()),
        foreign(bench.small()),
        foreign(bench.large()),
        with_large,
    ];
    let mut text = format!(
        "{}{}; one `tierkeep migrate run` of the release binary for each set; the peak is the kernel's (VmHWM).\n\n\
         | where | documents | written by | of these of 16 MB | peak, MB | goal |\n|---|---|---|---|---|---|\n",
        report::taken(),
        bench.settings()
    );
    for home in [&bench.mongodb, &bench.sqlite] {
        for set in sets {
            let peak = once(bench, home, set).await?;
            crate::say(&format!("memory, {}, {set:?}: {peak:.1} MB", home.name()));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {peak:.0} | {} |",
                home.name(),
                set.documents,
                if set.foreign {
                    "another program"
                } else {
                    "tierkeep"
                },
                set.large,
                set.goal
            );
        }
    }
    Ok(vec![Section {
        file: "benchmarks-move.md",
        name: "memory",
        text,
    }])
}

/// The peak in MB.
async fn once(bench: &Bench, home: &Home, set: Set) -> Result<f64> {
    let place = Place::fresh(home, "benchmemory").await?;
    if set.foreign {
        place.plant_foreign(set.documents).await?;
    } else if set.large > 0 {
        place
            .plant_with_large(set.documents, set.large, LARGE_BYTES)
            .await?;
    } else {
        place.plant(set.documents).await?;
    }
    let arguments = ["migrate", "run", "--json"];
    let environment = bench.environment_of(&place);
    let (summary, peak) = program::outcome(&bench.binary, &environment, &arguments).await?;
    ensure!(
        summary.get("moved").and_then(Value::as_u64) == Some(set.documents),
        "migrate run says {summary}"
    );
    place.check_moved(set.documents).await?;
    place.remove().await?;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    Ok(peak as f64 / 1e6)
}
