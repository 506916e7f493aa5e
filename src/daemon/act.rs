//! Does what the core orders.

use super::*;

impl Daemon {
    pub(super) fn act(&mut self, action: Action, queue: &mut VecDeque<Input>) {
        if self.dry {
            if let Some(cure) = cure_of(&action) {
                // What is only brought up to date, as an adopted steering, is no cure.
                if matches!(self.core.stage(), Stage::Curing { .. }) {
                    self.would.push(cure);
                }
                return;
            }
        }
        match action {
            Action::Look(look @ (Look::Pulse | Look::Beat | Look::Counters)) => {
                let k = self.core.knowledge();
                let devices: Vec<&str> = k.uplinks.iter().map(|u| u.device.as_str()).collect();
                let pid = k.tailnet.pid;
                let read = || pid.and_then(|pid| sockets::tcp(pid).ok());
                let connections = (look == Look::Pulse).then(|| read().unwrap_or_default());
                let mut pulse = pulse::read(&devices, pid, connections.as_deref());
                if look == Look::Beat {
                    pulse.heard = Some(self.ear.read(&k.speakers()));
                }
                if let (Some(list), Some(pid), Stage::Quiet) = (connections, pid, self.core.stage())
                {
                    // The look that comes with it need not read them again.
                    self.tailnet.lend(pid, list);
                }
                queue.push_back(Input::Pulse(pulse));
            }
            Action::Look(look) => {
                if look != Look::Tailnet {
                    queue.extend(self.paths());
                    queue.extend(self.uplinks());
                }
                if look == Look::All {
                    self.refresh_interfaces();
                }
                if look != Look::Paths {
                    self.look_at_tailnet();
                }
            }
            Action::Probe {
                round,
                scope,
                effort,
            } => self.probe(round, scope, effort),
            Action::Steer(family, steering) => {
                queue.push_back(self.steer(family, &steering));
            }
            Action::Nudge => {
                let tailnet = Rc::clone(&self.tailnet);
                self.cure(Cure::Nudge, async move {
                    tailscaled::nudge(&tailnet.api()).await
                });
            }
            Action::Renew => {
                let tailnet = Rc::clone(&self.tailnet);
                self.cure(Cure::Renew, async move {
                    tailscaled::renew(&tailnet.api()).await
                });
            }
            Action::Mend => {
                let tailnet = Rc::clone(&self.tailnet);
                self.cure(Cure::Mend, async move {
                    // What was seen a moment ago may be wanted no more: ask again just before.
                    let missing = tailnet.kernel().missing(&tailnet.api()).await?;
                    mend::mend(&missing)
                });
            }
            Action::Restart => {
                // Before the act: a daemon that is killed in the middle of it has made it.
                if let Err(e) = restarts::note(&self.settings.state_dir) {
                    warn!(target: LOG, "a later run will not count this restart: {e}");
                }
                let tailnet = Rc::clone(&self.tailnet);
                let (service, ubus) = (self.settings.service.clone(), self.ubus.clone());
                self.cure(Cure::Restart, async move {
                    restart::restart(&service, &tailnet.api(), ubus.as_ref()).await
                });
            }
            Action::PingPeers => self.ping_peers(),
            Action::ReadPins => self.read_pins(),
            Action::Leave(devices) => self.leave(devices),
            Action::Wake(at) => self.wake = self.began.checked_add(at),
            Action::Tell(notice) => self.tell(notice),
            Action::Exit => self.done = true,
        }
    }

    fn steer(&mut self, family: Family, steering: &Steering) -> Input {
        let place = self.place();
        let result = steer::apply(&mut self.netlink, &place, family, steering)
            .map(|text| crate::core::Report {
                text,
                ..Default::default()
            })
            .map_err(|e| e.to_string());
        Input::Cured {
            cure: Cure::Steer(family),
            result,
        }
    }

    fn ping_peers(&self) {
        if self.dry {
            return;
        }
        let tailnet = Rc::clone(&self.tailnet);
        self.executor
            .spawn(async move {
                let read = thread::run(PINS_LIMIT, conntrack::tailnet).await;
                // A kernel without the table knows of nobody; who is online is pinged all the same.
                let talked_with = read.ok().and_then(Result::ok).unwrap_or_default();
                let said = tailscaled::ping_anew(&tailnet.api(), &talked_with).await;
                debug!(target: LOG, "tailscaled is new and pings its peers: {said}");
            })
            .detach();
    }

    /// The table can be long: it is read on a thread of its own.
    fn read_pins(&mut self) {
        let bits = self.mwan3.bits(&self.settings);
        let settings = self.settings.clone();
        let outbox = self.outbox.clone();
        self.executor
            .spawn(async move {
                let read = thread::run(PINS_LIMIT, move || pins(&settings, bits)).await;
                // A kernel without the table, or one that is too slow, shows no such flow.
                let pins = read.ok().flatten().unwrap_or_default();
                // As above.
                let _ = outbox.try_send(Said::Core(Input::Pins(pins)));
            })
            .detach();
    }

    fn leave(&mut self, devices: Vec<String>) {
        if self.dry {
            return;
        }
        if !leave::possible() {
            if !std::mem::replace(&mut self.told_no_nft, true) {
                warn!(target: LOG, "there is no nft: peers may go on sending to a metered uplink");
            }
            return;
        }
        self.leaving = !devices.is_empty();
        let one_by_one = Rc::clone(&self.nft);
        self.executor
            .spawn(async move {
                let _turn = one_by_one.lock().await;
                if let Err(e) = leave::apply(&devices, LEAVE_FOR).await {
                    warn!(target: LOG, "peers may go on sending to a metered uplink: {e}");
                }
            })
            .detach();
    }

