//! Reads uplinks, paths and tailscaled when the core asks for a look.

use super::*;

impl Daemon {
    pub(super) fn paths(&mut self) -> Option<Input> {
        let mark = self.settings.mark.value;
        let mut routes = [None, None];
        for (slot, far) in routes.iter_mut().zip(self.far()) {
            let source = by_path(mark).source_for(far).ok().flatten();
            match self.netlink.route_get(far, Some(mark), source) {
                Ok(path) => {
                    *slot = path.map(|p| Route {
                        device: p.device,
                        gateway: p.gateway,
                        source: p.prefsrc.or(source),
                    });
                }
                Err(e) => {
                    // No answer is not the answer that there is no way.
                    warn!(target: LOG, "{e}");
                    return None;
                }
            }
        }
        let known = self.core.knowledge();
        let device = |route: &Option<Route>| route.as_ref().map(|r| r.device.clone());
        let mut families = Family::BOTH.into_iter().zip(&routes);
        let moved = families.any(|(f, new)| device(&known.path(f).route) != device(new));
        if moved && known.paths_read.is_some() {
            self.tailnet.moved();
        }
        Some(Input::Paths(routes))
    }

    /// Whom the path is asked for: a DERP node, whom tailscaled itself talks to. A public resolver
    /// may have a host route of its own on the router.
    fn far(&self) -> [IpAddr; 2] {
        let targets = self.targets.borrow();
        let node = |f: Family| {
            let mut nodes = targets.derp_nodes(f).into_iter().map(|(_, ip)| ip);
            nodes.find(|ip| match ip {
                IpAddr::V4(ip) => !ip.is_private() && !ip.is_loopback() && !ip.is_link_local(),
                IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unique_local(),
            })
        };
        [
            node(Family::V4).unwrap_or(FAR[0]),
            node(Family::V6).unwrap_or(FAR[1]),
        ]
    }

    /// Reads the uplinks and what is odd about them, and sees to it that probes have a way by each.
    pub(super) fn uplinks(&mut self) -> Vec<Input> {
        match self.find_uplinks() {
            Ok((uplinks, warnings)) => {
                self.open_for_probes(&uplinks);
                let mut inputs = vec![Input::Uplinks(uplinks)];
                if warnings != self.core.knowledge().warnings {
                    for warning in &warnings {
                        if !self.core.knowledge().warnings.contains(warning) {
                            warn!(target: LOG, "{warning}");
                        }
                    }
                    inputs.push(Input::Warnings(warnings));
                }
                inputs
            }
            Err(e) => {
                warn!(target: LOG, "{e}");
                Vec::new()
            }
        }
    }

    fn find_uplinks(&mut self) -> Result<(Vec<Uplink>, Vec<String>), NetlinkError> {
        let protocol = self.place().protocol;
        let devices = uplinks::devices(&mut self.netlink, protocol)?;
        let mut rules = self.netlink.rules(Family::V4)?;
        rules.extend(self.netlink.rules(Family::V6)?);
        let mwan3 = self.mwan3.read();
        let choice = Choice {
            wanted: &self.settings.uplinks,
            metered: &self.settings.metered,
            mwan3: mwan3::runs(&rules).then_some(mwan3),
        };
        let found = uplinks::join(&devices, &self.interfaces, choice);
        let warnings = oddities(&rules, &found, self.settings.mark, protocol);
        Ok((found, warnings))
    }

    /// Where main has no default for an uplink, a probe bound to it would find no gateway: such an
    /// uplink gets a table of ours, which nothing but our probes uses.
    fn open_for_probes(&mut self, uplinks: &[Uplink]) {
        let (place, probe) = (self.place(), self.probe_mark());
        for (family, known) in Family::BOTH.into_iter().zip(&mut self.open) {
            let left_out = |u: &&Uplink| u.way(family).is_some_and(|w| w.metric.is_none());
            let hops: Vec<Hop> = uplinks
                .iter()
                .filter(left_out)
                .filter_map(|u| Knowledge::hop(u, family))
                .collect();
            if hops.is_empty() && known.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let opened = match self.dry {
                // A check changes nothing; it goes by what a running daemon has opened.
                true => steer::open_devices(&mut self.netlink, &place, family),
                false => steer::open_for_probes(&mut self.netlink, &place, family, probe, &hops)
                    .map(|()| hops.into_iter().map(|hop| hop.device).collect()),
            };
            match opened {
                Ok(devices) => {
                    let news = !self.dry && known.as_ref() != Some(&devices);
                    if news && !devices.is_empty() {
                        info!(
                            target: LOG,
                            "main has no {family} default for {}: probes get a table of their own",
                            devices.join(", ")
                        );
                    }
                    *known = Some(devices);
                }
                Err(e) => {
                    warn!(target: LOG, "{e}");
                    *known = None;
                }
            }
        }
    }

