//! The real binary of tailover on an ubusd: the hotplug call, the daemon's object, ubusd's return.

use std::process::{Command, Stdio};

use smol::LocalExecutor;
use tailover::ubus::{Client, Happening, Method, Type, Value};

mod bus;

use bus::{inside, tailover, until, Bus};

#[test]
fn hotplug_hands_over_action_interface_device_and_firstconnect() {
    let Some(binary) = tailover() else {
        return;
    };
    let bus = Bus::start("hotplug");
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let (client, handle, happened) = Client::new(&bus.socket());
        executor.spawn(client.run()).detach();
        let event = ["action", "interface", "device", "firstconnect"].map(|n| (n, Type::String));
        let methods = vec![Method::new("event", &event)];
        handle
            .add_object("tailover", methods)
            .await
            .expect("an object");
        for first in ["", "1"] {
            let mut command = bus.command(&binary, "hotplug");
            command.env_clear().envs([
                ("ACTION", "connected"),
                ("INTERFACE", "wan"),
                ("DEVICE", "eth1"),
                ("FIRSTCONNECT", first),
            ]);
            let child = command.spawn().expect("the binary runs");
            let call = loop {
                if let Happening::Call(call) = happened.recv().await.expect("a happening") {
                    break call;
                }
            };
            assert_eq!(call.method, "event");
            let said = ["action", "interface", "device", "firstconnect"].map(|name| {
                call.data
                    .get(name)
                    .and_then(Value::str)
                    .unwrap_or("missing")
                    .to_owned()
            });
            assert_eq!(said, ["connected", "wan", "eth1", first]);
            call.done();
            let output = child.wait_with_output().expect("its end");
            assert!(output.status.success());
        }
    }));
}

#[test]
fn the_object_is_there_again_when_ubusd_is() {
    if !inside("the_object_is_there_again_when_ubusd_is") {
        return;
    }
    let Some(binary) = tailover() else {
        return;
    };
    let mut bus = Bus::start("reborn");
    let mut command = bus.command(&binary, "run");
    let mut daemon = command
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    until("the object is there", || bus.status().is_some());
    bus.kill();
    assert!(bus.status().is_none());
    bus.ubusd = Bus::spawn(&bus.socket());
    until("the object is there again", || bus.status().is_some());
    let stage = bus
        .status()
        .and_then(|s| Some(s.get("stage")?.str()?.to_owned()));
    assert!(stage.is_some_and(|s| !s.is_empty()));
    assert!(
        daemon.try_wait().expect("a child").is_none(),
        "one process all the time"
    );
    let pid = daemon.id().to_string();
    let kill = Command::new("kill").args(["-s", "TERM", &pid]).status();
    assert!(kill.expect("kill runs").success());
    assert!(daemon.wait().expect("its end").success());
    until("the object has gone", || bus.status().is_none());
}
