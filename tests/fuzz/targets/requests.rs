//! Who asked for what: tokens as they are sent, and the log of what was asked for.

use afterimage::audit::{
    AuditEntry, AuditLog, AuditOutcome, Rotation, check_lines, read_lines, verify,
};
use afterimage::catalog::TokenSecret;
use afterimage::fsio::RealFileSystem;
use jiff::Timestamp;

/// What somebody sends as a token: what is accepted has its form, and is not shown by accident.
pub fn token(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some(secret) = TokenSecret::parse(text) else { return false };
    assert_eq!(secret.reveal(), text);
    assert!(text.len() == 47 && text.starts_with("aft_"));
    assert!(!format!("{secret:?}").contains(&text[4..]));
    true
}

/// An audit log: whatever is in its file, lines can be added, and what was in order stays so.
pub fn audit(bytes: &[u8]) -> bool {
    let before = check_lines(bytes);
    if before.broken.is_some() || before.lines == 0 {
        return false;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("audit.jsonl"), bytes).unwrap();
    let log = AuditLog::new(&RealFileSystem::shared(), folder.path(), Rotation::default());
    let entry = AuditEntry::new("uid:0", "POST /v1/runs", AuditOutcome::Asked);
    log.record(Timestamp::UNIX_EPOCH, &entry).unwrap();
    let after = verify(&log).unwrap();
    assert_eq!((after.broken, after.rest_bytes), (None, 0));
    let repaired = u64::from(before.rest_bytes > 0);
    assert_eq!(after.lines, before.lines + 1 + repaired);
    assert_eq!(after.torn, before.torn + repaired);
    assert_eq!(read_lines(&log, None, 1).unwrap()[0].entry, entry);
    true
}
