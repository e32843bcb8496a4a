//! Returning the space that no point needs.

use super::error::known;
use super::run::{About, Done, RunResult, execute, now};
use super::{OperationError, damage, open};
use crate::catalog::{RunKind, RunStatus};
use crate::progress::Progress;
use crate::retain::{GcOutcome, GcRequest, collect};
use crate::settings::Settings;
use crate::units::{Name, RunId, format_bytes, format_count};

/// Returns the space of a repository that no point needs.
///
/// # Errors
/// Nothing that a point needs was removed.
pub fn gc(settings: &Settings, repository: &Name, progress: &Progress) -> RunResult {
    let about = About::repository(RunKind::Gc, repository);
    execute(settings, about, progress, |run| run_gc(settings, repository, run, progress))
}

fn run_gc(
    settings: &Settings,
    name: &Name,
    run: RunId,
    progress: &Progress,
) -> Result<Done, OperationError> {
    let (name, place) = known(settings, "repository", &settings.repositories, name.as_str())?;
    let open = open::open_repository(settings, name)?;
    let request = GcRequest { fill_percent: place.gc_fill_percent, now: now(), run };
    let outcome = collect(&open.repository, &open.catalog, &request, progress)?;
    let mut done = Done::new(match outcome.pending_packs > 0 || !outcome.damages.is_empty() {
        true => RunStatus::Incomplete,
        false => RunStatus::Completed,
    });
    done.bytes_freed = Some(net_bytes(&outcome));
    done.detail = Some(describe(&outcome));
    done.warnings = outcome.damages.iter().map(|found| damage::describe(&open, found)).collect();
    if outcome.pending_packs > 0 {
        done.warnings.push(format!(
            "to be removed: {}, when the work has ended that began before this was found; run \
             `afterimage gc {name}` again then",
            format_count(outcome.pending_packs, "pack")
        ));
    }
    if outcome.short_of_room {
        done.warnings.push(
            "there is no room to write the needed part of sparse packs anew; free some space, \
             then run this again"
                .to_owned(),
        );
    }
    Ok(done)
}

fn describe(outcome: &GcOutcome) -> String {
    let all = outcome.live_bytes + outcome.dead_bytes;
    let idle_percent = if all == 0 { 0.0 } else { outcome.dead_bytes as f64 * 100.0 / all as f64 };
    let left = format!("{idle_percent:.1} % of {} is in no use", format_bytes(all));
    let rewritten = match outcome.rewritten_packs {
        0 => String::new(),
        packs => format!(
            "; wrote anew what is needed of {} ({})",
            format_count(packs, "pack"),
            format_bytes(outcome.rewritten_bytes)
        ),
    };
    match outcome.removed_packs {
        0 if outcome.pending_packs == 0 => format!("nothing to remove; {left}{rewritten}"),
        packs => format!(
            "freed {}: removed {} ({}){rewritten}; {left}",
            format_bytes(net_bytes(outcome)),
            format_count(packs, "pack"),
            format_bytes(outcome.freed_bytes),
        ),
    }
}

/// What went, without what was written for it.
fn net_bytes(outcome: &GcOutcome) -> u64 {
    outcome.freed_bytes.saturating_sub(outcome.rewritten_bytes)
}
