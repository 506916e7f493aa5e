//! The netifd double against the recordings: same signatures, same answers, same messages.

#[path = "../../../tests/ubus_support/mod.rs"]
mod ubus_support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value as Json;
use tailover::ubus::blobmsg::table_to_json;
use tailover::ubus::session::ObjectInfo;
use tailover::ubus::{oneshot, Client, Happening, Table, Value};
use ubus_support::{one, From, Recording};

/// Longest wait for anything in these tests; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Kills its process at the end.
struct Process(Child);

impl Process {
    fn start(program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdout(Stdio::piped());
        Process(command.spawn().expect("a process"))
    }

    /// Waits for the next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let output = self.0.stdout.as_mut().expect("its output");
        // One byte of room, so that nothing of the following line is taken.
        BufReader::with_capacity(1, output)
            .read_line(&mut line)
            .expect("a line");
        line
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// ubusd and netifd doubles with a state that the recordings showed.
struct Lab {
    folder: PathBuf,
    _ubusd: Process,
    _netifd: Process,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn answer(recording: &Recording) -> Table {
    let frames = recording.frames.iter().filter(|f| f.from == From::Ubusd);
    let data = frames.filter_map(|f| f.frame.attrs.data()).next();
    data.expect("an answer").clone()
}

fn recorded_answer(name: &str) -> Json {
    table_to_json(&answer(&one(name)))
}

impl Lab {
    fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tailover-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let state = serde_json::json!({
            "interfaces": recorded_answer("call_interface_dump")["interface"],
            "mwan3": recorded_answer("call_mwan3_status"),
            "services": recorded_answer("call_service_list"),
        });
        let state_file = folder.join("state.json");
        std::fs::write(&state_file, state.to_string()).expect("to write the state");
        let socket = folder.join("ubus.sock");
        let socket_arg = socket.to_str().expect("UTF-8");
        let ubusd = Process::start(env!("CARGO_BIN_EXE_ubusd"), &["--socket", socket_arg]);
        while oneshot::lookup(&socket, "*", PATIENCE).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let state_arg = state_file.to_str().expect("UTF-8");
        let args = ["--socket", socket_arg, "--state", state_arg];
        let mut netifd = Process::start(env!("CARGO_BIN_EXE_netifd"), &args);
        assert_eq!(netifd.line(), "ready\n");
        Lab {
            folder,
            _ubusd: ubusd,
            _netifd: netifd,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("ubus.sock")
    }

