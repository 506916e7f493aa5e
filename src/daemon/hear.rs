//! Takes what is said to the loop: inputs, ubus, calls of our object, signals.

use super::*;

impl Daemon {
    pub(super) fn hear(&mut self, said: Said) {
        match said {
            Said::Core(input) => self.feed(input),
            Said::Looked(tailnet) => {
                self.looking = false;
                self.feed(Input::Tailnet(tailnet));
                if std::mem::take(&mut self.look_again) {
                    self.look_at_tailnet();
                }
            }
            Said::Hooked(ends) => {
                for (count, more) in self.tally.hooks.iter_mut().zip(ends) {
                    *count = count.saturating_add(more);
                }
                self.hooks.done();
                self.run_hooks();
            }
            Said::Interfaces(list) => {
                if list != self.interfaces {
                    self.interfaces = list;
                    self.read_uplinks();
                }
            }
            Said::Ubus(happening) => self.hear_ubus(happening),
            Said::Signal(Signal::Hup) => self.reload(),
            Said::Signal(_) => self.feed(Input::Stop),
        }
    }

    /// Gives the core an input, and does what it says; what that brings at once is fed as well.
    pub(super) fn feed(&mut self, input: Input) {
        let mut queue = VecDeque::from([input]);
        while let Some(input) = queue.pop_front() {
            let moment = Moment {
                now: self.now(),
                dice: fastrand::u32(..),
            };
            if matches!(input, Input::Wake) {
                self.wake = None;
            }
            for action in self.core.step(moment, input) {
                self.act(action, &mut queue);
            }
        }
        self.tell_progress();
        if self.dry && self.begun && self.dry_run_over() {
            self.done = true;
        }
    }

    /// Tells the verdict of each scope of a dry run once it is there.
    fn tell_progress(&mut self) {
        let Some(progress) = &mut self.progress else {
            return;
        };
        let k = self.core.knowledge();
        let paths = Family::BOTH.map(|f| (Scope::Path(f), &k.path(f).judgement));
        let uplinks = k.verdicts.iter();
        let uplinks = uplinks.map(|((name, f), j)| (Scope::Uplink(name.clone(), *f), j));
        for (scope, j) in uplinks.chain(paths) {
            if j.pending() || j.judged_at.is_none() || self.judged.contains(&scope) {
                continue;
            }
            let what = match &scope {
                Scope::Uplink(name, f) => {
                    let device = k.uplinks.iter().find(|u| u.name == *name);
                    let device = device.map_or("gone", |u| u.device.as_str());
                    format!("{name} ({device}) {f}")
                }
                Scope::Path(f) => match &k.path(*f).route {
                    Some(r) => format!("{f} path by {}", k.name_device(&r.device)),
                    None => continue,
                },
            };
            progress(&format!("probing {what} ... {}: {}", j.verdict, j.evidence));
            self.judged.push(scope);
        }
    }

    /// A dry run is over when the machine has made up its mind and every round has ended.
    fn dry_run_over(&self) -> bool {
        let k = self.core.knowledge();
        let mut rounds = k
            .verdicts
            .values()
            .chain(k.paths.iter().map(|p| &p.judgement));
        let decided = !self.would.is_empty() || !matches!(self.core.stage(), Stage::Proving { .. });
        decided && k.paths_read.is_some() && !rounds.any(|j| j.pending() || j.gathering())
    }

    fn hear_ubus(&mut self, happening: Happening) {
        match happening {
            Happening::Up => {
                info!(target: LOG, "ubus is up");
                self.refresh_interfaces();
                self.refresh_mwan3();
            }
            Happening::Down(why) => warn!(target: LOG,
                "no ubus ({why}); going on with netlink and probes, trying again ({})",
                self.settings.ubus_socket.display()
            ),
            Happening::Event { id, data } if id == "network.interface" => {
                self.refresh_interfaces();
                if let Some(event) = events::netifd_event(&data) {
                    self.feed(Input::Event(event));
                }
            }
            Happening::Event { id, data } if id == "ubus.object.add" => {
                if data.get("path").and_then(Value::str) == Some("mwan3") {
                    self.refresh_mwan3();
                }
            }
            Happening::Event { .. } => {}
            Happening::Notification {
                object,
                method,
                data,
            } => {
                let event = match object.as_str() {
                    "network.device" => events::device_notification(&method, &data),
                    "service" => {
                        events::service_notification(&method, &data, &self.settings.service)
                    }
                    _ => {
                        self.refresh_interfaces();
                        events::netifd_notification(&object, &method, &data)
                    }
                };
                if let Some(event) = event {
                    self.feed(Input::Event(event));
                }
            }
            Happening::Call(call) => self.answer(call),
        }
    }

