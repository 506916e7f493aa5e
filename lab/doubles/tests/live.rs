//! The client over a real socket: against the real ubusd if one is on PATH, else the double.

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use smol::channel::Receiver;
use smol::future;
use smol::{LocalExecutor, Task};
use tailover::ubus::{
    oneshot, Call, Client, Error, Handle, Happening, Method, Status, Type, Value,
};

/// Longest wait for anything in these tests; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running ubusd with a folder of its own; both end with the test.
struct Ubusd {
    folder: PathBuf,
    child: Child,
}

impl Ubusd {
    fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tailover-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let child = Self::spawn(&folder.join("ubus.sock"));
        Ubusd { folder, child }
    }

    /// Starts one and waits until it takes connections.
    fn spawn(socket: &Path) -> Child {
        let _ = std::fs::remove_file(socket);
        let real = std::env::var_os("PATH")
            .iter()
            .flat_map(std::env::split_paths)
            .map(|folder| folder.join("ubusd"))
            .find(|path| path.is_file());
        let program = real.unwrap_or_else(|| env!("CARGO_BIN_EXE_ubusd").into());
        println!("ubusd is {}", program.display());
        let child = Command::new(program)
            .arg("-s")
            .arg(socket)
            .spawn()
            .expect("ubusd");
        let started = Instant::now();
        while UnixStream::connect(socket).is_err() {
            assert!(started.elapsed() < PATIENCE, "ubusd does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("ubus.sock")
    }

    fn stop(&mut self) {
        self.child.kill().expect("to kill ubusd");
        self.child.wait().expect("ubusd's end");
    }

    fn start_again(&mut self) {
        self.child = Self::spawn(&self.socket());
    }
}

impl Drop for Ubusd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A client that runs until this is dropped.
struct Running {
    handle: Handle,
    happened: Receiver<Happening>,
    _run: Task<()>,
}

impl Running {
    /// Starts a client and waits until it is up.
    async fn start(executor: &LocalExecutor<'_>, socket: &Path) -> Self {
        let (client, handle, happened) = Client::new(socket);
        let _run = executor.spawn(client.run());
        let running = Running {
            handle,
            happened,
            _run,
        };
        assert!(matches!(running.next().await, Happening::Up));
        running
    }

    async fn next(&self) -> Happening {
        self.happened.recv().await.expect("a happening")
    }

    async fn call(&self) -> Call {
        match self.next().await {
            Happening::Call(call) => call,
            other => panic!("{other:?}"),
        }
    }
}

/// Runs a test's body with a time limit.
fn run<F: Future<Output = ()>>(body: impl FnOnce(&'static LocalExecutor<'static>) -> F) {
    let executor: &'static LocalExecutor<'static> = Box::leak(Box::default());
    let limit = async {
        smol::Timer::after(PATIENCE).await;
        panic!("the test took too long");
    };
    smol::block_on(executor.run(future::or(body(executor), limit)));
}

fn table<const N: usize>(members: [(&str, Value); N]) -> Vec<(String, Value)> {
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn methods() -> Vec<Method> {
    vec![
        Method::new("status", &[]),
        Method::new(
            "recover",
            &[
                ("force", Type::Bool),
                ("wan", Type::String),
                ("tries", Type::I32),
            ],
        ),
    ]
}

fn refused(result: Result<Value, Error>) -> Status {
    match result {
        Err(Error::Status(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_are_answered_at_once_late_with_errors_and_when_dropped() {
    let ubusd = Ubusd::start("calls");
    run(|executor| async move {
        let server = Running::start(executor, &ubusd.socket()).await;
        let caller = Running::start(executor, &ubusd.socket()).await;
        server
            .handle
            .add_object("demo", methods())
            .await
            .expect("to add");
        let found = caller.handle.lookup("demo").await.expect("the object");
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].signature,
            tailover::ubus::session::signature(&methods())
        );
        assert!(caller
            .handle
            .lookup("*")
            .await
            .expect("objects")
            .contains(&found[0]));

        let ask = |method: &'static str, data| caller.handle.invoke("demo", method, data, PATIENCE);
        let arguments = table([
            ("wan", "wanb".into()),
            ("force", true.into()),
            ("tries", 2.into()),
        ]);
        let (answer, call) = future::zip(ask("recover", arguments.clone()), async {
            let call = server.call().await;
            assert_eq!(call.data, Value::Table(arguments.clone()));
            // A second call is answered before the first.
            let (second, ()) = future::zip(ask("status", vec![]), async {
                server.call().await.reply(table([("n", 1.into())]));
            })
            .await;
            assert_eq!(second.expect("an answer").get("n"), Some(&Value::I32(1)));
            call.reply(table([("late", true.into())]));
        })
        .await;
        let () = call;
        assert_eq!(
            answer.expect("an answer").get("late"),
            Some(&Value::Bool(true))
        );

        let (answer, ()) = future::zip(ask("recover", vec![]), async {
            server.call().await.fail(Status::PermissionDenied);
        })
        .await;
        assert_eq!(refused(answer), Status::PermissionDenied);

        let (answer, ()) = future::zip(ask("recover", vec![]), async {
            drop(server.call().await);
        })
        .await;
        assert_eq!(refused(answer), Status::UnknownError);

        let wrong = table([("wan", 5.into())]);
        assert_eq!(
            refused(ask("recover", wrong).await),
            Status::InvalidArgument
        );
        assert_eq!(refused(ask("nosuch", vec![]).await), Status::MethodNotFound);
        let nobody = caller.handle.invoke("nosuch", "x", vec![], PATIENCE).await;
        assert_eq!(refused(nobody), Status::NotFound);

        // Nobody answers in time; the answer that comes later disturbs nothing.
        let short = Duration::from_millis(10);
        let late = caller.handle.invoke("demo", "status", vec![], short).await;
        assert!(matches!(late, Err(Error::Timeout)), "{late:?}");
        server.call().await.done();
        caller.handle.ping().await.expect("a pong");

        let large = "x".repeat(900_000);
        let (answer, ()) = future::zip(ask("status", vec![]), async {
            server
                .call()
                .await
                .reply(table([("text", large.as_str().into())]));
        })
        .await;
        assert_eq!(
            answer.expect("an answer").get("text"),
            Some(&Value::String(large))
        );

        let taken = caller.handle.add_object("demo", methods()).await;
        assert!(
            matches!(taken, Err(Error::Status(Status::InvalidArgument))),
            "{taken:?}"
        );
        server
            .handle
            .remove_object("demo")
            .await
            .expect("to remove");
        assert_eq!(refused(ask("status", vec![]).await), Status::NotFound);
    });
}

#[test]
fn one_shot_calls_work_beside_the_client() {
    let ubusd = Ubusd::start("oneshot");
    run(|executor| async move {
        let server = Running::start(executor, &ubusd.socket()).await;
        server
            .handle
            .add_object("demo", methods())
            .await
            .expect("to add");
        server.handle.listen("demo.*").await.expect("to listen");
        let socket = ubusd.socket();
        let (tell, told) = smol::channel::bounded(1);
        std::thread::spawn(move || {
            let arguments = table([("wan", "wanb".into())]);
            let answer = oneshot::send_event(&socket, "demo.hello", arguments.clone(), PATIENCE)
                .and_then(|()| oneshot::call(&socket, "demo", "recover", arguments, PATIENCE));
            tell.send_blocking(answer)
        });
        match server.next().await {
            Happening::Event { id, data } => {
                assert_eq!(id, "demo.hello");
                assert_eq!(data.get("wan").and_then(Value::str), Some("wanb"));
            }
            other => panic!("{other:?}"),
        }
        server
            .call()
            .await
            .reply(table([("accepted", true.into())]));
        let answer = told.recv().await.expect("the caller").expect("an answer");
        assert_eq!(answer.get("accepted").and_then(Value::bool), Some(true));
    });
}

async fn expect_notification(client: &Running, path: &str, name: &str) {
    match client.next().await {
        Happening::Notification { object, method, .. } => {
            assert_eq!((object.as_str(), method.as_str()), (path, name));
        }
        other => panic!("{other:?}"),
    }
}

/// Notifies until somebody hears it: the subscriber notice comes when it comes.
async fn notify(server: &Running, object: &str, name: &str) {
    while server
        .handle
        .notify(object, name, vec![])
        .await
        .expect("to notify")
        == 0
    {
        future::yield_now().await;
    }
}

#[test]
fn subscriptions_tell_the_object_and_follow_one_that_vanishes_and_returns() {
    let ubusd = Ubusd::start("subscribe");
    run(|executor| async move {
        let server = Running::start(executor, &ubusd.socket()).await;
        let client = Running::start(executor, &ubusd.socket()).await;
        server
            .handle
            .add_object("if.wan", methods())
            .await
            .expect("to add");
        server
            .handle
            .add_object("if.wanb", methods())
            .await
            .expect("to add");
        assert_eq!(
            server
                .handle
                .notify("if.wan", "x", vec![])
                .await
                .expect("nobody"),
            0
        );

        client.handle.subscribe("if.*").await.expect("to subscribe");
        client
            .handle
            .subscribe("later")
            .await
            .expect("to wait for it");
        notify(&server, "if.wanb", "down").await;
        expect_notification(&client, "if.wanb", "down").await;
        notify(&server, "if.wan", "up").await;
        expect_notification(&client, "if.wan", "up").await;

        // Added after the subscription.
        server
            .handle
            .add_object("later", methods())
            .await
            .expect("to add");
        notify(&server, "later", "here").await;
        expect_notification(&client, "later", "here").await;

        // The owner's process ends, and another one registers the object.
        drop(server);
        let server = Running::start(executor, &ubusd.socket()).await;
        while server.handle.add_object("if.wan", methods()).await.is_err() {
            future::yield_now().await;
        }
        notify(&server, "if.wan", "again").await;
        expect_notification(&client, "if.wan", "again").await;
    });
}

#[test]
fn all_is_set_up_again_after_ubusd_was_killed() {
    let mut ubusd = Ubusd::start("restart");
    run(|executor| async move {
        let server = Running::start(executor, &ubusd.socket()).await;
        let client = Running::start(executor, &ubusd.socket()).await;
        server
            .handle
            .add_object("demo", methods())
            .await
            .expect("to add");
        client.handle.subscribe("demo").await.expect("to subscribe");
        client.handle.listen("demo.*").await.expect("to listen");
        let pending = client.handle.invoke("demo", "status", vec![], PATIENCE);
        let (lost, call) = future::zip(pending, async {
            let call = server.call().await;
            ubusd.stop();
            call
        })
        .await;
        assert!(matches!(lost, Err(Error::Down)), "{lost:?}");
        assert!(matches!(server.next().await, Happening::Down(_)));
        assert!(matches!(client.next().await, Happening::Down(_)));
        let refused = client.handle.ping().await;
        assert!(matches!(refused, Err(Error::Down)), "{refused:?}");
        // Asked for while down: done when up.
        server
            .handle
            .add_object("second", methods())
            .await
            .expect("to be noted");

        ubusd.start_again();
        assert!(matches!(server.next().await, Happening::Up));
        assert!(matches!(client.next().await, Happening::Up));
        // The answer to a call of the old connection goes nowhere.
        call.reply(vec![]);
        notify(&server, "demo", "back").await;
        expect_notification(&client, "demo", "back").await;
        server
            .handle
            .send_event("demo.event", vec![])
            .await
            .expect("to send");
        assert!(matches!(client.next().await, Happening::Event { .. }));
        let found = client
            .handle
            .lookup("second")
            .await
            .expect("the second object");
        assert_eq!(found.len(), 1);
    });
}

#[test]
fn a_call_that_comes_when_nobody_takes_it_any_more_is_answered() {
    let ubusd = Ubusd::start("nobody");
    run(|executor| async move {
        let Running {
            handle,
            happened,
            _run,
        } = Running::start(executor, &ubusd.socket()).await;
        handle.add_object("demo", methods()).await.expect("to add");
        drop(happened);
        let caller = Running::start(executor, &ubusd.socket()).await;
        let answer = caller
            .handle
            .invoke("demo", "status", vec![], PATIENCE)
            .await;
        assert_eq!(refused(answer), Status::UnknownError);
        // The client ends, and its object with it.
        _run.await;
        let gone = caller
            .handle
            .invoke("demo", "status", vec![], PATIENCE)
            .await;
        assert_eq!(refused(gone), Status::NotFound);
    });
}
