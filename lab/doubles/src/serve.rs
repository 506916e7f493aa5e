//! The sockets of the ubusd double: one thread, a reader and a writer for each connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use smol::channel::{unbounded, Receiver, Sender};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::unix::{UnixListener, UnixStream};
use smol::LocalExecutor;
use tailover::ubus::wire::{Frame, FrameReader};

use crate::broker::{Broker, Conn, Outgoing};

/// The broker and the way out to each connection.
struct Shared {
    broker: Broker,
    writers: HashMap<Conn, Sender<Vec<u8>>>,
}

impl Shared {
    fn deliver(&self, frames: Vec<Outgoing>) {
        for Outgoing { to, frame } in frames {
            match (self.writers.get(&to), frame.encode()) {
                // A closed channel belongs to a client that is just leaving.
                (Some(writer), Ok(bytes)) => drop(writer.try_send(bytes)),
                (None, _) => {}
                (_, Err(e)) => log::warn!("a frame was not sent: {e}"),
            }
        }
    }
}

/// Serves clients until accepting fails.
///
/// # Errors
/// That of accepting.
pub async fn serve(listener: UnixListener, broker: Broker) -> io::Result<()> {
    let executor = LocalExecutor::new();
    let shared = Rc::new(RefCell::new(Shared {
        broker,
        writers: HashMap::new(),
    }));
    let accept = async {
        for conn in 0.. {
            let (stream, _) = listener.accept().await?;
            executor
                .spawn(client(conn, stream, shared.clone()))
                .detach();
        }
        Ok(())
    };
    executor.run(accept).await
}

async fn client(conn: Conn, stream: UnixStream, shared: Rc<RefCell<Shared>>) {
    let (to_write, written) = unbounded();
    {
        let mut shared = shared.borrow_mut();
        shared.writers.insert(conn, to_write);
        let hello = shared.broker.connect(conn);
        shared.deliver(hello);
    }
    let ended = smol::future::or(read(conn, stream.clone(), &shared), write(stream, written));
    if let Err(e) = ended.await {
        log::debug!("client {conn}: {e}");
    }
    let mut shared = shared.borrow_mut();
    shared.writers.remove(&conn);
    let farewell = shared.broker.disconnect(conn);
    shared.deliver(farewell);
}

async fn read(conn: Conn, mut stream: UnixStream, shared: &RefCell<Shared>) -> io::Result<()> {
    let mut reader = FrameReader::new();
    let mut buffer = vec![0; 4096];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        reader.push(buffer.get(..n).unwrap_or(&[]));
        while let Some(cut) = reader.next_frame().map_err(io::Error::other)? {
            // As ubusd: attributes that cannot be read count as missing.
            let frame = Frame {
                header: cut.header,
                attrs: cut.attrs.unwrap_or_default(),
            };
            let mut shared = shared.borrow_mut();
            let answers = shared.broker.receive(conn, &frame);
            shared.deliver(answers);
        }
    }
}

async fn write(mut stream: UnixStream, frames: Receiver<Vec<u8>>) -> io::Result<()> {
    while let Ok(bytes) = frames.recv().await {
        stream.write_all(&bytes).await?;
    }
    Ok(())
}
