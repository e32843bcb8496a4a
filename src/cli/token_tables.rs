//! Tables about tokens and the audit log.

use super::tables::{or_none, render};
use super::text;
use crate::audit::{AuditLine, AuditOutcome, AuditVerdict};
use crate::catalog::Scope;
use crate::report::TokenLine;
use crate::units::format_count;

/// Tokens, without their secrets.
pub(super) fn tokens(lines: &[TokenLine]) -> String {
    let rows = lines.iter().map(|line| {
        let scopes: Vec<&str> = line.scopes.iter().copied().map(Scope::word).collect();
        let machines = line.machines.as_ref().map(|machines| {
            machines.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        });
        let state = match (line.valid, line.revoked) {
            (true, _) => "counts".to_owned(),
            (false, Some(at)) => format!("revoked {}", text::time(at)),
            (false, None) => "expired".to_owned(),
        };
        vec![
            line.name.to_string(),
            scopes.join(", "),
            machines.unwrap_or_else(|| "all".to_owned()),
            text::time(line.created),
            line.expires.map_or_else(|| "never".to_owned(), text::time),
            or_none(line.used.map(text::time)),
            state,
        ]
    });
    let header = ["TOKEN", "SCOPES", "MACHINES", "MADE", "ENDS", "LAST USED", "STATE"];
    render(&header, &[], rows.collect())
}

/// Lines of the audit log.
pub(super) fn audit(lines: &[AuditLine]) -> String {
    let rows = lines.iter().map(|line| {
        let entry = &line.entry;
        let outcome = match entry.outcome {
            AuditOutcome::Asked => "asked",
            AuditOutcome::Done => "done",
            AuditOutcome::Refused => "refused",
            AuditOutcome::Failed => "failed",
        };
        let times = entry.count.map(|count| format!("{count} times"));
        let detail: Vec<String> = entry.detail.clone().into_iter().chain(times).collect();
        vec![
            line.sequence.to_string(),
            text::time(line.time),
            entry.who.clone(),
            or_none(entry.peer.clone()),
            entry.what.clone(),
            or_none(entry.subject.clone()),
            outcome.to_owned(),
            or_none((!detail.is_empty()).then(|| detail.join("; "))),
        ]
    });
    let header = ["LINE", "TIME", "WHO", "FROM", "WHAT", "SUBJECT", "OUTCOME", "DETAIL"];
    render(&header, &[0], rows.collect())
}

/// That the chain of the audit log is whole.
pub(super) fn verdict(verdict: &AuditVerdict) -> String {
    let mut told = format!(
        "{} in {} are in order",
        format_count(verdict.lines, "line"),
        format_count(verdict.files, "file")
    );
    if let (Some(first), Some(last)) = (verdict.first, verdict.last) {
        told += &format!(", {first} to {last}");
    }
    if let Some(digest) = &verdict.digest {
        told += &format!("; the last one's SHA-256 is {digest}");
    }
    if verdict.torn > 0 {
        told += &format!("; a crash tore {}", format_count(verdict.torn, "line"));
    }
    told
}
