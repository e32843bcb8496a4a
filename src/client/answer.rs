//! Answers of HTTP/1.1, byte by byte as they come in.
//!
//! Invariant: whatever comes in, no more is kept of it than the head's limit; the body goes to
//! the caller, who limits it.

/// Longest head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest line that gives the size of a piece, in bytes.
const SIZE_LINE_BYTES_MAX: usize = 256;
/// Most bytes of what follows the last piece.
const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The head is too long.
    #[error("its head has more than {HEAD_BYTES_MAX} bytes")]
    LongHead,
    /// The first line is no status.
    #[error("it does not begin with a status of HTTP/1.1")]
    Status,
    /// A field of the head makes no sense.
    #[error("a field of its head makes no sense")]
    Field,
    /// The size of a piece makes no sense.
    #[error("a piece of it has no size")]
    Piece,
    /// It ends too early.
    #[error("it ends too early")]
    Short,
}

/// What is to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// So many bytes.
    Length(u64),
    /// All until the connection ends.
    Rest,
    /// A line with the size of the next piece.
    Size,
    /// So many bytes of a piece.
    Piece(u64),
    /// The end of the line after a piece.
    PieceEnd,
    /// Lines after the last piece, up to an empty one.
    Trailer,
    /// Nothing.
    Done,
}

/// Reads one answer.
#[derive(Debug, Default)]
pub struct AnswerReader {
    /// The head so far, or a line within the body.
    line: Vec<u8>,
    trailer_bytes: usize,
    status: u16,
    body: Option<Body>,
}

impl AnswerReader {
    /// The status, once the head is there.
    pub fn status(&self) -> Option<u16> {
        self.body.map(|_| self.status)
    }

    /// Whether nothing more is to come.
    pub fn is_complete(&self) -> bool {
        self.body == Some(Body::Done)
    }

    /// Takes bytes that came in, and adds what is of the body to `body`. What follows a complete
    /// answer is passed over.
    ///
    /// # Errors
    /// When it is no answer. The reader is of no use then.
    pub fn push(&mut self, mut bytes: &[u8], body: &mut Vec<u8>) -> Result<(), AnswerError> {
        while !bytes.is_empty() && !self.is_complete() {
            bytes = match self.body {
                None => self.push_head(bytes)?,
                Some(state) => self.push_body(state, bytes, body)?,
            };
        }
        Ok(())
    }

    /// The connection ended.
    ///
    /// # Errors
    /// [`AnswerError::Short`] when something was still to come.
    pub fn end(&mut self) -> Result<(), AnswerError> {
        match self.body {
            Some(Body::Done | Body::Rest) => {
                self.body = Some(Body::Done);
                Ok(())
            }
            _ => Err(AnswerError::Short),
        }
    }

    /// Takes one line, with its end, of what is at most `limit` long; gives back the rest.
    fn take_line<'b>(&mut self, bytes: &'b [u8], limit: usize) -> Option<(bool, &'b [u8])> {
        let (line, rest, ends) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                let (line, rest) = bytes.split_at(at + 1);
                (line, rest, true)
            }
            None => (bytes, &[][..], false),
        };
        if self.line.len() + line.len() > limit {
            return None;
        }
        self.line.extend_from_slice(line);
        Some((ends, rest))
    }

    fn push_head<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], AnswerError> {
        let (ends, rest) = self.take_line(bytes, HEAD_BYTES_MAX).ok_or(AnswerError::LongHead)?;
        let is_last = |head: &[u8]| head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n");
        if ends && is_last(&self.line) {
            let head = std::mem::take(&mut self.line);
            let text = std::str::from_utf8(&head).map_err(|_| AnswerError::Field)?;
            (self.status, self.body) =
                read_head(text).map(|(status, body)| (status, Some(body)))?;
        }
        Ok(rest)
    }

    fn push_body<'b>(
        &mut self,
        state: Body,
        bytes: &'b [u8],
        body: &mut Vec<u8>,
    ) -> Result<&'b [u8], AnswerError> {
        match state {
            Body::Rest => {
                body.extend_from_slice(bytes);
                Ok(&[])
            }
            Body::Length(left) | Body::Piece(left) => {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (taken, rest) = bytes.split_at(take);
                body.extend_from_slice(taken);
                self.body = Some(match (state, left - take as u64) {
                    (Body::Length(_), 0) => Body::Done,
                    (Body::Length(_), left) => Body::Length(left),
                    (_, 0) => Body::PieceEnd,
                    (_, left) => Body::Piece(left),
                });
                Ok(rest)
            }
            Body::Size | Body::PieceEnd | Body::Trailer => self.push_line(state, bytes),
            Body::Done => Ok(&[]),
        }
    }

    fn push_line<'b>(&mut self, state: Body, bytes: &'b [u8]) -> Result<&'b [u8], AnswerError> {
        let (ends, rest) = self.take_line(bytes, SIZE_LINE_BYTES_MAX).ok_or(AnswerError::Piece)?;
        if !ends {
            return Ok(rest);
        }
        let line = std::mem::take(&mut self.line);
        let text = std::str::from_utf8(&line).map_err(|_| AnswerError::Piece)?.trim_end();
        self.body = Some(match state {
            Body::Size => {
                // After `;` come extensions that mean nothing here.
                let digits = text.split(';').next().unwrap_or_default().trim();
                match read_size(digits).ok_or(AnswerError::Piece)? {
                    0 => Body::Trailer,
                    size => Body::Piece(size),
                }
            }
            Body::Trailer if text.is_empty() => Body::Done,
            Body::Trailer => {
                self.trailer_bytes += line.len();
                if self.trailer_bytes > TRAILER_BYTES_MAX {
                    return Err(AnswerError::Piece);
                }
                Body::Trailer
            }
            _ if text.is_empty() => Body::Size,
            _ => return Err(AnswerError::Piece),
        });
        Ok(rest)
    }
}

