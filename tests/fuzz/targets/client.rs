//! What a daemon answers over its socket.

use afterimage::client::{AnswerReader, RawEvent, StreamReader};

/// Status, body and events of an answer that comes in pieces of `piece_bytes`; `None` when it is
/// refused.
fn read(bytes: &[u8], piece_bytes: usize) -> Option<(u16, Vec<u8>, Option<Vec<RawEvent>>)> {
    let mut answer = AnswerReader::default();
    let mut body = Vec::new();
    for piece in bytes.chunks(piece_bytes) {
        answer.push(piece, &mut body).ok()?;
    }
    answer.end().ok()?;
    assert!(answer.is_complete());
    let mut stream = StreamReader::default();
    let mut events = Vec::new();
    let is_stream = body.chunks(piece_bytes).all(|piece| stream.push(piece, &mut events).is_ok());
    Some((answer.status()?, body, is_stream.then_some(events)))
}

/// An answer: it is the same however it is cut, and no longer than what came.
pub fn daemon_answer(bytes: &[u8]) -> bool {
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(whole, read(bytes, 1));
    assert_eq!(whole, read(bytes, 7));
    let Some((status, body, events)) = whole else { return false };
    assert!((200..600).contains(&status));
    assert!(body.len() <= bytes.len());
    let told: usize = events.iter().flatten().map(|event| event.data.len()).sum();
    assert!(told <= body.len());
    true
}
