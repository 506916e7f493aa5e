//! A double of the `ubus` command: `ubus [-s SOCKET] [-t SECONDS] COMMAND ...`.
//!
//! Commands: `list [-v] [PATH]`, `call PATH METHOD [JSON]`, `send ID [JSON]`,
//! `listen [PATTERN...]`, `subscribe PATH...`. Output is JSON on one line; otherwise options,
//! messages and exit status (the ubus status number) are those of the real one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tailover::ubus::blobmsg::{table_from_json, table_to_json};
use tailover::ubus::{oneshot, Client, Error, Happening, Status, Table, Value, DEFAULT_SOCKET};

/// How long a call may take without `-t`, as with the real command.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

struct Options {
    socket: PathBuf,
    timeout: Duration,
    rest: Vec<String>,
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        return usage();
    };
    let rest: Vec<&str> = options.rest.iter().map(String::as_str).collect();
    let result = match rest.as_slice() {
        ["list"] => list(&options, "*", false),
        ["list", "-v"] => list(&options, "*", true),
        ["list", "-v", path] => list(&options, path, true),
        ["list", path] => list(&options, path, false),
        ["call", path, method] => call(&options, path, method, "{}"),
        ["call", path, method, json] => call(&options, path, method, json),
        ["send", id] => send(&options, id, "{}"),
        ["send", id, json] => send(&options, id, json),
        ["listen"] => follow(&options, &[], &["*"]),
        ["listen", patterns @ ..] => follow(&options, &[], patterns),
        ["subscribe", path, more @ ..] => {
            let paths: Vec<&str> = std::iter::once(*path).chain(more.iter().copied()).collect();
            follow(&options, &paths, &[])
        }
        _ => return usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("Command failed: {e}");
            let number = match e {
                Error::Status(status) => status.number(),
                Error::Timeout => Status::Timeout.number(),
                _ => Status::ConnectionFailed.number(),
            };
            ExitCode::from(u8::try_from(number).unwrap_or(u8::MAX))
        }
    }
}

fn options() -> Option<Options> {
    let mut options = Options {
        socket: DEFAULT_SOCKET.into(),
        timeout: DEFAULT_TIMEOUT,
        rest: vec![],
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-s" => options.socket = args.next()?.into(),
            "-t" => options.timeout = Duration::from_secs(args.next()?.parse().ok()?),
            // The real one takes -v before the command.
            "-v" if options.rest.is_empty() && args.next()? == "list" => {
                options.rest = vec!["list".into(), "-v".into()];
            }
            _ => {
                options.rest.push(arg);
                options.rest.extend(args.by_ref());
            }
        }
    }
    Some(options)
}

fn usage() -> ExitCode {
    eprintln!("usage: ubus [-s SOCKET] [-t SECONDS] list|call|send|listen|subscribe ...");
    ExitCode::from(1)
}

fn arguments(json: &str) -> Result<Table, Error> {
    match serde_json::from_str(json) {
        Ok(json @ serde_json::Value::Object(_)) => Ok(table_from_json(json)),
        _ => Err(Error::Status(Status::InvalidArgument)),
    }
}

fn list(options: &Options, path: &str, verbose: bool) -> Result<(), Error> {
    for object in oneshot::lookup(&options.socket, path, options.timeout)? {
        if !verbose {
            println!("{}", object.path);
            continue;
        }
        println!("'{}' @{:08x}", object.path, object.id);
        for (method, arguments) in &object.signature {
            let arguments = arguments.table().cloned().unwrap_or_default();
            let typed: Vec<String> = arguments
                .iter()
                .map(|(name, number)| format!("\"{name}\":\"{}\"", type_name(number)))
                .collect();
            println!("\t\"{method}\":{{{}}}", typed.join(","));
        }
    }
    Ok(())
}

/// The words of the real command for a type's number.
fn type_name(number: &Value) -> &'static str {
    match number.i64() {
        Some(1) => "Array",
        Some(2) => "Table",
        Some(3) => "String",
        Some(7) => "Boolean",
        Some(4..=6) => "Integer",
        _ => "(unknown)",
    }
}

fn call(options: &Options, path: &str, method: &str, json: &str) -> Result<(), Error> {
    let data = arguments(json)?;
    let answer = oneshot::call(&options.socket, path, method, data, options.timeout)?;
    println!("{}", answer.to_json());
    Ok(())
}

fn send(options: &Options, id: &str, json: &str) -> Result<(), Error> {
    oneshot::send_event(&options.socket, id, arguments(json)?, options.timeout)
}

/// Prints notifications of `paths` and events of `patterns` until ubusd goes away.
fn follow(options: &Options, paths: &[&str], patterns: &[&str]) -> Result<(), Error> {
    let (client, handle, happened) = Client::with_options(&options.socket, false);
    let work = async {
        while let Ok(happening) = happened.recv().await {
            match happening {
                Happening::Up => {
                    for path in paths {
                        handle.subscribe(path).await?;
                    }
                    for pattern in patterns {
                        handle.listen(pattern).await?;
                    }
                }
                Happening::Event { id: name, data }
                | Happening::Notification {
                    method: name, data, ..
                } => {
                    let said = vec![(name, data)];
                    println!("{}", table_to_json(&said));
                }
                // Published nothing, so nobody can call.
                Happening::Call(call) => call.fail(Status::NotFound),
                Happening::Down(reason) => {
                    eprintln!("ubus: {reason}");
                    return Err(Error::Down);
                }
            }
        }
        Ok(())
    };
    smol::block_on(smol::future::or(work, async {
        client.run().await;
        Ok(())
    }))
}
