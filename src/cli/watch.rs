//! `tailover watch`: what the daemon does, as lines that come when it does it.

use std::io;
use std::path::Path;

use argh::FromArgs;

use crate::daemon::OBJECT;
use crate::ubus::blobmsg::Value;
use crate::ubus::{oneshot, Client, Error, Handle, Happening};

use super::clock::{self, Zone};
use super::screen::Screen;
use super::{client, put, settings, NO_DAEMON, OK, SYSTEM};

/// What ubusd tells when an object comes or goes.
const OBJECTS: &str = "ubus.object.*";

/// show what the daemon does as it does it, a line each, until Ctrl-C
#[derive(FromArgs)]
#[argh(subcommand, name = "watch")]
pub struct Watch {}

impl Watch {
    pub fn go(self, file: &Path) -> u8 {
        let settings = match settings(file) {
            Ok(s) => s,
            Err(code) => return code,
        };
        let socket = settings.ubus_socket.as_path();
        let (client, handle, happened) = Client::new(socket);
        let mut page = Page {
            screen: Screen::of_stdout(),
            zone: Zone::of_here(),
            day: String::new(),
        };
        let show = async {
            if let Err(e) = wanted(&handle).await {
                eprintln!("tailover: {e}");
                return SYSTEM;
            }
            while let Ok(happening) = happened.recv().await {
                let line = match happening {
                    Happening::Up | Happening::Down(_) => match now(socket) {
                        Ok(sentence) | Err((sentence, NO_DAEMON)) => sentence,
                        // That does not come with time.
                        Err((why, code)) => {
                            eprintln!("tailover: {why}");
                            return code;
                        }
                    },
                    Happening::Notification { data, .. } => text(&data, "line"),
                    Happening::Event { id, data } if text(&data, "path") == OBJECT => {
                        match id.ends_with("remove") {
                            true => "the daemon has ended".into(),
                            false => {
                                let (Ok(text) | Err((text, _))) = now(socket);
                                ["the daemon is there: ", &text].concat()
                            }
                        }
                    }
                    _ => continue,
                };
                if page.add(&line).is_err() {
                    // Nobody reads any more (`tailover watch | head`).
                    return OK;
                }
            }
            OK
        };
        let run = async {
            client.run().await;
            OK
        };
        smol::block_on(smol::future::or(show, run))
    }
}

async fn wanted(handle: &Handle) -> Result<(), Error> {
    // Before the subscription, so that no object slips between the two.
    handle.listen(OBJECTS).await?;
    handle.subscribe(OBJECT).await
}

/// The daemon's sentence, or why there is none, with the exit code for that.
fn now(socket: &Path) -> Result<String, (String, u8)> {
    match oneshot::call(socket, OBJECT, "status", Vec::new(), client::PATIENCE) {
        Ok(state) => Ok(text(&state, "sentence")),
        Err(e) => Err(client::explain(&e, socket)),
    }
}

fn text(data: &Value, name: &str) -> String {
    data.get(name)
        .and_then(Value::str)
        .unwrap_or_default()
        .to_string()
}

/// The lines that were shown.
struct Page {
    screen: Screen,
    zone: Zone,
    day: String,
}

impl Page {
    /// A line with its time of day; a new day has one of its own.
    fn add(&mut self, line: &str) -> io::Result<()> {
        let time = self.zone.tell(clock::now());
        let (day, time) = time.split_once(' ').unwrap_or_default();
        if self.day != day {
            self.day = day.to_string();
            put(format_args!("{day}"))?;
        }
        let indent = time.len() + 1;
        let line = [time, " ", line].concat();
        put(format_args!("{}", self.screen.fit(&line, indent)))
    }
}