    fn answer(&mut self, call: Call) {
        match call.method.as_str() {
            "status" => self.reply(call, view::status(&self.core, self.now())),
            "history" => self.reply(call, self.history()),
            "metrics" => call.reply(metrics::families(&self.core, &self.tally, self.now())),
            "check" => self.answer_check(call),
            "recover" => {
                let force = call.data.get("force").and_then(Value::bool) == Some(true);
                call.done();
                self.feed(Input::Recover { force });
            }
            "drill" => self.answer_drill(call),
            "event" => match events::hotplug(&call.data) {
                Ok(event) => {
                    // Answer first: a hotplug script waits.
                    call.done();
                    self.feed(Input::Event(event));
                }
                Err(why) => {
                    warn!(target: LOG, "a call of {OBJECT} event was refused: {why}");
                    call.fail(Status::InvalidArgument);
                }
            },
            _ => call.fail(Status::MethodNotFound),
        }
    }

    /// Starts a drill, or ends the one that runs. A refusal is an answer: it carries a sentence.
    fn answer_drill(&mut self, call: Call) {
        if call.data.get("stop").and_then(Value::bool) == Some(true) {
            call.done();
            return self.feed(Input::DrillStop);
        }
        let Some(uplink) = call.data.get("uplink").and_then(Value::str) else {
            return call.fail(Status::InvalidArgument);
        };
        let seconds = call.data.get("seconds").and_then(Value::i64);
        let stay = match seconds.map_or(Ok(DRILL_STAY), u64::try_from) {
            Ok(s) if s <= DRILL_STAY_MOST => Duration::from_secs(s),
            _ => return call.fail(Status::InvalidArgument),
        };
        let uplink = uplink.to_string();
        match self.core.drillable(&uplink) {
            Ok(_) => {
                call.done();
                self.feed(Input::Drill { uplink, stay });
            }
            Err(why) => call.reply(vec![("refused".to_string(), Value::String(why))]),
        }
    }

    /// A check takes seconds and has a loop of its own; the caller gets its answer when it is done.
    fn answer_check(&self, call: Call) {
        let (settings, file) = (self.settings.clone(), self.file.clone());
        self.executor
            .spawn(async move {
                let done = thread::run(CHECK_LIMIT, move || {
                    check(settings, &file, Box::new(|_| ()))
                })
                .await;
                match done {
                    Ok(Ok(state)) => call.reply(table_from_json(state)),
                    Ok(Err(refusal)) => {
                        warn!(target: LOG, "check: {refusal}");
                        call.fail(Status::UnknownError);
                    }
                    Err(e) => {
                        warn!(target: LOG, "check: {e}");
                        call.fail(Status::Timeout);
                    }
                }
            })
            .detach();
    }

    fn reply(&self, call: Call, json: serde_json::Value) {
        call.reply(table_from_json(json));
    }

    /// Takes a changed configuration, or keeps the last good one.
    fn reload(&mut self) {
        match config::load(&self.file) {
            Ok((settings, warnings)) => {
                for w in warnings {
                    warn!(target: LOG, "{w}");
                }
                let fixed = |s: &Settings| {
                    (
                        s.socket.clone(),
                        s.ubus_socket.clone(),
                        s.state_dir.clone(),
                        Place::new(s),
                    )
                };
                if fixed(&settings) != fixed(&self.settings) {
                    warn!(target: LOG,
                        "sockets, directories, mark, priority and table change at the next start"
                    );
                }
                log::set_max_level(settings.log_level);
                let kept = std::mem::replace(&mut self.settings, settings);
                self.settings.socket = kept.socket;
                self.settings.ubus_socket = kept.ubus_socket;
                self.settings.state_dir = kept.state_dir;
                self.settings.mark = kept.mark;
                self.settings.priority = kept.priority;
                self.settings.table = kept.table;
                self.settings.protocol = kept.protocol;
                self.targets.borrow_mut().reconfigure(&self.settings);
                self.prober.set_manner(Manner::new(&self.settings));
                info!(target: LOG, "the configuration was read again");
                self.feed(Input::Policy(policy(&self.settings)));
                self.start("the configuration was read again");
            }
            Err(e) => {
                for problem in e.0 {
                    error!(target: LOG, "{problem}");
                }
                error!(target: LOG, "the last good settings stay in force");
            }
        }
    }
}
