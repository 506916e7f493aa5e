//! The frame of an HTTP/1.1 answer: header, then a body by length, in chunks, or to the end.

/// Bound of the answer's header, and of one chunk-size line.
const MAX_HEAD: usize = 16 * 1024;
const MAX_SIZE_LINE: usize = 64;

/// Takes an answer's bytes as they come and hands out those of its body (RFC 9112, section 6).
#[derive(Debug, Default)]
pub(super) struct Frame {
    stage: Stage,
    status: Option<u16>,
    /// The header, then each chunk-size line.
    head: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Head,
    /// Until the stream ends.
    Endless,
    Length {
        left: u64,
    },
    Size,
    Data {
        left: u64,
    },
    /// The CR LF behind a chunk's data.
    DataEnd,
    Ended,
}

impl Frame {
    /// The HTTP status, once the header is complete.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the whole answer has come; one without a length ends only with the stream.
    pub(super) fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// It has ended within the body. Within the header [`Frame::status`] is still `None`.
    pub(super) fn close(&self) -> Result<(), &'static str> {
        match self.stage {
            Stage::Head | Stage::Endless | Stage::Ended => Ok(()),
            Stage::Length { .. } | Stage::Size | Stage::Data { .. } | Stage::DataEnd => {
                Err("half an answer")
            }
        }
    }

    /// Takes the next bytes and hands those of the body to `take`.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), &'static str> {
        while let Some((first, rest)) = bytes.split_first() {
            match self.stage {
                Stage::Head => {
                    bytes = rest;
                    self.head.push(*first);
                    if self.head.ends_with(b"\r\n\r\n") {
                        let (status, stage) = read_head(&self.head).ok_or("no HTTP header")?;
                        (self.status, self.stage) = (Some(status), stage);
                        self.head = Vec::new();
                    } else if self.head.len() >= MAX_HEAD {
                        return Err("an endless header");
                    }
                }
                Stage::Endless => {
                    take(bytes);
                    bytes = &[];
                }
                Stage::Length { left } => {
                    let (left, rest) = part(left, bytes, &mut take);
                    bytes = rest;
                    self.stage = body(left);
                }
                Stage::Size => {
                    bytes = rest;
                    if *first != b'\n' {
                        self.head.push(*first);
                        if self.head.len() > MAX_SIZE_LINE {
                            return Err("an endless chunk size");
                        }
                        continue;
                    }
                    let left = chunk_size(&self.head).ok_or("a bad chunk size")?;
                    self.head.clear();
                    self.stage = match left {
                        0 => Stage::Ended,
                        left => Stage::Data { left },
                    };
                }
                Stage::Data { left } => {
                    let (left, rest) = part(left, bytes, &mut take);
                    bytes = rest;
                    self.stage = match left {
                        0 => Stage::DataEnd,
                        left => Stage::Data { left },
                    };
                }
                Stage::DataEnd => {
                    bytes = rest;
                    match first {
                        b'\r' => {}
                        b'\n' => self.stage = Stage::Size,
                        _ => return Err("a chunk longer than its size"),
                    }
                }
                // Trailers; there is nothing behind them.
                Stage::Ended => return Ok(()),
            }
        }
        Ok(())
    }
}

/// Hands out what of `bytes` belongs to the next `left`. Gives what is left of both.
fn part<'a>(left: u64, bytes: &'a [u8], take: &mut impl FnMut(&[u8])) -> (u64, &'a [u8]) {
    let fits = usize::try_from(left).unwrap_or(usize::MAX);
    let (data, rest) = bytes.split_at(fits.min(bytes.len()));
    take(data);
    (left.saturating_sub(data.len() as u64), rest)
}

fn body(left: u64) -> Stage {
    match left {
        0 => Stage::Ended,
        left => Stage::Length { left },
    }
}

/// The status, and how the body comes.
fn read_head(head: &[u8]) -> Option<(u16, Stage)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    if !words.next()?.starts_with("HTTP/1.") {
        return None;
    }
    let status = words.next()?.parse().ok()?;
    // 204 has no body, whatever its header says.
    let mut stage = match status {
        204 => Stage::Ended,
        _ => Stage::Endless,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            // Chunks go before a length (RFC 9112, section 6.3).
            return Some((status, Stage::Size));
        }
        if name.eq_ignore_ascii_case("content-length") {
            stage = body(value.parse().ok()?);
        }
    }
    Some((status, stage))
}

/// Hexadecimal, perhaps with an extension behind a semicolon.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?;
    let digits = line.split(';').next()?.trim();
    // from_str_radix would take a sign.
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}