    fn call(&self, path: &str, method: &str, data: Table) -> Json {
        let answer = oneshot::call(&self.socket(), path, method, data, PATIENCE);
        answer
            .unwrap_or_else(|e| panic!("{path} {method}: {e}"))
            .to_json()
    }
}

fn signature(socket: &Path, path: &str) -> Table {
    let found = oneshot::lookup(socket, path, PATIENCE).expect("the object");
    found.into_iter().next().expect("one object").signature
}

fn recorded_signature(recording: &Recording, path: &str) -> Table {
    let frames = recording.frames.iter().filter(|f| f.from == From::Ubusd);
    let mut objects = frames.filter_map(|f| ObjectInfo::read(&f.frame.attrs));
    objects
        .find(|o| o.path == path)
        .expect("the recorded object")
        .signature
}

#[test]
fn signatures_and_answers_are_the_recorded_ones() {
    let lab = Lab::start("netifd-calls");
    let list = one("list");
    for path in ["network.interface", "network.interface.wan", "mwan3"] {
        assert_eq!(
            signature(&lab.socket(), path),
            recorded_signature(&list, path),
            "{path}"
        );
    }
    let of_service = recorded_signature(&list, "service");
    assert!(of_service.contains(&signature(&lab.socket(), "service")[0]));

    let dump = recorded_answer("call_interface_dump");
    assert_eq!(lab.call("network.interface", "dump", vec![]), dump);
    assert_eq!(
        lab.call("mwan3", "status", vec![]),
        recorded_answer("call_mwan3_status")
    );
    let name = vec![("name".to_owned(), Value::from("mwan3"))];
    assert_eq!(
        lab.call("service", "list", name),
        recorded_answer("call_service_list")
    );
    let status = lab.call("network.interface.wan", "status", vec![]);
    let mut entry = dump["interface"]
        .as_array()
        .and_then(|all| all.iter().find(|i| i["interface"] == "wan"))
        .and_then(Json::as_object)
        .cloned()
        .expect("wan's entry");
    entry.remove("interface");
    assert_eq!(status, Json::Object(entry));
    let none = vec![("name".to_owned(), Value::from("nosuch"))];
    assert_eq!(lab.call("service", "list", none), serde_json::json!({}));
}

#[test]
fn a_change_is_told_as_netifd_tells_it() {
    let lab = Lab::start("netifd-change");
    let (client, handle, happened) = Client::new(&lab.socket());
    let work = async {
        assert!(matches!(happened.recv().await, Ok(Happening::Up)));
        handle.listen("network.interface").await.expect("to listen");
        let own = "network.interface.wanb";
        handle.subscribe(own).await.expect("to subscribe");
        let arguments = vec![
            ("action".to_owned(), Value::from("ifdown")),
            ("interface".to_owned(), Value::from("wanb")),
        ];
        let change = handle.invoke("lab.netifd", "change", arguments, PATIENCE);
        change.await.expect("the change");
        let Ok(Happening::Event { id, data }) = happened.recv().await else {
            panic!("no event");
        };
        let recorded = one("listen_all");
        let recorded = recorded
            .frames
            .iter()
            .find(|f| f.frame.attrs.method() == Some("network.interface"))
            .and_then(|f| f.frame.attrs.data())
            .expect("the recorded event");
        let names = |table: &Table| table.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        assert_eq!(id, "network.interface");
        assert_eq!(names(data.table().expect("a table")), names(recorded));
        assert_eq!(data.get("interface").and_then(Value::str), Some("wanb"));

        let Ok(Happening::Notification {
            object,
            method,
            data,
        }) = happened.recv().await
        else {
            panic!("no notification");
        };
        assert_eq!((object.as_str(), method.as_str()), (own, "interface.down"));
        let dump = recorded_answer("call_interface_dump");
        let entries = dump["interface"].as_array().expect("interfaces");
        let entry = entries.iter().find(|i| i["interface"] == "wanb");
        assert_eq!(Some(&data.to_json()), entry);
    };
    let limit = async {
        smol::Timer::after(PATIENCE).await;
        panic!("the test took too long");
    };
    let run = async {
        client.run().await;
        panic!("the client ended");
    };
    smol::block_on(smol::future::or(work, smol::future::or(run, limit)));
}

#[test]
fn the_ubus_command_prints_answers_and_ends_with_the_status() {
    let lab = Lab::start("netifd-command");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ubus"));
        let output = command.arg("-s").arg(lab.socket()).args(args).output();
        let output = output.expect("the command");
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        (output.status.code(), printed)
    };
    let (code, printed) = run(&["call", "network.interface", "dump"]);
    let printed: Json = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(
        (code, printed),
        (Some(0), recorded_answer("call_interface_dump"))
    );
    let (code, printed) = run(&["list", "network.interface.*"]);
    assert_eq!(code, Some(0));
    assert!(
        printed.lines().any(|l| l == "network.interface.wanb"),
        "{printed}"
    );
    let (code, printed) = run(&["-v", "list", "mwan3"]);
    let methods = printed.lines().nth(1);
    assert_eq!(code, Some(0));
    assert_eq!(
        methods,
        Some("\t\"status\":{\"section\":\"String\",\"interface\":\"String\"}")
    );
    assert_eq!(run(&["call", "nosuch.object", "foo"]).0, Some(4));
    assert_eq!(run(&["call", "network.interface", "nosuch"]).0, Some(3));
}
