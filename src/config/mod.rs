//! The settings: the text of `/etc/config/tailover` in, typed and checked values out.

pub mod options;
pub mod uci;
pub mod values;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;

pub use values::{Cure, ExternalIp, Host, Mark, Target, Url};

use options::{Opt, OPTIONS};
use uci::Item;

/// Where the settings are on a router.
pub const PATH: &str = "/etc/config/tailover";

/// A file longer than this is no settings file: the shipped one has some 4 KiB.
const FILE_MAX: u64 = 256 * 1024;

/// Everything that can be set. What each option means, and its range, is in [`options::OPTIONS`];
/// [`Default`] gives the defaults written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether the service runs at all.
    pub enabled: bool,
    /// The most talkative level that is logged.
    pub log_level: LevelFilter,
    /// Names of the uplinks, netifd's or of devices, best first; empty: find them.
    pub uplinks: Vec<String>,
    /// Names of the uplinks that cost by volume.
    pub metered: Vec<String>,
    /// Whose answer proves an uplink open; never empty.
    pub targets: Vec<Target>,
    /// How to learn a public address; empty: do not.
    pub external_ip: Vec<ExternalIp>,
    /// Between two looks at the path in use.
    pub interval: Duration,
    /// Between two looks at another uplink.
    pub other_interval: Duration,
    /// How long events are gathered before a look.
    pub settle: Duration,
    /// For a round of datagrams.
    pub probe_timeout: Duration,
    /// For a TCP connection to open.
    pub tcp_timeout: Duration,
    /// For TCP and the TLS handshake together.
    pub tls_timeout: Duration,
    /// For a whole HTTP request.
    pub http_timeout: Duration,
    /// How long a better uplink must be open before going back to it.
    pub hold: Duration,
    /// The allowed cures, mildest first; never empty.
    pub cures: Vec<Cure>,
    /// Between the first two restarts.
    pub restart_min: Duration,
    /// Between two restarts at most; not less than `restart_min`.
    pub restart_max: Duration,
    /// The most restarts within any hour.
    pub restarts_per_hour: u32,
    /// The script in `/etc/init.d` that runs tailscaled; it has no slash and no leading dash.
    pub service: String,
    /// tailscaled's LocalAPI.
    pub socket: PathBuf,
    /// ubusd.
    pub ubus_socket: PathBuf,
    /// What tailscaled's own packets carry.
    pub mark: Mark,
    /// mwan3's bits; none of them is in `mark.mask`.
    pub mmx_mask: u32,
    /// The third of four rule priorities.
    pub priority: u32,
    /// The first of [`options::TABLES`] routing tables.
    pub table: u32,
    /// The rtnetlink protocol number of tailover's rules and routes; it fits into a `u8`.
    pub protocol: u32,
    /// Where the lock against a second daemon is.
    pub state_dir: PathBuf,
    /// Copy of the history that outlives a reboot; `None`: there is none.
    pub history: Option<PathBuf>,
    /// PEM file of the CAs to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Settings {
        let mut settings = Settings {
            enabled: false,
            log_level: LevelFilter::Info,
            uplinks: Vec::new(),
            metered: Vec::new(),
            targets: Vec::new(),
            external_ip: Vec::new(),
            interval: Duration::ZERO,
            other_interval: Duration::ZERO,
            settle: Duration::ZERO,
            probe_timeout: Duration::ZERO,
            tcp_timeout: Duration::ZERO,
            tls_timeout: Duration::ZERO,
            http_timeout: Duration::ZERO,
            hold: Duration::ZERO,
            cures: Vec::new(),
            restart_min: Duration::ZERO,
            restart_max: Duration::ZERO,
            restarts_per_hour: 0,
            service: String::new(),
            socket: PathBuf::new(),
            ubus_socket: PathBuf::new(),
            mark: Mark { value: 0, mask: 0 },
            mmx_mask: 0,
            priority: 0,
            table: 0,
            protocol: 0,
            state_dir: PathBuf::new(),
            history: None,
            ca_file: None,
        };
        // The table's defaults are the only ones. A test proves that each of them is allowed.
        for option in OPTIONS {
            for value in option.default {
                let taken = option.kind.put(&mut settings, value);
                debug_assert!(taken.is_some(), "default of {}", option.name);
            }
        }
        settings
    }
}

