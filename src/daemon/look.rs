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

    pub(super) fn uplinks(&mut self) -> Option<Input> {
        match uplinks::devices(&mut self.netlink) {
            Ok(devices) => {
                let wanted = &self.settings.uplinks;
                let mut found = uplinks::join(&devices, &self.interfaces, wanted);
                for u in &mut found {
                    u.metered = self.settings.metered.iter().any(|name| u.is(name));
                }
                Some(Input::Uplinks(found))
            }
            Err(e) => {
                warn!(target: LOG, "{e}");
                None
            }
        }
    }

    pub(super) fn read_uplinks(&mut self) {
        if let Some(input) = self.uplinks() {
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
                let _ = outbox.try_send(Said::Looked(seen));
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
