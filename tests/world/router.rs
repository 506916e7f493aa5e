//! The modelled router and outside: what it is, and what a look at it shows.

use super::*;

impl World {
    /// Gives each uplink the families it has (IPv4, IPv6) and has the core look at them.
    pub fn families(&mut self, has: [[bool; 2]; 2]) {
        for (isp, has) in self.isps.iter_mut().zip(has) {
            isp.has = has;
        }
        self.drop_flows();
        self.reconnect(true, true);
        self.murmur();
    }

    /// The local address of control's flow, while there is one.
    pub fn control_from(&self) -> Option<IpAddr> {
        let link = self.control.as_ref()?;
        Some(World::address(link.device, link.family))
    }

    /// Where control and relay are.
    pub(super) fn server(family: Family) -> SocketAddr {
        let text = match family {
            Family::V4 => "198.51.100.10:443",
            Family::V6 => "[2001:db8:100::10]:443",
        };
        text.parse().expect("an address")
    }

    /// The router's address on an uplink.
    pub fn address(device: usize, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::from([192, 0, 2, [2, 66][device]]),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, device as u16 + 1, 0, 0, 0, 0, 2]),
        }
    }

    pub(super) fn uplinks(&self) -> Vec<Uplink> {
        let is_tunnel = |i| self.tunnel && i == 0;
        let mut uplinks: Vec<Uplink> = (0..2)
            .filter(|i| self.isps[*i].carrier)
            .map(|i| Uplink {
                on_link: match i {
                    0 => self.on_link.clone(),
                    _ => vec![],
                },
                name: NAMES[i].into(),
                aliases: vec![NAMES[i].into()],
                of_one_family: vec![],
                device: DEVICES[i].into(),
                v4: self.isps[i].has[0].then(|| Way {
                    gateway: Some(IpAddr::from([192, 0, 2, [1, 65][i] + self.isps[i].lease])),
                    addresses: vec![World::address(i, Family::V4)],
                    metric: Some([10, 20][i]),
                    sliced: is_tunnel(i),
                    ..Way::default()
                }),
                v6: self.isps[i].has[1].then(|| Way {
                    addresses: vec![World::address(i, Family::V6)],
                    metric: Some([10, 20][i]),
                    ..Way::default()
                }),
                metered: self.metered == Some(i),
                vpn: is_tunnel(i),
            })
            .collect();
        uplinks.sort_by_key(|u| u.vpn);
        uplinks
    }

    /// The device of a packet with the mark.
    pub(super) fn path(&self, family: Family) -> Option<usize> {
        let f = family.at_index();
        if self.no_way {
            return None;
        }
        let has = |i: &usize| self.isps[*i].carrier && self.isps[*i].has[f];
        let steered = self.steering[f]
            .to
            .as_ref()
            .and_then(|h| DEVICES.iter().position(|d| *d == h.device))
            .filter(has);
        steered.or_else(|| (0..2).find(has))
    }

    /// An uplink gets out, by at least one family.
    pub(super) fn open(&self, device: usize) -> bool {
        Family::BOTH.into_iter().any(|f| self.opens(device, f))
    }

    pub(super) fn opens(&self, device: usize, family: Family) -> bool {
        let (i, f) = (&self.isps[device], family.at_index());
        i.alive && i.carrier && !i.portal && i.has[f] && !i.dead[f]
    }

    /// True when packets of a flow with this local address still get through.
    pub(super) fn carries(&self, l: &Link) -> bool {
        let kept = self.steering[l.family.at_index()]
            .keep
            .as_ref()
            .is_some_and(|h| h.device == DEVICES[l.device]);
        (kept || self.path(l.family) == Some(l.device))
            && self.opens(l.device, l.family)
            && self.isps[l.device].public == l.public
    }

    pub(super) fn note_life(&mut self) {
        for i in 0..2 {
            let open = self.open(i);
            let isp = &mut self.isps[i];
            match (open, isp.open_since) {
                // A break shorter than two looks at the uplink cannot be known.
                (true, None) => {
                    let short = isp.last_open.is_some_and(|t| self.now - t < 10 * S);
                    isp.open_since = Some(match short {
                        true => isp.opened,
                        false => self.now,
                    });
                    isp.opened = isp.open_since.unwrap_or_default();
                }
                (false, Some(_)) => {
                    isp.open_since = None;
                    isp.last_open = Some(self.now);
                }
                _ => {}
            }
        }
        for (i, f) in [
            (0, Family::V4),
            (0, Family::V6),
            (1, Family::V4),
            (1, Family::V6),
        ] {
            if !self.opens(i, f) {
                self.shut_at[i][f.at_index()] = Some(self.now);
            }
        }
        let deaf = self.derp.as_ref().filter(|l| !self.carries(l));
        let given_up = deaf.filter(|l| self.gives_relays_up || self.unknown_relay == l.port);
        if let Some(port) = given_up.map(|l| l.port) {
            if self.deaf_relay != port {
                self.deaf_relay = port;
                self.after(RELAY_PATIENCE, Ev::Unheard(port));
            }
        }
        if self.control.as_ref().is_some_and(|l| !self.carries(l)) || self.control.is_none() {
            self.control_lost.get_or_insert(self.now);
        } else {
            self.control_lost = None;
        }
    }

    pub(super) fn reconnect(&mut self, control: bool, derp: bool) {
        if !self.running || self.hung || self.user_stopped.is_some() {
            return;
        }
        // All addresses of a server are tried side by side; whichever answers is taken.
        let way = Family::BOTH.into_iter().find_map(|f| {
            let device = self.path(f).filter(|d| self.opens(*d, f))?;
            Some((device, f))
        });
        self.ports = self.ports.wrapping_add(1).max(1024);
        let link = way.map(|(device, family)| Link {
            device,
            family,
            public: self.isps[device].public,
            port: self.ports,
        });
        let link = link.filter(|l| self.isps[l.device].narrow.is_none());
        if control {
            self.control = link.clone().filter(|_| self.reachable() && !self.stubborn);
        }
        // Without a netmap there is no tailnet at all: measured for a restart without control.
        if derp {
            self.derp = link.filter(|_| self.control.is_some() || self.reachable() || !control);
        }
        let missing_control = control && self.control.is_none();
        let missing_derp = derp && self.derp.is_none();
        if missing_control || missing_derp {
            self.after(
                2 * S,
                Ev::Reconnect {
                    control: missing_control,
                    derp: missing_derp,
                },
            );
        }
        self.note_life();
    }

    pub fn make_whole(&mut self) {
        self.chains_lost = false;
        if self.lost.take().is_some() {
            self.whole_since = Some(self.now);
        }
    }

    pub(super) fn drop_flows(&mut self) {
        self.control = None;
        self.derp = None;
        self.queue
            .retain(|_, e| !matches!(**e, Ev::Reconnect { .. }));
    }

    /// Counters as the kernel would show them; pings go both ways, what nobody answers is resent.
    pub(super) fn pulse(&mut self) -> Pulse {
        let passed = (self.now - self.counted.at).as_millis() as u64;
        self.counted.at = self.now;
        let pings = if self.peer_talks { passed / 250 } else { 0 };
        // Peers are reached by the family that works; with none, by the one that there is.
        let by = |f: &Family| self.path(*f).is_some_and(|i| self.opens(i, *f));
        let there = |f: &Family| self.path(*f).is_some();
        let family = Family::BOTH.into_iter().find(by);
        let family = family.or_else(|| Family::BOTH.into_iter().find(there));
        let path = family.and_then(|f| self.path(f));
        let dead = family.is_some_and(|f| path.is_some_and(|i| self.isps[i].dead[f.at_index()]));
        for (i, name) in DEVICES.iter().enumerate() {
            let c = &mut self.counted.devices[i];
            c.device = (*name).into();
            if path == Some(i) {
                let alive = self.isps[i].alive && self.isps[i].carrier && !dead;
                c.sent += pings;
                c.received += if alive { pings } else { 0 };
            }
        }
        let heard = path.is_some_and(|i| self.open(i)) && self.well();
        let c = &mut self.counted.tunnel;
        c.device = "tailscale0".into();
        c.received += if heard { pings } else { 0 };
        c.sent += if heard { pings } else { 0 };
        // The kernel's pauses begin with 200 ms and double (RFC 6298).
        let server_gone = (!self.control_up).then_some(self.last_control);
        let resending = match (&self.control, self.control_lost.or(server_gone)) {
            (Some(l), Some(lost)) if self.peer_talks && self.now > lost => {
                let waits = (self.now - lost).as_secs_f64() / 0.2 + 1.0;
                vec![Resending {
                    local: SocketAddr::new(World::address(l.device, l.family), l.port),
                    remote: World::server(l.family),
                    times: waits.log2() as u32,
                }]
            }
            (Some(l), _) if self.resends => vec![Resending {
                local: l.local(),
                remote: World::server(l.family),
                times: 2,
            }],
            _ => vec![],
        };
        Pulse {
            uplinks: self.counted.devices.to_vec(),
            tunnel: Some(self.counted.tunnel.clone()),
            resending: Some(resending),
            heard: None,
            halted: self.hung && self.how_hung == Hung::Halted,
        }
    }

    /// From now on control and relay send something so often, both at once.
    pub fn keepalives(&mut self, every: Duration) {
        self.data_every = Some(every);
        self.after(every, Ev::Data);
    }

    pub(super) fn send_data(&mut self) {
        let Some(every) = self.data_every else {
            return;
        };
        for link in [&self.control, &self.derp].into_iter().flatten() {
            if self.carries(link) {
                self.data.insert(link.port, self.now);
            }
        }
        self.after(every, Ev::Data);
    }

    /// When data last came on any of tailscaled's flows.
    pub fn data_came(&self) -> Option<Duration> {
        self.data.values().max().copied()
    }

    pub(super) fn heard(&self) -> Vec<Heard> {
        let links = [&self.control, &self.derp].into_iter().flatten();
        let told = links.filter_map(|l| {
            Some(Heard {
                local: l.local(),
                remote: World::server(l.family),
                ago: self.now - *self.data.get(&l.port)?,
            })
        });
        let spare = self.spare.iter().map(|f| Heard {
            local: f.local,
            remote: f.remote,
            ago: S,
        });
        told.chain(spare).collect()
    }

    pub(super) fn tailnet(&self) -> Tailnet {
        if !self.running {
            return Tailnet {
                api: Api::Gone,
                left_alone: (!self.held).then_some("service was stopped"),
                respawn: self.respawn.clone(),
                tun: true,
                ..Tailnet::default()
            };
        }
        if self.hung {
            return Tailnet {
                api: Api::Hung,
                pid: Some(self.pid),
                process: Some(Process {
                    halted: self.how_hung == Hung::Halted,
                    cpu: match self.how_hung {
                        Hung::Busy => self.now - self.hung_at,
                        _ => Duration::ZERO,
                    },
                    ..Process::default()
                }),
                tun: true,
                ..Tailnet::default()
            };
        }
        if let Some(why) = &self.refuses {
            return Tailnet {
                api: Api::Refuses(why.clone()),
                pid: Some(self.pid),
                tun: true,
                ..Tailnet::default()
            };
        }
        let flow = |purpose, l: &Link| Flow {
            purpose,
            local: SocketAddr::new(World::address(l.device, l.family), l.port),
            remote: World::server(l.family),
            established: true,
        };
        let stopped = self.user_stopped.is_some();
        // Self.Online stays true for about 100 s on a dead path.
        let online = self
            .control_lost
            .is_none_or(|t| self.control.is_some() && self.now - t < 100 * S);
        Tailnet {
            api: Api::Answers,
            pid: Some(self.pid),
            backend: if stopped {
                Backend::Stopped
            } else {
                Backend::Running
            },
            wanted: Some(!stopped),
            tun: true,
            hands: self.hands.clone(),
            abilities: Abilities {
                debug: self.debug,
                bus: Some(true),
            },
            online: Some(online && !stopped),
            flows: self
                .control
                .iter()
                .map(|l| flow(Purpose::Control, l))
                .chain(self.derp.iter().map(|l| flow(Purpose::Derp, l)))
                .chain(self.spare.clone())
                .collect(),
            lost: self.lost.map_or_else(Lost::default, |mendable| Lost {
                what: vec!["table 52".into()],
                mendable,
            }),
            ..Tailnet::default()
        }
    }

    pub(super) fn say(&mut self, uplink: usize, up: bool, after_ms: u16) {
        let (interface, source) = (NAMES[uplink].to_string(), "mwan3".to_string());
        let event = match up {
            true => Event::Up { interface, source },
            false => Event::Down { interface, source },
        };
        let input = Input::Event(event);
        self.after(MS * u32::from(after_ms), Ev::Tell(input));
    }
}