/// Something in the file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// Counted from 1; 0: the file as a whole.
    pub line: usize,
    /// What it is.
    pub what: What,
}

/// The kinds of problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The file is there and cannot be read.
    Unreadable(String),
    /// The text is not UCI.
    Syntax(String),
    /// An option has a value that it cannot have.
    Value {
        /// The option's name.
        option: &'static str,
        /// The value as it was written.
        value: String,
        /// What it could be instead.
        allowed: String,
    },
}

impl fmt::Display for Problem {
    /// One line: `FILE:LINE: option 'NAME' is 'VALUE'; allowed: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.line)?;
        match &self.what {
            What::Unreadable(error) => write!(f, "cannot be read: {error}"),
            What::Syntax(reason) => f.write_str(reason),
            What::Value {
                option,
                value,
                allowed,
            } => write!(
                f,
                "option '{option}' is '{}'; allowed: {allowed}",
                value.escape_debug()
            ),
        }
    }
}

/// All problems of a file, in the order of its lines; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Problem>);

impl fmt::Display for ConfigError {
    /// One line for each problem, the last one without a line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Something in the file that has no effect, or not the one that may have been meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file, as it was named.
    pub file: String,
    /// Counted from 1; 0: the file as a whole.
    pub line: usize,
    /// What was seen and what was made of it.
    pub text: String,
}

impl fmt::Display for Warning {
    /// One line: `FILE:LINE: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.line)?;
        f.write_str(&self.text)
    }
}

fn place(f: &mut fmt::Formatter<'_>, file: &str, line: usize) -> fmt::Result {
    match line {
        0 => write!(f, "{file}: "),
        _ => write!(f, "{file}:{line}: "),
    }
}

/// Reads the settings from a file. A file that is not there gives the defaults and a warning.
///
/// # Errors
/// Every problem of the file, or the one that it cannot be read.
pub fn load(path: &Path) -> Result<(Settings, Vec<Warning>), ConfigError> {
    let file = path.display().to_string();
    let unreadable = |error: String| {
        ConfigError(vec![Problem {
            file: file.clone(),
            line: 0,
            what: What::Unreadable(error),
        }])
    };
    match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = "is not there: every option has its default".to_owned();
            let line = 0;
            Ok((Settings::default(), vec![Warning { file, line, text }]))
        }
        Err(error) => Err(unreadable(error.to_string())),
        Ok(text) => parse(&file, &text),
    }
}

