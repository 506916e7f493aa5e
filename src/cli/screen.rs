//! What standard output can show: its width, colours, letters beyond ASCII.
//!
//! A serial console tells no width and often no locale; OpenWrt's default has none (`LANG` is not set),
//! so nothing but ASCII goes out unless the locale says UTF-8. Into a pipe each line goes whole, so that
//! `grep` works.

use std::io::{self, IsTerminal};

/// Columns where the terminal does not tell.
const USUAL: usize = 80;

/// Below this many columns the table is told without its columns.
const NARROW: usize = 60;

/// How a line begins, a word that is in it, and the number of the colour (ECMA-48): 31 red, 32 green,
/// 33 yellow. The first that fits colours it.
const COLOURS: [(&str, &str, &str); 13] = [
    ("fault", "", "31"),
    ("failed", "", "31"),
    ("waiting", "", "33"),
    ("the daemon", "", "33"),
    ("well again", "", "32"),
    ("uplink", " closed", "31"),
    ("uplink", " portal", "33"),
    ("uplink", " dns-dead", "33"),
    ("uplink", " open", "32"),
    ("path", " closed", "31"),
    ("path", " portal", "33"),
    ("path", " dns-dead", "33"),
    ("path", " open", "32"),
];

/// Where lines go. The default is a pipe that knows ASCII.
#[derive(Default)]
pub struct Screen {
    /// Columns of the terminal; `None` when it is none.
    width: Option<usize>,
    colour: bool,
    /// Whether it has letters beyond ASCII.
    pub utf8: bool,
}

impl Screen {
    pub fn of_stdout() -> Screen {
        let out = io::stdout();
        let word = |name: &str| std::env::var(name).unwrap_or_default();
        let terminal = out.is_terminal();
        let told = || rustix::termios::tcgetwinsize(&out).map_or(0, |w| usize::from(w.ws_col));
        let width = terminal.then(told).map(|told| match told {
            // A serial console; a shell there may know.
            0 => word("COLUMNS").parse().unwrap_or(USUAL),
            told => told,
        });
        // The first that is set decides (POSIX, environment variables).
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(word);
        let locale = locale.iter().find(|l| !l.is_empty());
        let utf8 = locale.is_some_and(|l| {
            let l = l.to_ascii_lowercase();
            l.find("utf-8").or(l.find("utf8")).is_some()
        });
        let plain = matches!(word("TERM").as_str(), "" | "dumb") || !word("NO_COLOR").is_empty();
        Screen {
            width: width.map(|w| w.max(20)),
            colour: terminal && !plain,
            utf8,
        }
    }

    /// Whether there is little room for a table.
    pub fn narrow(&self) -> bool {
        self.width.is_some_and(|w| w < NARROW)
    }

    /// The text as it can be shown. What follows a line's `indent`th column is folded to stand below
    /// itself; the rows of uplinks and paths are cut instead, to keep the table one.
    pub fn fit(&self, text: &str, indent: usize) -> String {
        let mut out = String::new();
        for line in text.lines() {
            let line = clean(line, self.utf8);
            let colour = if self.colour { colour(&line) } else { None };
            if let Some(colour) = colour {
                out.extend(["\u{1b}[", colour, "m"]);
            }
            self.line(&line, indent, &mut out);
            if colour.is_some() {
                out += "\u{1b}[0m";
            }
            out.push('\n');
        }
        out.truncate(out.trim_end_matches('\n').len());
        out
    }

    fn line(&self, line: &str, indent: usize, out: &mut String) {
        let Some(width) = self.width else {
            *out += line;
            return;
        };
        let row = ["uplink ", "path ", "day "]
            .iter()
            .any(|l| line.starts_with(l));
        let squeezed: String;
        let (line, indent) = match self.narrow() {
            true => {
                let begin = line.len() - line.trim_start().len();
                let words: Vec<&str> = line.split_whitespace().collect();
                squeezed = " ".repeat(begin.min(2)) + &words.join(" ");
                (squeezed.as_str(), begin.min(2) + 2)
            }
            false => (line, indent),
        };
        let count = line.chars().count();
        if row {
            let keep = if count > width { width - 2 } else { count };
            out.extend(line.chars().take(keep));
            *out += if count > width { ".." } else { "" };
            return;
        }
        let mut room = width;
        let mut rest = line;
        while rest.chars().count() > room {
            let edge = rest
                .char_indices()
                .nth(room)
                .map_or(rest.len(), |(at, _)| at);
            let (head, _) = rest.split_at(edge);
            // At a space, if there is one behind what is indented anyway.
            let at = match head.rfind(' ').filter(|at| !head[..*at].trim().is_empty()) {
                Some(at) => at,
                None => edge,
            };
            let (head, tail) = rest.split_at(at);
            *out += head.trim_end();
            *out += "\n";
            *out += &" ".repeat(indent);
            rest = tail.trim_start();
            room = width - indent;
        }
        *out += rest;
    }
}

