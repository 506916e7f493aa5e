//! A double of the ubus objects of netifd, mwan3 and procd: what they answer, from a state file.
//!
//! Signatures are those of the recordings (`list.json`, `call_mwan3_status.json`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use tailover::ubus::blobmsg::table_from_json;
use tailover::ubus::{Call, Client, Error, Handle, Happening, Method, Status, Table, Type, Value};

/// The object by which the lab steers this double; OpenWrt has nothing like it.
pub const CONTROL: &str = "lab.netifd";
/// Longest wait for the ubusd at start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The state file, as it is now.
///
/// `{"interfaces": [netifd's dump entries], "mwan3": {its status}, "services": {by name}}`; each
/// part may be missing.
#[derive(Debug)]
struct State(Json);

impl State {
    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let json = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(State(json))
    }

    fn interfaces(&self) -> Vec<&Json> {
        let list = self.0.get("interfaces").and_then(Json::as_array);
        list.map(|l| l.iter().collect()).unwrap_or_default()
    }

    fn interface(&self, name: &str) -> Option<&Json> {
        let all = self.interfaces();
        all.into_iter().find(|i| i["interface"] == name)
    }

    fn names(&self) -> Vec<String> {
        let names = self.interfaces().into_iter();
        names
            .filter_map(|i| i["interface"].as_str().map(str::to_owned))
            .collect()
    }
}

/// Methods of `network.interface` and of each interface.
fn interface_methods() -> Vec<Method> {
    let device = [
        ("name", Type::String),
        ("link-ext", Type::Bool),
        ("vlan", Type::Array),
    ];
    vec![
        Method::new("up", &[]),
        Method::new("down", &[]),
        Method::new("renew", &[]),
        Method::new("status", &[]),
        Method::new("prepare", &[]),
        Method::new("dump", &[]),
        Method::new("add_device", &device),
        Method::new("remove_device", &device),
        Method::new("notify_proto", &[]),
        Method::new("remove", &[]),
        Method::new("set_data", &[]),
    ]
}

/// The objects besides the interfaces. Only the methods that this double answers are complete.
fn other_objects() -> Vec<(&'static str, Vec<Method>)> {
    let named = ("name", Type::String);
    vec![
        ("network.interface", interface_methods()),
        ("network.device", vec![Method::new("status", &[named])]),
        (
            "mwan3",
            vec![Method::new(
                "status",
                &[("section", Type::String), ("interface", Type::String)],
            )],
        ),
        (
            "service",
            vec![Method::new("list", &[named, ("verbose", Type::Bool)])],
        ),
        (
            CONTROL,
            vec![
                Method::new("event", &[("id", Type::String), ("data", Type::Table)]),
                Method::new(
                    "notify",
                    &[
                        ("object", Type::String),
                        ("method", Type::String),
                        ("data", Type::Table),
                    ],
                ),
                Method::new(
                    "change",
                    &[("action", Type::String), ("interface", Type::String)],
                ),
                Method::new("reload", &[]),
            ],
        ),
    ]
}

/// Serves until ubusd's client ends; `ready` is called once all objects are there.
///
/// # Errors
/// The state file cannot be read at start, or an object cannot be registered.
pub async fn serve(socket: &Path, state: PathBuf, ready: impl FnOnce()) -> Result<(), String> {
    let (client, handle, happened) = Client::new(socket);
    let double = async {
        let first = smol::future::or(async { happened.recv().await.ok() }, async {
            smol::Timer::after(START_TIMEOUT).await;
            None
        });
        match first.await {
            Some(Happening::Up) => {}
            other => return Err(format!("no ubusd at {}: {other:?}", socket.display())),
        }
        let mut double = Double {
            handle,
            state,
            interfaces: vec![],
        };
        for (name, methods) in other_objects() {
            let added = double.handle.add_object(name, methods).await;
            added.map_err(|e| format!("{name}: {e}"))?;
        }
        double.reload().await?;
        ready();
        while let Ok(happening) = happened.recv().await {
            if let Happening::Call(call) = happening {
                double.called(call).await;
            }
        }
        Ok(())
    };
    let run = async {
        client.run().await;
        Ok(())
    };
    smol::future::or(double, run).await
}

struct Double {
    handle: Handle,
    state: PathBuf,
    /// Interfaces that have an object now.
    interfaces: Vec<String>,
}

impl Double {
    async fn called(&mut self, call: Call) {
        match self.answer(&call).await {
            Ok(data) => call.reply(data),
            Err(Failure::Refused(status)) => call.fail(status),
            Err(Failure::Broken(why)) => {
                log::error!("{} {}: {why}", call.object, call.method);
                call.fail(Status::SystemError);
            }
        }
    }