    /// Takes away what [`Daemon::open_for_probes`] put there; what the steering uses stays.
    pub(super) fn close_for_probes(&mut self) {
        let (place, probe) = (self.place(), self.probe_mark());
        for family in Family::BOTH {
            if let Err(e) = steer::open_for_probes(&mut self.netlink, &place, family, probe, &[]) {
                warn!(target: LOG, "{e}");
            }
        }
    }

    /// Whether a probe bound to that uplink's device finds a gateway.
    pub(super) fn can_probe(&self, uplink: &Uplink, family: Family) -> bool {
        let opened = self.open.get(family.at()).and_then(Option::as_ref);
        let by_main = uplink.way(family).is_none_or(|w| w.metric.is_some());
        by_main || opened.is_some_and(|d| d.contains(&uplink.device))
    }

    /// tailscaled's mark with all of mwan3's bits set, so that mwan3's hands stay off.
    pub(super) fn probe_mark(&mut self) -> Mark {
        let bits = self.mwan3.bits(&self.settings);
        let mark = self.settings.mark;
        Mark {
            value: mark.value | bits,
            mask: mark.mask | bits,
        }
    }

    pub(super) fn read_uplinks(&mut self) {
        for input in self.uplinks() {
            self.feed(input);
        }
    }

    /// At most one look is under way; another asked for meanwhile follows it.
    pub(super) fn look_at_tailnet(&mut self) {
        if self.looking {
            self.look_again = true;
            return;
        }
        self.looking = true;
        let tailnet = Rc::clone(&self.tailnet);
        let (outbox, ubus) = (self.outbox.clone(), self.ubus.clone());
        let service = self.settings.service.clone();
        self.executor
            .spawn(async move {
                let mut seen = tailnet.look().await;
                if seen.api == Api::Gone {
                    let kept = kept(ubus, &service).await;
                    let pid = kept.as_ref().ok().and_then(|k| k.pid);
                    if tailnet.find_elsewhere(pid) {
                        seen = tailnet.look().await;
                    }
                    match kept {
                        Ok(kept) => seen.respawn = kept.respawn,
                        Err(why) if seen.api == Api::Gone => seen.left_alone = Some(why),
                        Err(_) => {}
                    }
                }
                // As above.
                let _ = outbox.try_send(Said::Looked(Box::new(seen)));
                tailnet.learn().await;
            })
            .detach();
    }

    pub(super) fn refresh_interfaces(&self) {
        let Some(ubus) = self.ubus.clone().filter(Handle::is_up) else {
            return;
        };
        let outbox = self.outbox.clone();
        self.executor
            .spawn(async move {
                match ubus
                    .invoke("network.interface", "dump", Table::new(), UBUS_TIMEOUT)
                    .await
                {
                    Ok(dump) => {
                        // As above.
                        let _ = outbox.try_send(Said::Interfaces(uplinks::interfaces(&dump)));
                    }
                    Err(e) => warn!(target: LOG, "netifd does not answer: {e}"),
                }
            })
            .detach();
    }

    /// Before the loop runs: uplinks are called by netifd's names from the first line on.
    pub(super) async fn read_interfaces_once(&mut self) {
        let socket = self.settings.ubus_socket.clone();
        let dump = crate::net::thread::run(UBUS_TIMEOUT, move || {
            let none = Table::new();
            crate::ubus::oneshot::call(&socket, "network.interface", "dump", none, UBUS_TIMEOUT)
        });
        // Without netifd the kernel alone tells the uplinks.
        if let Ok(Ok(dump)) = dump.await {
            self.interfaces = uplinks::interfaces(&dump);
        }
    }

    /// Its word of an interface that is offline now; its hotplug calls came before we listened.
    pub(super) fn refresh_mwan3(&self) {
        let Some(ubus) = self.ubus.clone() else {
            return;
        };
        let outbox = self.outbox.clone();
        self.executor
            .spawn(async move {
                let section = vec![("section".to_string(), Value::String("interfaces".into()))];
                let status = ubus.invoke("mwan3", "status", section, UBUS_TIMEOUT).await;
                // No mwan3 is no fault.
                for interface in status.iter().flat_map(events::mwan3_offline) {
                    let event = Event::Down {
                        interface,
                        source: "mwan3".into(),
                    };
                    // As above.
                    let _ = outbox.try_send(Said::Core(Input::Event(event)));
                }
            })
            .detach();
    }
}

/// What procd holds of the service; else why a tailscaled that does not run is not started by us.
/// Only procd can say that it should run; other supervisors (systemd) restart what fails by
/// themselves.
async fn kept(ubus: Option<Handle>, service: &str) -> Result<Kept, &'static str> {
    const UNKNOWN: &str = "does not run, and no procd says that it should";
    let ubus = ubus.filter(Handle::is_up).ok_or(UNKNOWN)?;
    let name = vec![("name".to_string(), Value::String(service.into()))];
    match ubus.invoke("service", "list", name, UBUS_TIMEOUT).await {
        Ok(list) => events::service_kept(&list, service)
            .ok_or("was stopped: procd has no instance of its service"),
        Err(_) => Err(UNKNOWN),
    }
}
