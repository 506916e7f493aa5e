//! Calls a method of a ubus object again and again over one connection: `flood PATH METHOD JSON COUNT`.
//!
//! Sixteen calls are under way at a time. Prints how many were answered, and in how many milliseconds.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tailover::ubus::blobmsg::table_from_json;
use tailover::ubus::{Client, Happening, DEFAULT_SOCKET};

const AT_A_TIME: usize = 16;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [path, method, json, count] = words.as_slice() else {
        eprintln!("usage: flood PATH METHOD JSON COUNT");
        return ExitCode::from(1);
    };
    let (Ok(data @ serde_json::Value::Object(_)), Ok(count)) =
        (serde_json::from_str(json), count.parse::<usize>())
    else {
        eprintln!("flood: JSON is an object, COUNT a number");
        return ExitCode::from(1);
    };
    let data = table_from_json(data);
    let (client, handle, happened) = Client::with_options(DEFAULT_SOCKET.as_ref(), false);
    let work = async {
        while !matches!(happened.recv().await, Ok(Happening::Up) | Err(_)) {}
        let begun = Instant::now();
        let mut workers = Vec::new();
        for worker in 0..AT_A_TIME {
            let (handle, data) = (handle.clone(), data.clone());
            workers.push(async move {
                let mut answered = 0;
                for _ in (worker..count).step_by(AT_A_TIME) {
                    let call = handle.invoke(path, method, data.clone(), Duration::from_secs(10));
                    answered += usize::from(call.await.is_ok());
                }
                answered
            });
        }
        let mut answered = 0;
        for done in futures(workers).await {
            answered += done;
        }
        println!(
            "{answered} of {count} in {} ms",
            begun.elapsed().as_millis()
        );
        answered == count
    };
    let good = smol::block_on(smol::future::or(work, async {
        client.run().await;
        false
    }));
    ExitCode::from(u8::from(!good))
}

/// All of them at the same time, to their end.
async fn futures<F: std::future::Future<Output = usize>>(all: Vec<F>) -> Vec<usize> {
    let executor = smol::LocalExecutor::new();
    let tasks: Vec<_> = all.into_iter().map(|one| executor.spawn(one)).collect();
    executor
        .run(async {
            let mut results = Vec::new();
            for task in tasks {
                results.push(task.await);
            }
            results
        })
        .await
}
