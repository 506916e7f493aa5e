//! Reads the text of a UCI file (`/etc/config/NAME`) into sections and their option lines.
//!
//! The grammar is libuci's (`file.c`): commands `package`, `config`, `option` and `list`, or their
//! first letter; `;` and the end of a line end a command; `#` outside quotes starts a comment;
//! quoted and bare pieces without a blank between them are one word; a backslash outside single
//! quotes takes the next character as it is, and at the end of a line joins the next one; a quoted
//! word may span lines. Unlike libuci, reading goes on after an error, so that all of a file's
//! errors can be shown at once.

/// One `config TYPE ['NAME']` and the lines below it, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The type: `tailover` in `config tailover 'main'`.
    pub kind: String,
    /// The name; `None` for an unnamed section.
    pub name: Option<String>,
    /// The line of the `config` word, counted from 1.
    pub line: usize,
    /// The `option` and `list` lines.
    pub items: Vec<Item>,
}

/// One `option NAME VALUE` or `list NAME VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Letters, digits and `_` only.
    pub name: String,
    /// The value with quotes and escapes resolved; empty when there was none.
    pub value: String,
    /// Whether the line said `list`.
    pub list: bool,
    /// The line the command starts on, counted from 1.
    pub line: usize,
}

/// A place where the text is not UCI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, as a part of a sentence.
    pub reason: String,
}

/// Reads all of `text`: what could be understood, and every error met on the way.
///
/// After an error reading goes on at the start of the next line.
pub fn parse(text: &[u8]) -> (Vec<Section>, Vec<SyntaxError>) {
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
    };
    let mut sections = Vec::new();
    let mut errors = Vec::new();
    while reader.peek().is_some() {
        let line = reader.line;
        match reader.command() {
            Ok(words) => errors.extend(take(&mut sections, &words, line).err()),
            Err(error) => {
                errors.push(error);
                reader.skip_line();
            }
        }
    }
    (sections, errors)
}

/// Adds one command's words to the sections read so far.
fn take(sections: &mut Vec<Section>, words: &[String], line: usize) -> Result<(), SyntaxError> {
    let fail = |reason: String| Err(SyntaxError { line, reason });
    let Some((command, words)) = words.split_first() else {
        return Ok(());
    };
    match command.as_str() {
        // A file in /etc/config has its package by its name; the line is legal and says nothing.
        "package" | "p" => match words {
            [_] => Ok(()),
            _ => fail("'package' takes one name".to_owned()),
        },
        "config" | "c" => {
            let (kind, name) = match words {
                [kind] => (kind, None),
                [kind, name] => (kind, Some(name).filter(|name| !name.is_empty())),
                [] => return fail("'config' lacks a type".to_owned()),
                _ => return fail("'config' takes a type and a name, no more".to_owned()),
            };
            if kind.is_empty() || !kind.bytes().all(|byte| byte.is_ascii_graphic()) {
                return fail(format!("'{}' is no section type", kind.escape_debug()));
            }
            if let Some(name) = name.filter(|name| !is_name(name)) {
                return fail(format!(
                    "'{}' is no section name: letters, digits and _ only",
                    name.escape_debug()
                ));
            }
            sections.push(Section {
                kind: kind.clone(),
                name: name.cloned(),
                line,
                items: Vec::new(),
            });
            Ok(())
        }
        "option" | "o" | "list" | "l" => {
            let (name, value) = match words {
                [name] => (name, ""),
                [name, value] => (name, value.as_str()),
                [] => return fail(format!("'{command}' lacks a name")),
                _ => {
                    return fail(format!(
                        "'{command}' takes a name and a value, no more: quote a value with blanks"
                    ))
                }
            };
            if !is_name(name) {
                return fail(format!(
                    "'{}' is no option name: letters, digits and _ only",
                    name.escape_debug()
                ));
            }
            let Some(section) = sections.last_mut() else {
                return fail(format!("'{command}' stands before the first 'config'"));
            };
            section.items.push(Item {
                name: name.clone(),
                value: value.to_owned(),
                list: command.starts_with('l'),
                line,
            });
            Ok(())
        }
        other => fail(format!(
            "'{}' is no UCI command: package, config, option or list",
            other.escape_debug()
        )),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A place in the text.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at = self.at.saturating_add(1);
        if byte == b'\n' {
            self.line = self.line.saturating_add(1);
        }
        Some(byte)
    }

    /// Moves to the start of the next line.
    fn skip_line(&mut self) {
        while let Some(byte) = self.next() {
            if byte == b'\n' {
                return;
            }
        }
    }

    /// The words up to the end of the command, which is consumed.
    fn command(&mut self) -> Result<Vec<String>, SyntaxError> {
        let mut words = Vec::new();
        loop {
            match self.peek() {
                None => return Ok(words),
                Some(b'\n' | b';') => {
                    self.next();
                    return Ok(words);
                }
                Some(b'#') => {
                    self.skip_line();
                    return Ok(words);
                }
                Some(byte) if is_blank(byte) => {
                    self.next();
                }
                Some(_) => words.push(self.word()?),
            }
        }
    }

    /// One word, of bare and quoted pieces.
    ///
    /// A quote that is never closed takes the rest of the file, and often it is an earlier line of
    /// the same word that lacks one. So the error names the word's first line, and reading stands
    /// there again.
    fn word(&mut self) -> Result<String, SyntaxError> {
        let (at, line) = (self.at, self.line);
        let mut word = Vec::new();
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' | b';' | b'#' => break,
                byte if is_blank(byte) => break,
                b'\'' | b'"' => {
                    if let Err(reason) = self.quoted(byte, &mut word) {
                        (self.at, self.line) = (at, line);
                        return Err(SyntaxError { line, reason });
                    }
                }
                b'\\' => self.escaped(&mut word),
                _ => {
                    word.push(byte);
                    self.next();
                }
            }
        }
        String::from_utf8(word).map_err(|_| SyntaxError {
            line,
            reason: "a word that is not UTF-8".to_owned(),
        })
    }

    /// A quoted piece of a word. `Err`: it is never closed.
    fn quoted(&mut self, quote: u8, word: &mut Vec<u8>) -> Result<(), String> {
        self.next();
        loop {
            match self.peek() {
                None => return Err(format!("a {} that is never closed", quote as char)),
                Some(byte) if byte == quote => {
                    self.next();
                    return Ok(());
                }
                Some(b'\\') if quote == b'"' => self.escaped(word),
                Some(byte) => {
                    word.push(byte);
                    self.next();
                }
            }
        }
    }

    /// A backslash and what follows: the next character as it is, or the end of the line dropped.
    fn escaped(&mut self, word: &mut Vec<u8>) {
        self.next();
        let rest = self.text.get(self.at..).unwrap_or_default();
        if rest.starts_with(b"\r\n") {
            self.next();
        }
        match self.next() {
            None | Some(b'\n') => {}
            Some(byte) => word.push(byte),
        }
    }
}

/// C's `isspace` without the newline, which ends a command.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)
}