/// Hexadecimal digits only; no sign.
fn read_size(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// The status, and what body comes.
fn read_head(text: &str) -> Result<(u16, Body), AnswerError> {
    let mut lines = text.lines();
    let first = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = first.and_then(|line| line.get(..3)).ok_or(AnswerError::Status)?;
    let status: u16 = status.parse().map_err(|_| AnswerError::Status)?;
    // Nothing asks for an interim answer.
    if !(200..600).contains(&status) {
        return Err(AnswerError::Status);
    }
    let mut length = None;
    let mut in_pieces = false;
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(AnswerError::Field)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let number = value.parse::<u64>().ok().filter(|_| is_number);
            // Two that differ could be read in two ways.
            let number = number.ok_or(AnswerError::Field)?;
            if length.is_some_and(|before| before != number) {
                return Err(AnswerError::Field);
            }
            length = Some(number);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(AnswerError::Field);
            }
            in_pieces = true;
        }
    }
    let body = match (status, in_pieces, length) {
        (204 | 304, ..) => Body::Done,
        (_, true, Some(_)) => return Err(AnswerError::Field),
        (_, true, None) => Body::Size,
        (_, false, Some(0)) => Body::Done,
        (_, false, Some(length)) => Body::Length(length),
        (_, false, None) => Body::Rest,
    };
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, piece: usize) -> Result<(u16, String, bool), AnswerError> {
        let mut reader = AnswerReader::default();
        let mut body = Vec::new();
        for part in text.as_bytes().chunks(piece) {
            reader.push(part, &mut body)?;
        }
        let status = reader.status().ok_or(AnswerError::Short)?;
        Ok((status, String::from_utf8(body).unwrap(), reader.is_complete()))
    }

    #[test]
    fn an_answer_is_the_same_however_it_is_cut() {
        for (text, status, body) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, "hello"),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n9;x=y\r\n, \
                 there!!\r\n0\r\na: b\r\n\r\n",
                200,
                "hello, there!!",
            ),
        ] {
            for piece in 1..text.len() {
                let expected = Ok((status, body.to_owned(), true));
                assert_eq!(read(text, piece), expected, "{piece}: {text}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(HEAD_BYTES_MAX));
        for (text, error) in [
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", AnswerError::Status),
            ("HTTP/1.1 100 Continue\r\n\r\n", AnswerError::Status),
            ("HTTP/1.1 200 OK\r\nnothing\r\n\r\n", AnswerError::Field),
            ("HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n", AnswerError::Field),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
                AnswerError::Field,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+5\r\nhello",
                AnswerError::Piece,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhello\r\n",
                AnswerError::Piece,
            ),
            (&long, AnswerError::LongHead),
        ] {
            assert_eq!(read(text, 7), Err(error), "{text:.60}");
        }
    }

    #[test]
    fn an_answer_that_ends_too_early_is_short() {
        let mut reader = AnswerReader::default();
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell";
        reader.push(text, &mut Vec::new()).unwrap();
        assert_eq!(reader.end(), Err(AnswerError::Short));
    }
}