    fn cure(
        &self,
        cure: Cure,
        work: impl std::future::Future<Output = Result<crate::core::Report, String>> + 'static,
    ) {
        let outbox = self.outbox.clone();
        self.executor
            .spawn(async move {
                let result = work.await;
                // Nobody is left to tell once the loop has ended.
                let _ = outbox.try_send(Said::Core(Input::Cured { cure, result }));
            })
            .detach();
    }

    fn probe(&mut self, round: u32, scope: Scope, effort: Effort) {
        let probe = self.probe_mark();
        let k = self.core.knowledge();
        let egress = match &scope {
            Scope::Path(_) => by_path(self.settings.mark.value),
            Scope::Uplink(name, family) => {
                let Some(u) = k.uplinks.iter().find(|u| u.name == *name) else {
                    return;
                };
                if !self.can_probe(u, *family) {
                    let why = format!(
                        "main has no {family} default for {}, and no daemon has opened a way",
                        u.device
                    );
                    let input = Input::Probed {
                        round,
                        scope,
                        finding: Finding::NoWay(why),
                    };
                    // As below.
                    let _ = self.outbox.try_send(Said::Core(input));
                    return;
                }
                Egress {
                    source: u.way(*family).and_then(Way::bound_source),
                    ..by_uplink(&u.device, probe.value)
                }
            }
        };
        let family = scope.family();
        let on_path = matches!(scope, Scope::Path(_));
        let resolvers = match &scope {
            Scope::Path(f) if *f == Family::V4 || k.path(Family::V4).route.is_none() => {
                Resolvers::Router
            }
            Scope::Path(_) => Resolvers::Nobody,
            Scope::Uplink(..) => Resolvers::Own(self.resolvers(egress.device.as_deref(), family)),
        };
        let uplink = match &scope {
            Scope::Path(f) => k.path_uplink(*f).map_or("none", |u| u.name.as_str()),
            Scope::Uplink(name, _) => name,
        };
        let sent = self.tally.round(uplink, effort);
        let plan = Round {
            egress,
            family,
            effort,
            control: !on_path || k.path_uplink(family).is_none(),
            external: on_path && family == Family::V4,
            resolvers,
            seed: seed(),
            sent,
        };
        let (prober, outbox) = (self.prober.clone(), self.outbox.clone());
        self.executor
            .spawn(async move {
                prober
                    .run(plan, |finding| {
                        let scope = scope.clone();
                        let input = Input::Probed {
                            round,
                            scope,
                            finding,
                        };
                        // As above.
                        let _ = outbox.try_send(Said::Core(input));
                    })
                    .await;
            })
            .detach();
    }

    /// The resolvers that netifd has for a device.
    fn resolvers(&self, device: Option<&str>, family: Family) -> Vec<IpAddr> {
        let own = self.interfaces.iter();
        own.filter(|i| device == Some(&i.device))
            .flat_map(|i| &i.resolvers)
            .filter(|ip| Family::of(ip) == family)
            .copied()
            .collect()
    }

    fn tell(&mut self, notice: Notice) {
        self.tally.note(&notice);
        self.hook(&notice);
        let (name, line, data) = words::words(&notice);
        match &notice {
            Notice::Fault { .. } | Notice::Waiting(_) => warn!(target: LOG, "{line}"),
            Notice::Done { result: Err(_), .. } => warn!(target: LOG, "{line}"),
            _ => info!(target: LOG, "{line}"),
        }
        let Some(ubus) = &self.ubus else {
            return;
        };
        let ubus = ubus.clone();
        self.executor
            .spawn(async move {
                // Without ubusd there is nobody to tell.
                let _ = ubus.notify(OBJECT, name, data).await;
            })
            .detach();
    }
}

/// Old UDP flows of tailscaled that mwan3 holds by its bits of the mark, each with the device that
/// the kernel's rules give for that mark.
fn pins(settings: &Settings, mmx_mask: u32) -> Option<Vec<Pin>> {
    let pid = process::tailscaled(&settings.socket)?;
    let ports = sockets::udp_ports(pid).ok()?;
    let mut netlink = Netlink::open().ok()?;
    let mut pins = Vec::new();
    for flow in conntrack::kept(&ports, mmx_mask).ok()? {
        let mark = settings.mark.value | flow.mark;
        let route = netlink.route_get(flow.remote, Some(mark), Some(flow.local));
        if let Ok(Some(path)) = route {
            pins.push(Pin {
                local: flow.local,
                remote: flow.remote,
                device: path.device,
            });
        }
    }
    Some(pins)
}

fn cure_of(action: &Action) -> Option<Cure> {
    match action {
        Action::Steer(f, _) => Some(Cure::Steer(*f)),
        Action::Nudge => Some(Cure::Nudge),
        Action::Renew => Some(Cure::Renew),
        Action::Mend => Some(Cure::Mend),
        Action::Restart => Some(Cure::Restart),
        _ => None,
    }
}

fn seed() -> [u8; 12] {
    std::array::from_fn(|_| fastrand::u8(..))
}
