//! Probes by datagrams: STUN, large packets, and questions to resolvers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::core::{By, Effort, Family, Finding};
use crate::net::dns;
use crate::net::socket::Egress;
use crate::net::stun::{self, payload_of, REQUEST_LEN};
use crate::net::together::Task;
use crate::net::volley::{Schedule, Volley};

use super::super::targets::{router_resolvers, Targets};
use super::{answer, failed, of_family, Prober, Resolvers, Round, SERVERS};

/// Datagrams of a burst. With 30 % loss each way a single exchange fails half the time; 16 fail
/// together once in 48,000 bursts.
pub const BURST: Schedule = Schedule {
    count: 16,
    spacing: Duration::from_millis(60),
};

/// The lookout asks again soon enough.
pub const LOOKOUT: Schedule = Schedule {
    count: 1,
    spacing: Duration::ZERO,
};

/// Datagrams of a heartbeat: the next goes out only when the one before stays unanswered.
pub const BEAT: Schedule = Schedule {
    count: 5,
    spacing: Duration::from_millis(300),
};

/// Queries to resolvers: as many as datagrams, for the same reason. A resolver that has to ask
/// others needs longer than a server that knows.
pub const NAMES: Schedule = Schedule {
    count: 16,
    spacing: Duration::from_millis(150),
};

/// An IP packet of this length passes wherever a tailnet works well: WireGuard's own are at most
/// 1,340 bytes long (1,280 within, plus 60), and links below 1,400 are rare.
pub const LARGE: usize = 1400;

/// Resolvers asked in one round at most.
const RESOLVERS: usize = 4;

impl Prober {
    pub(super) async fn stun(
        &self,
        round: &Round,
        servers: Vec<SocketAddr>,
        tell: &dyn Fn(Finding),
    ) {
        let mut servers: Vec<SocketAddr> = servers.into_iter().take(SERVERS).collect();
        if round.effort == Effort::Lookout {
            // One of them may be down by itself: each volley asks another.
            let turn = usize::from(round.seed[0]).checked_rem(servers.len());
            servers.rotate_left(turn.unwrap_or_default());
        }
        let schedule = match round.effort {
            Effort::Lookout => LOOKOUT,
            Effort::Beat => BEAT,
            Effort::Suspect | Effort::Burst => BURST,
        };
        let failed = |why: String| failed(By::Stun, "STUN".into(), why);
        let burst = match self.datagrams(round, &servers, schedule, REQUEST_LEN).await {
            Ok(burst) => burst,
            Err(e) => return tell(failed(e.to_string())),
        };
        let Some(a) = burst.answer else {
            return tell(failed(match burst.refusal {
                Some(e) => e.to_string(),
                None => format!("no answer to {} datagrams", burst.sent),
            }));
        };
        let target = format!("STUN {}", a.server);
        tell(answer(By::Stun, target, a.rtt, Some(a.what.ip())));
        if round.effort == Effort::Burst && round.control {
            if let Some(result) = self.large(round, a.server).await {
                tell(Finding::Large(result));
            }
        }
    }

    async fn datagrams(
        &self,
        round: &Round,
        servers: &[SocketAddr],
        schedule: Schedule,
        length: usize,
    ) -> io::Result<Volley<SocketAddr>> {
        let (egress, limit) = (&round.egress, self.manner.probe);
        let burst = stun::burst(servers, egress, round.seed, schedule, limit, length).await?;
        let headers = match round.family {
            Family::V4 => 28,
            Family::V6 => 48,
        };
        let sent = u64::from(burst.sent);
        let (datagrams, bytes) = round.sent.get();
        let bytes =
            bytes.saturating_add(sent.saturating_mul((length as u64).saturating_add(headers)));
        round.sent.set((datagrams.saturating_add(sent), bytes));
        Ok(burst)
    }

    /// Whether large packets pass to a server that has just answered a small one. `None` where that
    /// cannot be told: the link itself is smaller, or the line went dead meanwhile.
    ///
    /// As many are lost by chance as in any burst: once in 48,000 at 30 % loss each way. Six would
    /// be once in 57.
    async fn large(&self, round: &Round, server: SocketAddr) -> Option<Result<(), String>> {
        let length = payload_of(LARGE, server.is_ipv4());
        let servers = [server];
        let large = self.datagrams(round, &servers, BURST, length).await.ok()?;
        if large.answer.is_some() {
            return Some(Ok(()));
        }
        if large.too_long() || large.sent < u32::from(BURST.count) {
            return None;
        }
        let small = self.datagrams(round, &servers, BURST, REQUEST_LEN).await;
        small.ok()?.answer?;
        Some(Err(format!(
            "{} packets of {LARGE} bytes to {server} were lost, while small ones pass",
            large.sent
        )))
    }

    /// Asks the resolvers of the round for a name: those of each family together, because a socket
    /// serves one.
    pub(super) fn names_too<'a>(
        &'a self,
        round: &'a Round,
        targets: &'a Targets,
        tell: &'a dyn Fn(Finding),
        tasks: &mut Vec<Task<'a>>,
    ) {
        let (name, resolvers, egress) = match &round.resolvers {
            Resolvers::Nobody => return,
            Resolvers::Own(list) => (targets.some_name(), list.clone(), round.egress.clone()),
            Resolvers::Router => match targets.control_name() {
                Some(name) => (name, router_resolvers(), Egress::default()),
                None => return tell(Finding::Names(Ok(()))),
            },
        };
        let usable = resolvers.into_iter().filter(has_no_zone).take(RESOLVERS);
        let usable: Vec<IpAddr> = usable.collect();
        if usable.is_empty() && matches!(round.resolvers, Resolvers::Router) {
            // Only tailscaled's own is left, which is no judge.
            return tell(Finding::Names(Ok(())));
        }
        for family in Family::BOTH {
            let servers = of_family(&usable, family);
            if !servers.is_empty() {
                let egress = egress.clone();
                tasks.push(Box::pin(self.names(round, name, servers, egress, tell)));
            }
        }
    }

    async fn names(
        &self,
        round: &Round,
        name: &str,
        resolvers: Vec<IpAddr>,
        egress: Egress,
        tell: &dyn Fn(Finding),
    ) {
        let [a, b, ..] = round.seed;
        let (seed, limit) = (u16::from_be_bytes([a, b]), self.manner.http);
        let servers: Vec<SocketAddr> = resolvers
            .iter()
            .map(|ip| SocketAddr::new(*ip, dns::PORT))
            .collect();
        let asked = dns::ask(&servers, &egress, name, seed, NAMES, limit).await;
        tell(Finding::Names(asked.map(drop).map_err(|why| {
            let asked: Vec<String> = resolvers.iter().map(IpAddr::to_string).collect();
            format!("{} asked for {name}: {why}", asked.join(" and "))
        })));
    }
}

/// A link-local address needs a device to go with it, which netifd does not tell.
fn has_no_zone(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}