    async fn answer(&mut self, call: &Call) -> Result<Table, Failure> {
        let state = State::read(&self.state)?;
        let text = |name: &str| call.data.get(name).and_then(Value::str);
        match (call.object.as_str(), call.method.as_str()) {
            ("network.interface", "dump") => {
                let all = state
                    .interfaces()
                    .into_iter()
                    .cloned()
                    .map(Value::from_json);
                Ok(vec![("interface".to_owned(), Value::Array(all.collect()))])
            }
            ("network.device", "status") => Ok(match text("name") {
                Some(device) => table_from_json(device_status(&state, device)),
                None => vec![],
            }),
            ("mwan3", "status") => {
                let whole = table_from_json(state.0["mwan3"].clone());
                // As mwan3's rpcd script: a section alone, or everything.
                Ok(match text("section") {
                    Some(section) => whole.into_iter().filter(|(n, _)| n == section).collect(),
                    None => whole,
                })
            }
            ("service", "list") => {
                let whole = table_from_json(state.0["services"].clone());
                Ok(match text("name") {
                    Some(name) => whole.into_iter().filter(|(n, _)| n == name).collect(),
                    None => whole,
                })
            }
            (CONTROL, method) => {
                self.control(method, call, &state).await?;
                Ok(vec![])
            }
            (object, "status") => {
                let name = object.strip_prefix("network.interface.");
                let entry = name.and_then(|n| state.interface(n)).cloned();
                let mut table = table_from_json(entry.ok_or(Failure::Refused(Status::NotFound))?);
                // The status of one interface does not repeat its name.
                table.retain(|(name, _)| name != "interface");
                Ok(table)
            }
            _ => Err(Failure::Refused(Status::NotSupported)),
        }
    }

    async fn control(&mut self, method: &str, call: &Call, state: &State) -> Result<(), Failure> {
        let text = |name: &str| {
            let value = call.data.get(name).and_then(Value::str);
            value.ok_or(Failure::Refused(Status::InvalidArgument))
        };
        let data = || {
            let data = call.data.get("data").and_then(Value::table);
            data.cloned().unwrap_or_default()
        };
        match method {
            "event" => self.handle.send_event(text("id")?, data()).await?,
            "notify" => {
                let (object, method) = (text("object")?, text("method")?);
                self.handle.notify(object, method, data()).await?;
            }
            "change" => {
                self.reload().await?;
                self.change(text("action")?, text("interface")?, state)
                    .await?;
            }
            _ => self.reload().await?,
        }
        Ok(())
    }

    /// Says that an interface went up, went down or changed, as netifd does: the event, and the
    /// interface's dump entry to the subscribers of both objects.
    async fn change(&self, action: &str, interface: &str, state: &State) -> Result<(), Error> {
        let event = vec![
            ("action".to_owned(), Value::from(action)),
            ("interface".to_owned(), Value::from(interface)),
        ];
        self.handle.send_event("network.interface", event).await?;
        let method = match action {
            "ifdown" => "interface.down",
            _ => "interface.update",
        };
        let entry = state.interface(interface).cloned().map(table_from_json);
        let entry = entry.unwrap_or_default();
        let own = format!("network.interface.{interface}");
        for object in ["network.interface", own.as_str()] {
            self.handle.notify(object, method, entry.clone()).await?;
        }
        Ok(())
    }

    /// Gives each interface in the state file an object, and no other.
    async fn reload(&mut self) -> Result<(), String> {
        let names = State::read(&self.state)?.names();
        let path = |name: &str| format!("network.interface.{name}");
        for gone in self.interfaces.iter().filter(|i| !names.contains(i)) {
            let removed = self.handle.remove_object(&path(gone)).await;
            removed.map_err(|e| format!("{gone}: {e}"))?;
        }
        for new in names.iter().filter(|n| !self.interfaces.contains(n)) {
            let added = self
                .handle
                .add_object(&path(new), interface_methods())
                .await;
            added.map_err(|e| format!("{new}: {e}"))?;
        }
        self.interfaces = names;
        Ok(())
    }
}

/// Up or not, from the interface that uses the device. The real one says much more.
fn device_status(state: &State, device: &str) -> Json {
    let all = state.interfaces();
    let user = all
        .into_iter()
        .find(|i| i["l3_device"] == device || i["device"] == device);
    match user {
        Some(interface) => serde_json::json!({
            "present": true, "up": interface["up"], "carrier": interface["up"],
        }),
        None => serde_json::json!({ "present": false }),
    }
}

/// Why a call cannot be answered with data.
enum Failure {
    Refused(Status),
    Broken(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Failure::Broken(why)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        match e {
            Error::Status(status) => Failure::Refused(status),
            other => Failure::Broken(other.to_string()),
        }
    }
}
