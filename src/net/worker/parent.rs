//! The daemon's side: starts the worker at the first request, ends it when it has nothing to do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use smol::channel::{self, Receiver, Sender};
use smol::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use smol::{Async, Timer};

use super::super::http::FetchError;
use super::super::socket::within;
use super::super::thread::MAX_THREADS;
use super::{lines, Ask, Told, MAX_LINE};

/// A worker that nobody waits for is ended after this: a burst of probes has smaller pauses.
const IDLE: Duration = Duration::from_secs(3);

/// Bytes read at a time. Most answers are a few hundred long.
const READ: usize = 2 * 1024;

/// Name of the program that becomes the worker.
const NAME: &str = "tailover-fetch";

/// Where it may be installed when it is not beside the daemon's.
const FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/libexec"];

/// Where the worker's program may be; the first that is there is started.
#[derive(Debug, Clone)]
pub struct Program(pub Vec<PathBuf>);

impl Program {
    /// `tailover-fetch` beside the running program, in /usr/sbin or in /usr/libexec.
    pub fn installed() -> Self {
        // Right also after an upgrade: then the file's name, not its folder, has a mark behind it
        // (proc(5), `exe`).
        let own = std::env::current_exe().ok();
        let beside = own.iter().filter_map(|path| path.parent());
        let folders = beside.chain(FOLDERS.iter().map(Path::new));
        Self(folders.map(|folder| folder.join(NAME)).collect())
    }

    /// Starts it; [`io::ErrorKind::NotFound`] when it is nowhere.
    fn start(&self) -> io::Result<Child> {
        let mut last = io::ErrorKind::NotFound.into();
        for path in &self.0 {
            let started = Command::new(path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn();
            match started {
                Err(e) if e.kind() == io::ErrorKind::NotFound => last = e,
                result => return result,
            }
        }
        Err(last)
    }
}

/// A request on its way, and where its answer goes.
struct Job {
    ask: Ask,
    answer: Answer,
}

type Answer = Sender<Result<Told, FetchError>>;

thread_local! {
    /// The worker of this thread's requests. The daemon has one thread.
    static HERE: RefCell<Option<Line>> = const { RefCell::new(None) };
}

/// The way to [`Parent::run`].
#[derive(Clone)]
struct Line(Sender<Job>);

/// From now on this thread's requests and lookups are done by `program`, while the returned
/// [`Parent`] runs.
pub fn use_process(program: Program) -> Parent {
    let (sender, jobs) = channel::bounded(MAX_THREADS);
    HERE.set(Some(Line(sender)));
    Parent { program, jobs }
}

/// Has the worker of this thread do something.
pub(super) async fn ask(ask: Ask, timeout: Duration) -> Result<Told, FetchError> {
    let nobody = || FetchError::Worker("nobody runs it".into());
    let line = HERE.with_borrow(Option::clone).ok_or_else(nobody)?;
    let (answer, answered) = channel::bounded(1);
    let exchange = async {
        if line.0.send(Job { ask, answer }).await.is_err() {
            return Ok(Err(nobody()));
        }
        let told = answered.recv().await;
        Ok(told.unwrap_or_else(|_| Err(nobody())))
    };
    // Only time can fail here.
    within(timeout, exchange)
        .await
        .unwrap_or(Err(FetchError::Timeout))
}

/// Starts, feeds and ends the worker.
pub struct Parent {
    program: Program,
    jobs: Receiver<Job>,
}

impl Parent {
    /// Runs for ever. The worker ends when this is dropped, and is waited for.
    pub async fn run(self) {
        let mut told = false;
        while let Ok(job) = self.jobs.recv().await {
            let mut worker = match Worker::start(&self.program) {
                Ok(worker) => worker,
                Err(e) => {
                    // Nobody waits any more when the time-out came first.
                    let _ = job.answer.try_send(Err(not_started(&e, &mut told)));
                    continue;
                }
            };
            let waiting = RefCell::new(BTreeMap::new());
            let why = worker.work(job, &self.jobs, &waiting).await;
            log::debug!("the fetch worker {}: {why}", worker.child.id());
            drop(worker);
            for answer in waiting.into_inner().into_values() {
                // As above.
                let _ = answer.try_send(Err(FetchError::Worker(why.clone())));
            }
        }
    }
}

/// Why it was not started. That it is nowhere is `told` the log once.
fn not_started(e: &io::Error, told: &mut bool) -> FetchError {
    if e.kind() != io::ErrorKind::NotFound {
        return FetchError::Worker(format!("cannot be started: {e}"));
    }
    if !mem::replace(told, true) {
        log::warn!(
            target: "tailover",
            "tailover-fetch is neither beside tailover nor in /usr/sbin or /usr/libexec: names, control and relays \
             cannot be asked; install it again"
        );
    }
    FetchError::NotInstalled
}

/// A running worker; dropped, it is ended and waited for.
struct Worker {
    child: Child,
    input: Async<ChildStdin>,
    output: BufReader<Async<ChildStdout>>,
}

impl Worker {
    fn start(program: &Program) -> io::Result<Self> {
        let mut child = program.start()?;
        let pipes = match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Async::new(input).map(|i| (i, output)),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        };
        let pipes = pipes.and_then(|(input, output)| Ok((input, Async::new(output)?)));
        match pipes {
            Ok((input, output)) => Ok(Self {
                child,
                input,
                output: BufReader::with_capacity(READ, output),
            }),
            Err(e) => {
                end(&mut child);
                Err(e)
            }
        }
    }

    /// Says why it is over.
    async fn work(
        &mut self,
        first: Job,
        jobs: &Receiver<Job>,
        waiting: &RefCell<BTreeMap<u64, Answer>>,
    ) -> String {
        let (input, output) = (&mut self.input, &mut self.output);
        smol::future::or(read(output, waiting), write(input, first, jobs, waiting)).await
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills and reaps. What it might still do, nobody waits for; so it needs no farewell.
fn end(child: &mut Child) {
    // Both fail only where it has been reaped already.
    let _ = child.kill();
    let _ = child.wait();
}

async fn read(
    output: &mut BufReader<Async<ChildStdout>>,
    waiting: &RefCell<BTreeMap<u64, Answer>>,
) -> String {
    loop {
        let mut line = Vec::new();
        match output.take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) => return "it has ended".into(),
            Ok(_) => {}
            Err(e) => return e.to_string(),
        }
        let Some((id, told)) = lines::read_told(&line) else {
            return "it said what is no answer".into();
        };
        if let Some(answer) = waiting.borrow_mut().remove(&id) {
            // Nobody waits any more when the time-out came first.
            let _ = answer.try_send(Ok(told));
        }
    }
}

async fn write(
    input: &mut Async<ChildStdin>,
    first: Job,
    jobs: &Receiver<Job>,
    waiting: &RefCell<BTreeMap<u64, Answer>>,
) -> String {
    let mut job = first;
    for id in 0.. {
        let line = lines::ask(id, &job.ask);
        waiting.borrow_mut().insert(id, job.answer);
        if let Err(e) = input.write_all(&line).await {
            return e.to_string();
        }
        let more = async { jobs.recv().await.ok() };
        let idle = async {
            loop {
                Timer::after(IDLE).await;
                // The asker has gone when its time was over.
                waiting.borrow_mut().retain(|_, answer| !answer.is_closed());
                if waiting.borrow().is_empty() {
                    return None;
                }
            }
        };
        match smol::future::or(more, idle).await {
            Some(next) => job = next,
            None => break,
        }
    }
    "it was idle".into()
}