/// A line without control characters (a portal's words may have some), and without letters beyond ASCII
/// unless those can be shown.
pub fn clean(line: &str, utf8: bool) -> String {
    let mut out = String::new();
    for c in line.chars() {
        let odd = c.is_control() && c != '\t' || !utf8 && !c.is_ascii();
        out.push(if odd { '?' } else { c });
    }
    out
}

/// The number of a line's colour.
fn colour(line: &str) -> Option<&'static str> {
    // Behind the time of day that lines of a watch begin with.
    let text = line.trim_start_matches(|c: char| c.is_ascii_digit() || ": ".contains(c));
    let fits =
        |(begin, word, _): &&(&str, &str, _)| text.starts_with(begin) && text.find(word).is_some();
    let (_, _, colour) = COLOURS.iter().find(fits)?;
    Some(colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "the tailnet is well; its packets are steered by wanb (eth2)\n\
        uplink   wan        eth1       ipv4  closed   1 s ago: no answer from any target\n\
        fault    F2-stuck-control: the control connection is stuck: it still uses wan's address 2001:db8:1::2\n";

    fn screen(width: Option<usize>, colour: bool, utf8: bool) -> Screen {
        Screen {
            width,
            colour,
            utf8,
        }
    }

    #[test]
    fn a_pipe_gets_whole_lines() {
        assert_eq!(screen(None, false, true).fit(PAGE, 9), PAGE.trim_end());
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_sentence_is_cut() {
        for width in [20, 40, 60, 80, 132] {
            let fitted = screen(Some(width), false, false).fit(PAGE, 9);
            for line in fitted.lines() {
                assert!(line.len() <= width, "{width}: {line}");
            }
            let words: Vec<&str> = fitted.split_whitespace().collect();
            for word in PAGE.lines().last().expect("a line").split_whitespace() {
                let whole = words.contains(&word) || word.len() > width - 9;
                assert!(whole, "{width}: {word} is lost in {fitted}");
            }
        }
        assert_eq!(
            screen(Some(40), false, false).fit(PAGE, 9),
            "the tailnet is well; its packets are\n  steered by wanb (eth2)\n\
             uplink wan eth1 ipv4 closed 1 s ago: n..\n\
             fault F2-stuck-control: the control\n  connection is stuck: it still uses\n  wan's address 2001:db8:1::2"
        );
    }

    #[test]
    fn letters_are_those_that_the_console_has() {
        let text = "probing wan: opén \u{1b}[31m\u{7}\u{9b}x";
        assert_eq!(
            screen(None, false, false).fit(text, 0),
            "probing wan: op?n ?[31m??x"
        );
        assert_eq!(
            screen(None, false, true).fit(text, 0),
            "probing wan: opén ?[31m??x"
        );
    }

    #[test]
    fn colours_are_one_for_each_line_and_end_with_it() {
        let fitted = screen(Some(80), true, false).fit(PAGE, 9);
        let lines: Vec<&str> = fitted.lines().collect();
        assert!(!lines[0].contains('\u{1b}'), "{fitted}");
        assert!(
            lines[1].starts_with("\u{1b}[31muplink") && lines[1].ends_with("\u{1b}[0m"),
            "{fitted}"
        );
        assert_eq!(
            colour("12:03:04 well again after 1.2 s (healed)"),
            Some("32")
        );
        assert_eq!(colour("12:03:04 uplink wan IPv4 is open: x"), Some("32"));
        assert_eq!(colour("tailnet  answers"), None);
    }
}
