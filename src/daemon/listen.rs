//! Starts the tasks that tell of the world: ubus, rtnetlink, tailscaled's bus, signals.

use super::*;
use crate::watch::kernel::News;

impl Daemon {
    /// Starts everything that tells of the world.
    pub(super) fn listen(&mut self) {
        self.spawn_kernel_watch();
        self.spawn_bus_watch();
        self.spawn_signals();
        let (client, handle, happenings) = Client::new(&self.settings.ubus_socket);
        let outbox = self.outbox.clone();
        self.executor.spawn(client.run()).detach();
        self.executor
            .spawn(async move {
                while let Ok(h) = happenings.recv().await {
                    if outbox.send(Said::Ubus(h)).await.is_err() {
                        return;
                    }
                }
            })
            .detach();
        self.ubus = Some(handle.clone());
        self.executor
            .spawn(async move {
                if let Err(e) = handle.add_object(OBJECT, methods()).await {
                    warn!(target: LOG, "the ubus object `{OBJECT}` cannot be published: {e}");
                }
                for pattern in ["network.interface", "ubus.object.add"] {
                    if let Err(e) = handle.listen(pattern).await {
                        warn!(target: LOG, "cannot listen to ubus events `{pattern}`: {e}");
                    }
                }
                for path in ["network.interface.*", "network.device", "service"] {
                    if let Err(e) = handle.subscribe(path).await {
                        warn!(target: LOG, "cannot subscribe to ubus object `{path}`: {e}");
                    }
                }
            })
            .detach();
    }

    fn spawn_kernel_watch(&self) {
        let (outbox, protocol) = (self.outbox.clone(), self.place().protocol);
        let tailnet = Rc::clone(&self.tailnet);
        self.executor
            .spawn(async move {
                let mut calm = Calm::default();
                loop {
                    // Without it (a kernel without nf_tables) a loss is seen at the next reading.
                    let firewall = nftables::Monitor::open();
                    let mut firewall = firewall.inspect_err(|e| debug!(target: LOG, "{e}")).ok();
                    match Monitor::open() {
                        Ok(mut monitor) => loop {
                            let news = next_or_calm(&mut monitor, firewall.as_mut(), protocol, &calm);
                            match news.await {
                                Ok(Some(news)) => {
                                    if news.of_tailscaled {
                                        tailnet.kernel().changed();
                                        calm.stirred(Instant::now());
                                    }
                                    let Some(event) = news.event else { continue };
                                    if outbox.send(Said::Core(Input::Event(event))).await.is_err() {
                                        return;
                                    }
                                }
                                Ok(None) => {
                                    calm.looked(Instant::now());
                                    let what = "what tailscaled has in the kernel changed".into();
                                    let event = Input::Event(Event::Tailscaled { what });
                                    if outbox.send(Said::Core(event)).await.is_err() {
                                        return;
                                    }
                                }
                                Err(e) => {
                                    warn!(target: LOG, "listening to the kernel: {e}; trying again");
                                    break;
                                }
                            }
                        },
                        Err(e) => warn!(target: LOG, "{e}; trying again"),
                    }
                    Timer::after(NETLINK_RETRY).await;
                }
            })
            .detach();
    }

    fn spawn_bus_watch(&self) {
        let (tailnet, outbox) = (Rc::clone(&self.tailnet), self.outbox.clone());
        let state = Rc::new(Cell::new(None));
        self.executor
            .spawn(async move {
                loop {
                    let mask = mask::INITIAL_STATE | mask::RATE_LIMIT;
                    let bus = tailnet.api().watch_bus(mask).await;
                    tailnet.set_bus(has_bus(&bus));
                    if let Ok(mut bus) = bus {
                        while let Ok(notify) = bus.next().await {
                            tailnet.heard_bus();
                            let Some(now) = notify.state else { continue };
                            if state.replace(Some(now)) == Some(now) {
                                continue;
                            }
                            let what = format!("tailscaled is {}", now.name());
                            let event = Input::Event(Event::Tailscaled { what });
                            if outbox.send(Said::Core(event)).await.is_err() {
                                return;
                            }
                        }
                        tailnet.set_bus(None);
                        if state.take().is_some() {
                            let what = "tailscaled closed its bus".into();
                            let event = Input::Event(Event::Tailscaled { what });
                            if outbox.send(Said::Core(event)).await.is_err() {
                                return;
                            }
                        }
                    }
                    let pause = match tailnet.has_bus() {
                        Some(false) => BUS_ABSENT,
                        _ => BUS_RETRY,
                    };
                    Timer::after(pause).await;
                }
            })
            .detach();
    }

    fn spawn_signals(&self) {
        let outbox = self.outbox.clone();
        let signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup]);
        let mut signals = match signals {
            Ok(s) => s,
            Err(e) => {
                warn!(target: LOG, "signals cannot be caught: {e}");
                return;
            }
        };
        self.executor
            .spawn(async move {
                use smol::stream::StreamExt;
                while let Some(Ok(signal)) = signals.next().await {
                    if outbox.send(Said::Signal(signal)).await.is_err() {
                        return;
                    }
                }
            })
            .detach();
    }
}

/// The next change of the kernel, or `None` when it is time to look at what changed before.
async fn next_or_calm(
    monitor: &mut Monitor,
    firewall: Option<&mut nftables::Monitor>,
    protocol: u8,
    calm: &Calm,
) -> io::Result<Option<News>> {
    let news = async { kernel::next(monitor, protocol).await.map(Some) };
    let deleted = async {
        match firewall {
            Some(monitor) => chains::deleted(monitor).await?,
            None => smol::future::pending().await,
        }
        Ok(Some(News {
            event: None,
            of_tailscaled: true,
        }))
    };
    let news = smol::future::or(news, deleted);
    let Some(at) = calm.due() else {
        return news.await;
    };
    let time = async {
        Timer::at(at).await;
        Ok(None)
    };
    // The time goes first: under a flood of changes there would be no look at all.
    smol::future::or(time, news).await
}

/// Whether this build of tailscaled has a bus; a refusal is as good as none.
fn has_bus(bus: &Result<Bus, Error>) -> Option<bool> {
    match bus {
        Ok(_) => Some(true),
        Err(Error::Http { .. }) => Some(false),
        Err(_) => None,
    }
}

/// The typed signature that `ubus -v list tailover` shows.
fn methods() -> Vec<Method> {
    vec![
        Method::new("status", &[]),
        Method::new("check", &[]),
        Method::new("history", &[]),
        Method::new("metrics", &[]),
        Method::new("recover", &[("force", Type::Bool)]),
        Method::new(
            "drill",
            &[
                ("uplink", Type::String),
                ("seconds", Type::I32),
                ("stop", Type::Bool),
            ],
        ),
        Method::new(
            "event",
            &[
                ("action", Type::String),
                ("interface", Type::String),
                ("device", Type::String),
                ("firstconnect", Type::String),
            ],
        ),
    ]
}