/// The bytes of a UCI file.
///
/// # Errors
/// It cannot be read, or it is longer than any such file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?
        .take(FILE_MAX + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        let why = format!("longer than {FILE_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// Reads the settings from the text of a file; `file` is what it is called in messages.
///
/// # Errors
/// Every problem of the text.
pub fn parse(file: &str, text: impl AsRef<[u8]>) -> Result<(Settings, Vec<Warning>), ConfigError> {
    let (sections, errors) = uci::parse(text.as_ref());
    let mut found = Findings::new(file);
    for error in errors {
        found.problem(error.line, What::Syntax(error.reason));
    }

    let mut items: Vec<&Item> = Vec::new();
    let mut main = false;
    for section in &sections {
        if section.kind == "tailover" && section.name.as_deref() == Some("main") {
            main = true;
            items.extend(&section.items);
        } else {
            let name = section.name.as_deref().unwrap_or("");
            found.warning(
                section.line,
                format!(
                    "section '{}' '{name}' is not used: settings stand below config tailover 'main'",
                    section.kind
                ),
            );
        }
    }
    if !main {
        found.warning(
            0,
            "has no section config tailover 'main': every option has its default".to_owned(),
        );
    }

    let mut settings = Settings::default();
    let mut given = Vec::new();
    for option in OPTIONS {
        let lines: Vec<&Item> = named(&items, option.name);
        let values = found.values(option, &lines);
        if values.is_empty() {
            continue;
        }
        option.kind.clear(&mut settings);
        for value in &values {
            if option.kind.put(&mut settings, &value.text).is_none() {
                found.refuse(value, option.kind.allowed());
            }
        }
        given.extend(values);
    }
    for item in &items {
        if options::find(&item.name).is_none() {
            found.warning(
                item.line,
                format!("option '{}' is not known and has no effect", item.name),
            );
        }
    }
    check_together(&settings, &given, &mut found);

    found.problems.sort_by_key(|problem| problem.line);
    found.warnings.sort_by_key(|warning| warning.line);
    if found.problems.is_empty() {
        Ok((settings, found.warnings))
    } else {
        Err(ConfigError(found.problems))
    }
}

/// What options say about each other.
fn check_together(settings: &Settings, given: &[Value], found: &mut Findings) {
    let last = |names: &[&str]| given.iter().rfind(|value| names.contains(&value.option));

    if settings.restart_max < settings.restart_min {
        if let Some(value) = last(&["restart_min", "restart_max"]) {
            found.refuse(
                value,
                format!(
                    "restart_min ({}) not above restart_max ({})",
                    settings.restart_min.as_secs_f64(),
                    settings.restart_max.as_secs_f64()
                ),
            );
        }
    }
    if settings.mark.mask & settings.mmx_mask != 0 {
        if let Some(value) = last(&["mark", "mmx_mask"]) {
            found.refuse(
                value,
                format!(
                    "no bit that is both in mmx_mask ({:#x}) and in the mask of mark ({:#x})",
                    settings.mmx_mask, settings.mark.mask
                ),
            );
        }
    }
    let addresses = || given.iter().filter(|value| value.option == "external_ip");
    if addresses().count() > 1 {
        if let Some(off) = addresses().find(|value| value.text == "off") {
            found.refuse(off, "off alone, or the others without it".to_owned());
        }
    }
}

fn named<'a>(items: &[&'a Item], name: &str) -> Vec<&'a Item> {
    let same = items.iter().filter(|item| item.name == name);
    same.copied().collect()
}

/// One value given in the file.
struct Value {
    option: &'static str,
    line: usize,
    text: String,
}

/// What was found on the way through a file.
struct Findings<'a> {
    file: &'a str,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl<'a> Findings<'a> {
    fn new(file: &'a str) -> Findings<'a> {
        Findings {
            file,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn problem(&mut self, line: usize, what: What) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            what,
        });
    }

    fn refuse(&mut self, value: &Value, allowed: String) {
        let what = What::Value {
            option: value.option,
            value: value.text.clone(),
            allowed,
        };
        self.problem(value.line, what);
    }

    fn warning(&mut self, line: usize, text: String) {
        self.warnings.push(Warning {
            file: self.file.to_owned(),
            line,
            text,
        });
    }

    /// The values that an option's lines add up to, by libuci's rules: `option` takes the place of
    /// what stands above it, `list` adds to it, and an empty value is no value.
    fn values(&mut self, option: &'static Opt, lines: &[&Item]) -> Vec<Value> {
        let mut values: Vec<Value> = Vec::new();
        let value = |line: usize, text: &str| Value {
            option: option.name,
            line,
            text: text.to_owned(),
        };
        for item in lines {
            if option.kind.is_list() && item.list {
                if !item.value.is_empty() {
                    values.push(value(item.line, &item.value));
                }
                continue;
            }
            if item.list {
                self.refuse(
                    &value(item.line, &item.value),
                    format!("one value, written as option {} '...'", option.name),
                );
                continue;
            }
            if let Some(first) = values.first() {
                self.warning(
                    item.line,
                    format!(
                        "option '{}' is set again: line {} has no effect",
                        option.name, first.line
                    ),
                );
            }
            values.clear();
            if option.kind.is_list() {
                // uci's blobmsg conversion splits an option at blanks where a list is wanted.
                values.extend(
                    item.value
                        .split_whitespace()
                        .map(|word| value(item.line, word)),
                );
            } else if !item.value.is_empty() {
                values.push(value(item.line, &item.value));
            }
        }
        values
    }
}
