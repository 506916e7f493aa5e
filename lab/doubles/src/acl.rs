//! A double of ubusd's access control: what the files of `/usr/share/acl.d` allow callers that are not root.
//!
//! The rules are those of `ubusd_acl.c`: root may do all; anybody else what a file with its user, its group or one
//! of its further groups allows. Left out: tags and the table `acl` of a method, which ubusd reads and does not use.

use std::path::Path;

use serde_json::Value as Json;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `root` may do everything.
    pub user: String,
    /// Its own group first, then the further ones.
    pub groups: Vec<String>,
}

impl Caller {
    pub fn root() -> Caller {
        Caller {
            user: "root".into(),
            groups: vec!["root".into()],
        }
    }
}

/// What somebody wants to do with the object, pattern or event of a name.
#[derive(Clone, Copy, Debug)]
pub enum Wish<'a> {
    Call(&'a str),
    Publish,
    Subscribe,
    Send,
    Listen,
}

impl Wish<'_> {
    /// The list of a file that grants it.
    fn list(self) -> &'static str {
        match self {
            Wish::Call(_) => "access",
            Wish::Publish => "publish",
            Wish::Subscribe => "subscribe",
            Wish::Send => "send",
            Wish::Listen => "listen",
        }
    }
}

/// The files, as they were read.
#[derive(Debug, Default)]
pub struct Acl {
    files: Vec<Json>,
}

impl Acl {
    /// Reads every file of a folder.
    ///
    /// # Errors
    /// Of reading; and what is no JSON is an error too, where ubusd passes it over.
    pub fn read(folder: &Path) -> std::io::Result<Acl> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let text = std::fs::read_to_string(entry?.path())?;
            files.push(serde_json::from_str(&text)?);
        }
        Ok(Acl { files })
    }

    /// Whether the caller may do that with what has this name.
    pub fn allows(&self, caller: &Caller, name: &str, wish: Wish) -> bool {
        let concerns = |file: &&Json| {
            let is = |key: &str, who: &String| file[key].as_str() == Some(who);
            is("user", &caller.user) || caller.groups.iter().any(|g| is("group", g))
        };
        let grants = |file: &Json| match (&file[wish.list()], wish) {
            (Json::Object(objects), Wish::Call(method)) => objects
                .iter()
                .filter(|(key, _)| fits(key, name))
                .filter_map(|(_, access)| access["methods"].as_array())
                .flatten()
                .any(|m| m == method || m == "*"),
            (Json::Array(names), _) => {
                let mut keys = names.iter().filter_map(Json::as_str);
                keys.any(|key| fits(key, name))
            }
            _ => false,
        };
        caller.user == "root" || self.files.iter().filter(concerns).any(grants)
    }
}

/// A key that ends in a star fits all that begins like it.
fn fits(key: &str, name: &str) -> bool {
    match key.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => key == name,
    }
}
