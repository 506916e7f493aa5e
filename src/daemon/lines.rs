//! Files of lines that outlive the daemon: read up to a bound, cut short, replaced whole, added to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;

/// A line that is longer than this is none.
pub const LINE: usize = 64 * 1024;

/// Of a file without an end only so many bytes are read.
const MOST: usize = 256 * LINE;

/// The lines of a file, and whether the last one is whole. What is no text, too long or torn is left
/// out.
pub fn read(path: &Path) -> io::Result<(Vec<String>, bool)> {
    of(File::open(path)?)
}

/// The same of whatever can be read.
pub fn of(file: impl Read) -> io::Result<(Vec<String>, bool)> {
    let mut lines = Vec::new();
    let mut whole = true;
    let mut file = BufReader::new(file.take(MOST as u64));
    let mut bytes = Vec::new();
    while file.read_until(b'\n', &mut bytes)? > 0 {
        whole = bytes.pop() == Some(b'\n');
        match std::str::from_utf8(&bytes) {
            Ok(line) if whole && line.len() <= LINE => lines.push(line.to_string()),
            _ => {}
        }
        bytes.clear();
    }
    Ok((lines, whole))
}

/// The lines of a file, of none when there is no file. Where they are more than `most`, or the last is
/// torn, the newest `keep` of them take the file's place.
///
/// # Errors
/// Says what cannot be read or written.
pub fn trim(path: &Path, most: usize, keep: usize) -> io::Result<Vec<String>> {
    let (mut lines, whole) = match read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(named(path))?,
    };
    if lines.len() > most || !whole {
        lines.drain(..lines.len().saturating_sub(keep));
        replace(path, &lines)?;
    }
    Ok(lines)
}

/// Puts these lines in a file's place: it has all of them or those of before.
///
/// # Errors
/// Says what cannot be written.
pub fn replace(path: &Path, lines: &[String]) -> io::Result<()> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        for line in lines {
            file.write_all(line.as_bytes())?;
            file.write_all(b"\n")?;
        }
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(named(path))
}

/// Adds a line at the end, in one piece.
///
/// # Errors
/// Says what cannot be written.
pub fn append(path: &Path, mut line: String) -> io::Result<()> {
    line.push('\n');
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).open(path)?;
        file.write_all(line.as_bytes())
    };
    write().map_err(named(path))
}

/// Says which file it was.
pub fn named(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    |e| io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

/// A folder of a test's own, empty.
#[cfg(test)]
pub fn folder(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("tailover-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a folder");
    dir
}
